"""What single trainings gave, written as it comes, so that a run that is cut off goes on where it was."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from exprembed.files import atomic_path
from exprembed.provenance import provenance

Values = dict[str, Any]  # a name -> a number or an array
_COMMIT = "made by commit"


class Kept:
    """A folder of small `.npz` files, one for each set of settings.

    Settings are all that values depend on but the code: recipe, data, seed; whatever JSON can write.

    Args:
        folder: where they lie; None keeps nothing.

    Attributes:
        commits: those of the code that made the values asked for so far.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.commits: set[str] = set()
        self._commit = str(provenance()["commit"])  # of the code that runs, whatever is committed meanwhile

    def facts(self) -> dict[str, str]:
        """Return, for a report, which commits made the values asked for so far; nothing if this code made all."""
        return {"trained by the code of": ", ".join(sorted(self.commits))} if self.commits - {self._commit} else {}

    def path(self, settings: Any) -> Path | None:  # noqa: ANN401
        """Return the file of some settings, there or not; None if nothing is kept."""
        text = json.dumps(settings, sort_keys=True)
        return self.folder and self.folder / f"{hashlib.sha256(text.encode()).hexdigest()[:24]}.npz"

    def find(self, settings: Any) -> Values | None:  # noqa: ANN401
        """Return the values of some settings, or None where they were not made yet."""
        path = self.path(settings)
        if path is None or not path.is_file():
            return None
        with np.load(path, allow_pickle=False) as file:
            values = {name: file[name] if file[name].ndim else file[name].item() for name in file.files}
        if _COMMIT not in values:  # not of this format: made anew
            return None
        self.commits.add(values.pop(_COMMIT))
        return values

    def values(self, settings: Any, make: Callable[[], Mapping[str, Any]]) -> Values:  # noqa: ANN401
        """Return the values of some settings, from the folder or made now."""
        found = self.find(settings)
        if found is not None:
            return found
        made = dict(make())
        self.commits.add(self._commit)
        path, named = self.path(settings), {**made, _COMMIT: self._commit}
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(path) as temporary, temporary.open("wb") as file:
                np.savez(file, **named)
        return made
