"""Several data sets as one, each face with its origin: the data of CAKE's joint training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from exprembed.data.multi_domain import MultiDomain
from exprembed.data.readers import READERS
from exprembed.data.tables import FaceTable
from exprembed.data.valence_arousal import expected_valence_arousal
from exprembed.errors import BadInputError, WrongUseError, unknown_name
from exprembed.files import Skipped

_KEYS = ("reader", "path", "classes", "options", "valence_arousal")


@READERS.register("multi_domain")
def read_multi_domain(
    path: str | Path, domains: Mapping[str, Mapping[str, Any]], skipped: list[Skipped] | None = None
) -> FaceTable:
    """Read several data sets, each in its official layout, as one table; see `MultiDomain` for what it holds.

    Args:
        path: a folder; the domains' own paths count from it.
        domains: domain -> how to read it: `reader` (a data set's name; the domain's own where not given), `path` (the
            domain's name where not given), `options` (further arguments of the reader), `classes` (7, 8 or names; 7
            where not given) and `valence_arousal: votes` (expected from the votes, see `expected_valence_arousal`).
        skipped: a list to which each face that the seven-class protocol leaves out is appended, with its reason.

    Returns:
        FaceTable; `dataset` is the domain, face_id = `<domain>/<face_id>`.

    Raises:
        WrongUseError: an unknown key or reader, with the nearest one; no domain.
        BadInputError: what a reader refuses; a reader that gives no faces with expressions.
    """
    if not isinstance(domains, Mapping) or not domains:
        raise WrongUseError("multi_domain needs domains, such as {rafdb: {path: rafdb}}")
    tables, classes = {}, {}
    for name, given in domains.items():
        plan = dict(given or {})
        for key in plan:
            if key not in _KEYS:
                raise unknown_name(f"key of the domain {name!r}", key, _KEYS)
        found = READERS.get(plan.get("reader", name))(Path(path) / plan.get("path", name), **plan.get("options", {}))
        if not isinstance(found, FaceTable):
            raise BadInputError(f"the domain {name!r}: its reader gives triplets, and faces with expressions are due")
        source = plan.get("valence_arousal")
        if source not in (None, "votes"):
            raise unknown_name(f"source of valence and arousal of the domain {name!r}", source, ("votes",))
        tables[name] = found if source is None else expected_valence_arousal(found)
        classes[name] = plan.get("classes", 7)
    return MultiDomain(tables, classes, skipped).faces
