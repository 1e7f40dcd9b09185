"""Numbers of single trainings, written as they come, so that a run that is cut off goes on where it was."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from exprembed.files import atomic_path
from exprembed.provenance import provenance


class Kept:
    """A folder of small JSON files, one for each set of settings.

    Args:
        folder: where they lie; None keeps nothing.

    Attributes:
        commits: those of the code that made the numbers asked for so far.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.commits: set[str] = set()
        self._commit = str(provenance()["commit"])  # of the code that runs, whatever is committed meanwhile

    def numbers(self, settings: Any, make: Callable[[], Mapping[str, float]]) -> dict[str, float]:  # noqa: ANN401
        """Return the numbers of some settings, from the folder or made now.

        Args:
            settings: all that the numbers depend on but the code: recipe, data, seed; whatever JSON can write.
            make: returns them.
        """
        text = json.dumps(settings, sort_keys=True)
        path = None if self.folder is None else self.folder / f"{hashlib.sha256(text.encode()).hexdigest()[:24]}.json"
        if path is not None and path.is_file():
            found = json.loads(path.read_text(encoding="utf-8"))
        else:
            found = {"numbers": dict(make()), "commit": self._commit}
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
                with atomic_path(path) as temporary:
                    temporary.write_text(json.dumps(found), encoding="utf-8")
        self.commits.add(found["commit"])
        return dict(found["numbers"])
