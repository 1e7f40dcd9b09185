"""What an index takes for vectors: checked, float32, of unit length where the metric is a cosine."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from exprembed.errors import BadInputError
from exprembed.metrics.checks import as_matrix, check_no_zero_rows, unit_rows
from exprembed.metrics.exact import LARGEST, longest


def checked_vectors(vectors: Any, name: str, dim: int, metric: str) -> NDArray[np.float32]:  # noqa: ANN401 - a table, an array or a tensor
    """Return (n, d) float32 vectors; (d,) is one of them.

    Args:
        vectors: a table, an array, a tensor or a list.
        name: what they are called in error messages.
        dim: the d that is due.
        metric: "l2", or "cosine", which takes unit vectors.

    Raises:
        BadInputError: NaN or zero vectors, the wrong d, lengths beyond 1e18.

    Example:
        >>> checked_vectors([3, 4], "queries", 2, "cosine").tolist()
        [[0.6000000238418579, 0.800000011920929]]
    """
    if isinstance(vectors, np.ndarray) and vectors.dtype == np.float32 and vectors.ndim == 2 and metric == "l2":
        squares = np.einsum("nd,nd->n", vectors, vectors)
        # What is not a number, zero or too long fails here, and is named below.
        if vectors.shape[1] == dim and ((squares > 0) & (squares <= LARGEST)).all():
            return np.ascontiguousarray(vectors)
    if getattr(vectors, "ndim", None) == 1 or (
        isinstance(vectors, list | tuple) and vectors and np.ndim(vectors[0]) == 0
    ):
        vectors = vectors[None] if hasattr(vectors, "ndim") else [vectors]
    matrix = as_matrix(vectors, name, dim)
    check_no_zero_rows(matrix, vectors, name)
    if longest(matrix) > LARGEST:
        raise BadInputError(f"{name} may be longer than {LARGEST:g}, where distances overflow; scale them down")
    return np.ascontiguousarray(unit_rows(matrix) if metric == "cosine" else matrix, dtype=np.float32)
