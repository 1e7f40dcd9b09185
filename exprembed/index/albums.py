"""A few pictures that tell an album's expressions: one for each cluster of faces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from exprembed.errors import BadInputError, WrongUseError
from exprembed.index.linkage import complete_linkage
from exprembed.metrics.checks import as_matrix, check_unique, unit_rows

_MANY = 5000  # faces; below, all distances fit and are quicker


@dataclass(frozen=True, eq=False)
class AlbumSummary:
    """Result of `summarize_album`. Clusters are numbered by falling size, equal ones by their first face.

    Attributes:
        representatives: one face a cluster: its face_id where the vectors have ids, else its row number.
        labels: (n,) int, the cluster of each face; read-only.
        sizes: number of faces in each cluster, falling; they add up to n.
    """

    representatives: tuple[Any, ...]
    labels: NDArray[np.int64]
    sizes: tuple[int, ...]

    def __post_init__(self) -> None:
        labels = np.array(self.labels, dtype=np.int64)
        if len(self.representatives) != len(self.sizes) or np.bincount(labels).tolist() != list(self.sizes):
            raise BadInputError("representatives, labels and sizes must tell of the same clusters")
        labels.setflags(write=False)
        object.__setattr__(self, "labels", labels)


def summarize_album(
    vectors: pd.DataFrame | ArrayLike, n_clusters: int = 10, subjects: Sequence[object] | None = None
) -> AlbumSummary:
    """Group the faces of an album by expression and pick from each group the face nearest to its centre.

    Agglomerative clustering by complete linkage over the cosine distance: the two clusters A, B with the smallest
    max over (a in A, b in B) of 1 - cos(a, b) are merged until `n_clusters` are left. The centre of a cluster is the
    mean of its unit vectors; the representative has the largest cosine with it, the first of several.
    Vemulapalli and Agarwala, "A Compact Embedding for Facial Expression Similarity", CVPR 2019, section 5.7 (10
    clusters, albums of 100 to 200 faces). Deterministic. From 5,000 faces on by `complete_linkage`, whose memory grows as
    n (about 80 MB at 50,000 faces of 16 numbers) and not as n^2; both are exact, and may differ only between equal distances.

    Args:
        vectors: (n, d) vectors; a DataFrame is indexed by face_id.
        n_clusters: pictures wanted; an album of fewer faces gives one cluster a face.
        subjects: (n,) who each face shows; then who it is is factored out first, see `without_identity`.

    Returns:
        AlbumSummary of min(n, n_clusters) clusters.

    Raises:
        BadInputError: no vectors, NaN or zero vectors, a repeated face_id, another number of subjects than faces.
        WrongUseError: n_clusters below 1.

    Example:
        >>> summary = summarize_album([[1.0, 0.0], [0.0, 1.0], [0.1, 1.0], [0.2, 1.0]], n_clusters=2)
        >>> summary.representatives, summary.labels.tolist(), summary.sizes
        ((2, 0), [1, 0, 0, 0], (3, 1))
    """
    from sklearn.cluster import AgglomerativeClustering

    if isinstance(n_clusters, bool) or not isinstance(n_clusters, int | np.integer) or n_clusters < 1:
        raise WrongUseError(f"n_clusters must be a whole number of at least 1; got {n_clusters!r}")
    matrix = as_matrix(vectors)
    if not len(matrix):
        raise BadInputError("the album is empty: there are no vectors to summarise")
    if isinstance(vectors, pd.DataFrame):
        check_unique(vectors.index, "vectors")
    unit = unit_rows(matrix, vectors)
    if subjects is not None:
        unit = without_identity(unit, subjects)
    if n_clusters >= len(unit):
        found = np.arange(len(unit))
    elif len(unit) >= _MANY:
        found = complete_linkage(unit, int(n_clusters))
    else:
        found = AgglomerativeClustering(int(n_clusters), metric="cosine", linkage="complete").fit_predict(unit)
    labels = _by_falling_size(found)
    rows = [_central(unit, np.flatnonzero(labels == cluster)) for cluster in range(labels.max() + 1)]
    names = tuple(vectors.index[rows].tolist()) if isinstance(vectors, pd.DataFrame) else tuple(rows)
    return AlbumSummary(names, labels, tuple(np.bincount(labels).tolist()))


def without_identity(unit: NDArray[np.float64], subjects: Sequence[object]) -> NDArray[np.float64]:
    """Move each person's faces so that their mean is that of all faces, and return unit vectors again.

    y_i = (x_i - m_s(i) + m) / |x_i - m_s(i) + m|,  m_s the mean of the vectors of subject s, m that of all.

    What is left is how a face differs from the same person's usual one: clusters gather expressions, not people. The one
    face of a subject becomes the mean of all; a subject who is None or NaN is nobody else.

    Raises:
        BadInputError: another number of subjects than vectors.

    Example:
        >>> faces = np.array([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]])
        >>> without_identity(faces, ["a", "a", "b", "b"]).round(2).tolist()
        [[0.8, 0.6], [0.22, 0.98], [0.65, 0.76], [0.0, 1.0]]
    """
    if len(subjects) != len(unit):
        raise BadInputError(f"subjects must be ({len(unit)},), one a vector; got {len(subjects)}")
    names = pd.Series(list(subjects), dtype=object)
    codes = pd.factorize(names.where(names.notna(), pd.Series([("nobody", i) for i in range(len(names))])))[0]
    means = pd.DataFrame(unit).groupby(codes).transform("mean").to_numpy()
    return unit_rows(unit - means + unit.mean(axis=0), name="faces without identity")


def _by_falling_size(found: NDArray[Any]) -> NDArray[np.int64]:
    """Number clusters by falling size, equal ones by their first member."""
    clusters, first, sizes = np.unique(found, return_index=True, return_counts=True)
    places = np.empty(len(clusters), dtype=np.int64)
    places[np.lexsort((first, -sizes))] = np.arange(len(clusters))
    return places[np.searchsorted(clusters, found)]


def _central(unit: NDArray[np.float64], members: NDArray[np.int64]) -> int:
    """Return the member whose cosine with the members' mean is largest."""
    return int(members[np.argmax(np.round(unit[members] @ unit[members].mean(axis=0), 12))])
