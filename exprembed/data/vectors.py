"""How vectors stand in a table: one column a dimension."""

from __future__ import annotations


def vector_columns(dim: int) -> list[str]:
    """Return the names of d vector columns.

    Example:
        >>> vector_columns(3)
        ['v00', 'v01', 'v02']
    """
    width = max(2, len(str(dim - 1)))
    return [f"v{place:0{width}d}" for place in range(dim)]
