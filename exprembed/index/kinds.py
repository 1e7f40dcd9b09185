"""Kinds of index by name: which FAISS factory string a kind means for so many vectors."""

from __future__ import annotations

import math
import os

AUTO_FLAT = 2**20  # vectors up to which "auto" stays exact
KINDS = {"auto": "Flat", "flat": "Flat", "hnsw": "HNSW32", "ivf": "IVF1,Flat"}  # before anything is added
_SHARE = 0.5  # of the machine's memory that the vectors of an automatic index may fill
_ROW = 8  # bytes of a row number beside each vector


def lists_factory(n: int) -> str:
    """Return the factory of kind "ivf" for a first batch of n vectors.

    About 4 sqrt(n) lists balance the two steps of a search; FAISS asks for 39 training vectors a list.
    """
    return f"IVF{max(1, min(int(4 * math.sqrt(n)), n // 39))},Flat"


def auto_factory(n: int, dim: int, memory: int) -> str:
    """Return what kind "auto" is with n vectors: exact, then lists of them, then lists of one byte a number.

    Args:
        n: vectors.
        dim: d.
        memory: bytes of the machine; vectors may fill half of it.

    Example:
        >>> auto_factory(1_000_000, 16, 2**34), auto_factory(10**7, 16, 2**34), auto_factory(10**9, 16, 2**36)
        ('Flat', 'IVF16384,Flat', 'IVF131072,SQ8')
    """
    if n <= AUTO_FLAT:
        return "Flat"
    lists = 2 ** round(math.log2(4 * math.sqrt(n)))
    return f"IVF{lists},{'Flat' if n * (4 * dim + _ROW) <= _SHARE * memory else 'SQ8'}"


def physical_memory() -> int:
    """Return the bytes of memory of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
