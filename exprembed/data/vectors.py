"""How vectors stand in a table: one column a dimension."""

from __future__ import annotations

import re
from collections.abc import Iterable

_COLUMN = re.compile(r"v\d{2,}")


def vector_columns(dim: int) -> list[str]:
    """Return the names of d vector columns.

    Example:
        >>> vector_columns(3)
        ['v00', 'v01', 'v02']
    """
    width = max(2, len(str(dim - 1)))
    return [f"v{place:0{width}d}" for place in range(dim)]


def vector_columns_of(names: Iterable[object]) -> list[str]:
    """Return those of some column names that are a vector's, in their order.

    Example:
        >>> vector_columns_of(["path", "v00", "v01", "votes_fear"])
        ['v00', 'v01']
    """
    return [str(name) for name in names if _COLUMN.fullmatch(str(name))]
