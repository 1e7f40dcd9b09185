"""Several embeddings made into one: what a student is taught, or an ensemble to search and score."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from exprembed.data.vectors import vector_columns
from exprembed.errors import BadInputError, WrongUseError
from exprembed.metrics.checks import as_matrix, check_no_zero_rows


def join_vectors(tables: Sequence[pd.DataFrame], dim: int, among: Sequence[str] | None = None) -> pd.DataFrame:
    """Make one embedding of several: unit vectors of `dim` numbers whose angles are close to the mean of the others'.

    x = [x_1 / |x_1|, ..., x_n / |x_n|] / sqrt(n),  z = V^T x,  z / |z|,

    V the (D, d) leading right singular vectors of the x of all faces (or of some), not centred: among all maps to d numbers it keeps the inner
    products, the mean cosines of the n embeddings, best. Teachers for `target: vectors` of a recipe are made so.

    Args:
        tables: vectors (m, d_i) of the same faces in any order, one table an embedding.
        dim: d, at most the sum of the d_i.
        among: ids of the faces that V is made from, such as the training faces; None takes all.

    Returns:
        (m, d) float32 in the order of the first, with the columns v00, v01, ...

    Raises:
        WrongUseError: no table, dim out of range.
        BadInputError: tables of different faces, a face whose vector is zero, `among` no face or an unknown one.

    Example:
        >>> faces = pd.DataFrame([[1.0, 0.0], [0.0, 2.0]], index=["a", "b"])
        >>> joined = join_vectors([faces, faces.iloc[::-1]], 2)
        >>> joined.index.tolist(), round(abs(float(joined.loc["a"] @ joined.loc["b"])), 6)
        (['a', 'b'], 0.0)
    """
    if not tables:
        raise WrongUseError("there are no vectors to join")
    first, parts = tables[0].index, []
    for place, table in enumerate(tables, start=1):
        if len(table) != len(first) or not first.isin(table.index).all() or table.index.has_duplicates:
            lacking = first[~first.isin(table.index)]
            words = f"lacks {len(lacking)} of them, first {lacking[0]!r}" if len(lacking) else f"has {len(table)} rows"
            raise BadInputError(f"joined vectors must be of the same {len(first)} faces; table {place} {words}")
        ordered = table.loc[first]
        matrix = as_matrix(ordered, f"table {place}").astype(np.float64)
        check_no_zero_rows(matrix, ordered, f"the vectors of table {place}")
        parts.append(matrix / np.linalg.norm(matrix, axis=1, keepdims=True))
    joined = np.concatenate(parts, axis=1) / np.sqrt(len(parts))
    if not 1 <= dim <= joined.shape[1]:
        raise WrongUseError(f"dim must be at least 1 and at most the {joined.shape[1]} numbers joined; got {dim}")
    rows = np.arange(len(first)) if among is None else first.get_indexer(pd.Index(among))
    if not len(rows) or (rows < 0).any():
        raise BadInputError("`among` must name at least one of the joined faces, and no others")
    # Eigenvectors of the (D, D) products: the vectors themselves may be millions.
    turned = joined @ np.linalg.eigh(joined[rows].T @ joined[rows])[1][:, ::-1][:, :dim]
    check_no_zero_rows(turned, tables[0], f"the joined vectors of {dim} numbers")
    turned /= np.linalg.norm(turned, axis=1, keepdims=True)
    return pd.DataFrame(turned.astype(np.float32), index=first, columns=vector_columns(dim))
