"""Faces of several data sets as one, each with its origin and the classes of its origin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from exprembed.data.tables import EXPRESSIONS, FaceTable
from exprembed.errors import BadInputError, WrongUseError
from exprembed.files import Skipped

Classes = int | Sequence[str]
SEVEN = EXPRESSIONS[:7]


def class_lists(domains: Mapping[str, Classes]) -> dict[str, tuple[str, ...]]:
    """Return each domain's class names; a number n stands for the first n of EXPRESSIONS.

    Raises:
        WrongUseError: no domain, a number other than 7 and 8, fewer than two classes or one twice.

    Example:
        >>> class_lists({"rafdb": 7, "mine": ["calm", "angry"]})["mine"]
        ('calm', 'angry')
    """
    if not isinstance(domains, Mapping) or not domains:
        raise WrongUseError(f"domains are a mapping such as {{'rafdb': 7}}; got {domains!r}")
    lists = {}
    for name, classes in domains.items():
        if isinstance(classes, int) and classes not in (7, 8):
            raise WrongUseError(f"domain {name!r}: 7 or 8 classes have names of their own; list the names of {classes}")
        lists[name] = tuple(EXPRESSIONS[:classes] if isinstance(classes, int) else classes)
        if isinstance(classes, str) or len(lists[name]) < 2 or len(set(lists[name])) < len(lists[name]):
            raise WrongUseError(f"domain {name!r} needs at least two different classes; got {classes!r}")
    return lists


class MultiDomain:
    """The faces of several data sets in one table that keeps each sample's origin (CAKE, section 2.2).

    The seven-class protocol is the default: a face whose class its domain does not have (contempt) is left out and
    listed, and so is a face without a class.

    Args:
        tables: domain -> its FaceTable, with `expression`.
        classes: domain -> its classes, 7, 8 or their names; domains that are not named have the seven.
        skipped: a list to which each face that was left out is appended, with its reason.

    Attributes:
        faces: FaceTable of all; face_id = `<domain>/<face_id>`, `dataset` = the domain. What only some tables carry is
            missing in the rows of the others; votes, which a FaceTable cannot miss, are left out.
        domains: domain -> class names.

    Raises:
        BadInputError: a table without `expression`, or with no face that has one of its classes.
        WrongUseError: no table, classes of an unknown domain, see also `class_lists`.

    Example:
        >>> happy = FaceTable({"path": ["a.png"], "expression": ["happiness"]}, index=["a"])
        >>> mixed = FaceTable({"path": ["a.png", "b.png"], "expression": ["contempt", "fear"]}, index=["a", "b"])
        >>> both = MultiDomain({"one": happy, "two": mixed})
        >>> both.faces.index.tolist(), both.origin.tolist(), both.counts.sum(axis=1).tolist()
        (['one/a', 'two/b'], [0, 1], [1, 1])
    """

    def __init__(
        self,
        tables: Mapping[str, FaceTable],
        classes: Mapping[str, Classes] | None = None,
        skipped: list[Skipped] | None = None,
    ) -> None:
        foreign = set(classes or {}) - set(tables)
        if foreign:
            raise WrongUseError(f"classes are given for {sorted(foreign)}, which are none of {sorted(tables)}")
        self.domains = class_lists(dict.fromkeys(tables, 7) | dict(classes or {}))
        left_out: list[Skipped] = [] if skipped is None else skipped
        parts = []
        for name, table in tables.items():
            if "expression" not in table:
                raise BadInputError(f"the faces of {name!r} carry no expression; columns: {', '.join(map(str, table))}")
            part = pd.DataFrame(table).drop(columns=[f"votes_{column}" for column in table.votes])
            part.index = pd.Index([f"{name}/{face}" for face in part.index], name="face_id")
            kept = part["expression"].isin(self.domains[name])
            for face, expression in part["expression"][~kept].items():
                reason = "no class" if pd.isna(expression) else f"{expression} is none of its domain's classes"
                left_out.append(Skipped(str(face), reason))
            if not kept.any():
                raise BadInputError(f"no face of {name!r} has one of its classes: {', '.join(self.domains[name])}")
            parts.append(part[kept].assign(dataset=name))
        self.faces = FaceTable(pd.concat(parts))

    @property
    def origin(self) -> np.ndarray:
        """(n,) number of each face's domain."""
        return np.asarray(pd.Index(self.domains).get_indexer(pd.Index(self.faces["dataset"])))

    @property
    def counts(self) -> pd.DataFrame:
        """(J, C) faces of each class by domain."""
        table = pd.crosstab(self.faces["dataset"], self.faces["expression"])
        names = list(dict.fromkeys(name for names in self.domains.values() for name in names))
        return table.reindex(index=list(self.domains), columns=names, fill_value=0)
