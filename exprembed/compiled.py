"""Loops compiled by numba at their first use; their machine code is kept beside them where that folder can be written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba

Loop = TypeVar("Loop", bound=Callable[..., Any])


def compiled(*freedoms: str) -> Callable[[Loop], Loop]:
    """Return the decorator that makes machine code of a loop over arrays, during which other threads run.

    Args:
        freedoms: what the compiler may assume or change, LLVM's words: "reassoc" (sums in another order), "contract",
            "nsz", "nnan" (nothing is NaN).
    """
    options = {"nogil": True, "error_model": "numpy", "fastmath": set(freedoms)}

    def made(loop: Loop) -> Loop:
        try:
            found: Loop = numba.njit(cache=True, **options)(loop)
        except RuntimeError:  # no folder to keep the machine code in: compile in every process
            found = numba.njit(**options)(loop)
        return found

    return made
