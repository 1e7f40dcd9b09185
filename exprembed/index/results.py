"""What a search returns: validated, immutable, padded where fewer neighbours exist than were asked for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from exprembed.errors import BadInputError


@dataclass(frozen=True, eq=False)
class SearchResult:
    """The nearest items of each query, nearest first.

    Attributes:
        ids: (Q, k) object array of str, None where fewer than k items exist.
        distances: (Q, k) float32, ascending in each row, inf where ids are None. Metric "l2": plain (not squared) L2;
            "cosine": 1 - cosine, in [0, 2].

    Both are read-only copies of what the constructor is given.

    Raises:
        BadInputError: shapes that differ, distances that are negative, NaN or out of order, an id that is not str,
            an id twice in a row, padding that disagrees.

    Example:
        >>> result = SearchResult([["a", "b", None]], [[0.0, 0.5, np.inf]])
        >>> result.hits(0)
        [('a', 0.0), ('b', 0.5)]
    """

    ids: NDArray[np.object_]
    distances: NDArray[np.float32]

    def __post_init__(self) -> None:
        ids, distances = np.array(self.ids, dtype=object), np.array(self.distances, dtype=np.float32)
        if ids.ndim != 2 or ids.shape != distances.shape:
            raise BadInputError(f"ids and distances must both be (Q, k); got {ids.shape} and {distances.shape}")
        if np.isnan(distances).any() or (distances < 0).any() or (distances[:, 1:] < distances[:, :-1]).any():
            raise BadInputError("distances must be 0 or more, ascending in each row, without NaN")
        if not np.array_equal(pd.isna(ids), np.isposinf(distances)):
            raise BadInputError("ids must be None exactly where distances are inf")
        for query, row in enumerate(ids.tolist()):
            found = [item for item in row if item is not None]
            if not all(isinstance(item, str) for item in found) or len(set(found)) < len(found):
                raise BadInputError(f"the ids of query {query} must be different texts; got {found}")
        self._keep(ids, distances)

    def _keep(self, ids: NDArray[np.object_], distances: NDArray[np.float32]) -> None:
        for name, array in (("ids", ids), ("distances", distances)):
            array.setflags(write=False)
            object.__setattr__(self, name, array)

    @classmethod
    def made_by_a_search(cls, ids: NDArray[np.object_], distances: NDArray[np.float32]) -> SearchResult:
        """Take arrays of the library's own making as they are: on many neighbours the checks take longer than the search."""
        result = cls.__new__(cls)
        result._keep(ids, distances)
        return result

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def k(self) -> int:
        """Number of neighbours that were asked for."""
        return int(self.ids.shape[1])

    def hits(self, query: int) -> list[tuple[str, float]]:
        """Return the (id, distance) pairs of one query, nearest first, without padding."""
        pairs = zip(self.ids[query].tolist(), self.distances[query].tolist(), strict=True)
        return [(item, distance) for item, distance in pairs if item is not None]

    def to_frame(self) -> pd.DataFrame:
        """Return one row a hit: `query` (row number), `rank` (1 is nearest), `id`, `distance`.

        Example:
            >>> SearchResult([["a", None]], [[0.25, np.inf]]).to_frame().to_dict("records")
            [{'query': 0, 'rank': 1, 'id': 'a', 'distance': 0.25}]
        """
        query, rank = np.nonzero(~pd.isna(self.ids))
        found = {"id": self.ids[query, rank], "distance": self.distances[query, rank]}
        return pd.DataFrame({"query": query, "rank": rank + 1, **found})
