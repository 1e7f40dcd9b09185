"""Synthetic faces: 2-D portraits drawn from FACS action units, whose expression distances are known exactly.

A face is drawn from three independent sources: an expression (action units, AUs), a subject (shape, skin, hair, brows)
and a scene (pose, crop, light, gaze, glasses, background, camera). The expression alone decides the labels, so that
class, valence, arousal, distances and the truth of triplets are functions of the AU columns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from exprembed.data._face_drawing import draw_faces
from exprembed.data._face_expressions import (
    ACTION_UNITS,
    AU_COLUMNS,
    perceived_expression,
    sample_expression,
    valence_arousal,
)
from exprembed.data._face_geometry import Array, face_curves
from exprembed.data._face_looks import scene_looks, subject_looks
from exprembed.data.tables import EXPRESSIONS, TRIPLET_TYPES, FaceTable, TripletTable
from exprembed.data.triplets import draw_triplets, triplets_from_odd_votes
from exprembed.errors import BadInputError, WrongUseError, unknown_name
from exprembed.files import atomic_path

__all__ = [
    "ACTION_UNITS",
    "AU_COLUMNS",
    "expression_distance",
    "perceived_expression",
    "render_expressions",
    "render_faces",
    "render_sequence",
    "save_faces",
    "synthetic_triplets",
    "valence_arousal",
]

_BATCH = 32  # faces drawn at once, which bounds the memory


def render_faces(
    n: int, subjects: int, seed: int, size: int = 112, advance: Callable[[int], None] = lambda _: None
) -> tuple[Array, FaceTable]:
    """Draw n portraits of some subjects with all eight expressions, and their exact labels.

    Row i shows subject i mod `subjects`. The first `subjects` rows are the subjects' references: truly neutral faces
    (all AUs 0). Each further round of eight rows of a subject shows the eight expressions once, in random order; the
    AUs are an EMFACS-like prototype (one of several ways to show the expression) of random strength, plus random
    variation. Subject, scene and expression are drawn independently; row i depends on `seed`, `subjects` and i alone.
    The crop is that of an aligned photo: pupils about 0.38 of the width apart, at 0.37 of the height.

    Args:
        n: number of faces, at least `subjects`.
        subjects: number of people, at least 1.
        seed: every pixel and number is a function of the arguments and this seed, a whole number >= 0.
        size: width and height in pixels, 32 to 1024.
        advance: called with the number of faces drawn after each batch.

    Returns:
        The images, (n, size, size, 3) uint8 RGB, and their FaceTable with: `path` (a stable name as
        "synthetic/7/000123.png"; no file is there until `save_faces` writes one), `dataset` "synthetic", `split`
        ("validation" for each fifth subject, else "train"), `subject`, `reference`, `expression`, `valence` and
        `arousal` (see `valence_arousal`), `au_01` ... `au_43` (0..5), `asymmetry` (in [-1, 1]: +1 confines AU 12 and 14
        to the image's right side, -1 to its left), `landmarks` (136 floats x0, y0, x1, y1 ... in pixels, iBUG's 68
        points; pixel i spans [i, i + 1); a dropped jaw or a turned head may reach beyond the image),
        `left top right bottom` (the landmarks' bounding box within the image) and the scene's `yaw`, `pitch`, `roll`
        (degrees), `light` (in [-1, 1], from the left to the right), `glasses` (bool) and `age` (of the subject, in [0, 1], no
        years: how deep wrinkles and folds are drawn).

    Raises:
        WrongUseError: a number out of its range, or fewer faces than subjects.

    Example:
        >>> images, faces = render_faces(n=4, subjects=2, seed=0, size=64)
        >>> images.shape, faces["expression"].iloc[0], faces["reference"].iloc[3]
        ((4, 64, 64, 3), 'neutral', 'synthetic-0-000001')
    """
    _check(n=n, subjects=subjects, seed=seed, size=size)
    if n < subjects:
        raise WrongUseError(
            f"n={n} faces cannot hold a neutral reference of each of {subjects} subjects; give n >= subjects"
        )
    people = [_subject(seed, subject) for subject in range(subjects)]
    orders: dict[tuple[int, int], Array] = {}
    units, names, lean = np.zeros((n, len(ACTION_UNITS))), ["neutral"] * n, np.zeros(n)
    for row in range(subjects, n):
        (turn, subject), rng = divmod(row, subjects), np.random.default_rng([seed, 1, row])
        block, place = divmod(turn - 1, len(EXPRESSIONS))
        if (subject, block) not in orders:
            orders[subject, block] = np.random.default_rng([seed, 3, subject, block]).permutation(len(EXPRESSIONS))
        names[row] = EXPRESSIONS[orders[subject, block][place]]
        units[row], lean[row] = sample_expression(names[row], rng)
    scenes = [scene_looks(np.random.default_rng([seed, 2, row])) for row in range(n)]
    looks = _columns([people[row % subjects] | scenes[row] for row in range(n)])
    ids = [f"synthetic-{seed}-{row:06d}" for row in range(n)]
    images, labels = _draw(units, lean, looks, size, advance)
    owner = np.arange(n) % subjects
    labels |= _origin(seed, owner) | {
        "path": [f"synthetic/{seed}/{row:06d}.png" for row in range(n)],
        "expression": names,
        "reference": [ids[subject] for subject in owner],
    }
    return images, _table(labels, ids)


def render_expressions(
    action_units: pd.DataFrame, seed: int, subject: int = 0, size: int = 112, scene: int = 0
) -> tuple[Array, FaceTable]:
    """Draw chosen action units on one subject in one scene, so that nothing but the expression differs.

    Args:
        action_units: one row a face; columns of AU_COLUMNS (0..5) and `asymmetry` (in [-1, 1]), absent ones are 0.
        seed: seed of the subject and the scene.
        subject: number of the subject; that of `render_faces` with the same seed.
        size: width and height in pixels, 32 to 1024.
        scene: number of the scene.

    Returns:
        Images (n, size, size, 3) uint8 RGB and their FaceTable, without `expression` and `reference`.

    Raises:
        BadInputError: an unknown column, a missing value or one out of range.

    Example:
        >>> images, faces = render_expressions(pd.DataFrame({"au_12": [0.0, 5.0]}), seed=0, size=64)
        >>> faces["valence"].round(2).tolist()
        [0.0, 0.86]
    """
    _check(seed=seed, subject=subject, size=size, scene=scene)
    units, lean = _chosen_units(action_units)
    looks = _columns([_subject(seed, subject) | scene_looks(np.random.default_rng([seed, 5, scene]))] * len(units))
    images, labels = _draw(units, lean, looks, size)
    stem = f"synthetic-{seed}-subject{subject}-scene{scene}"
    ids = [f"{stem}-{row:04d}" for row in range(len(units))]
    labels |= _origin(seed, np.full(len(units), subject)) | {"path": [f"synthetic/{seed}/{name}.png" for name in ids]}
    return images, _table(labels, ids)


def render_sequence(
    expression: str, seed: int, frames: int = 10, subject: int = 0, size: int = 112
) -> tuple[Array, FaceTable]:
    """Draw one subject moving from the neutral face (all AUs 0) to the apex of an expression.

    Frame f has the apex's AUs times 3 p^2 - 2 p^3 with p = f / (frames - 1); pose, light and all else stay. The apex is
    a random one of the expression at full strength.

    Args:
        expression: one of EXPRESSIONS but neutral.
        seed: seed of the subject, the scene and the apex.
        frames: number of frames, at least 2.
        subject: number of the subject; that of `render_faces` with the same seed.
        size: width and height in pixels, 32 to 1024.

    Returns:
        Images (frames, size, size, 3) uint8 RGB and their FaceTable with the columns `frame` (0 ... frames - 1),
        `expression` ("neutral" in frame 0, the apex's in all others) and `reference` (frame 0).

    Raises:
        WrongUseError: an unknown expression or a number out of its range.

    Example:
        >>> images, faces = render_sequence("surprise", seed=0, frames=3, size=64)
        >>> faces["au_26"].is_monotonic_increasing, faces["frame"].tolist()
        (True, [0, 1, 2])
    """
    if expression not in EXPRESSIONS[1:]:
        raise unknown_name("expression", expression, EXPRESSIONS[1:])
    _check(seed=seed, subject=subject, size=size, frames=frames)
    if frames < 2:
        raise WrongUseError(f"a sequence from neutral to apex needs at least 2 frames; got {frames}")
    number = EXPRESSIONS.index(expression)
    apex, lean = sample_expression(expression, np.random.default_rng([seed, 7, subject, number]), strength=1.0)
    p = np.linspace(0, 1, frames)
    units = pd.DataFrame((3 * p**2 - 2 * p**3)[:, None] * apex, columns=list(AU_COLUMNS))
    # A scene of its own for each person too: one for each expression alone would tell the expression by its light.
    scene = subject * len(EXPRESSIONS) + number
    images, faces = render_expressions(units.assign(asymmetry=lean), seed, subject, size, scene)
    table = pd.DataFrame(faces)
    ids = [f"synthetic-{seed}-subject{subject}-{expression}-{frame:03d}" for frame in range(frames)]
    table.index = pd.Index(ids, name="face_id")
    table["path"] = [f"synthetic/{seed}/{name}.png" for name in ids]
    table["expression"] = ["neutral"] + [expression] * (frames - 1)
    table["reference"], table["frame"] = ids[0], np.arange(frames)
    return images, FaceTable(table)


def expression_distance(faces: pd.DataFrame, a: Sequence[str] | pd.Series, b: Sequence[str] | pd.Series) -> Array:
    """Return the exact expression distances of pairs of synthetic faces.

    d(a, b) = || p(a) - p(b) || with the p of `perceived_expression`.

    Args:
        faces: a table of `render_faces`, or several concatenated.
        a: (m,) face ids.
        b: (m,) face ids.

    Returns:
        (m,) float, at least 0.

    Raises:
        BadInputError: an id that is not in the table, a missing AU column.

    Example:
        >>> _, faces = render_expressions(pd.DataFrame({"au_12": [0.0, 5.0]}), seed=0, size=64)
        >>> expression_distance(faces, faces.index[:1], faces.index[1:]).round(3).tolist()
        [1.265]
    """
    vectors = perceived_expression(faces)
    rows = []
    for ids in (a, b):
        found = faces.index.get_indexer(pd.Index(ids))
        if (found < 0).any():
            raise BadInputError(f"face {pd.Index(ids)[found < 0][0]!r} is not in the table of {len(faces)} faces")
        rows.append(found)
    values = vectors.to_numpy()
    distances: Array = np.linalg.norm(values[rows[0]] - values[rows[1]], axis=1)
    return distances


def synthetic_triplets(
    faces: FaceTable, per_type: int | Mapping[str, int], seed: int = 0, margin: float = 0.2
) -> TripletTable:
    """Draw triplets whose truth is known exactly: the closest pair of expressions is similar, the third face odd.

    Triplets of each type are drawn by label; one is kept if it is clear, d_1 <= (1 - margin) d_2 for its smallest and
    second smallest expression distance, until there are enough.

    Args:
        faces: synthetic faces with `expression`.
        per_type: triplets of each type, one number for all types or numbers by type name.
        seed: every table is a function of the faces, the numbers and this seed.
        margin: in [0, 1); how much closer the similar pair has to be.

    Returns:
        TripletTable in the order of types; agreement "strong", all six raters on the truth.

    Raises:
        WrongUseError: an unknown type, a negative number, a margin out of range.
        BadInputError: too few labels or faces, or hardly any clear triplet among them.

    Example:
        >>> _, faces = render_faces(n=40, subjects=4, seed=0, size=32)
        >>> len(synthetic_triplets(faces, per_type=5))
        15
    """
    if not 0 <= margin < 1:
        raise WrongUseError(f"margin must be in [0, 1); got {margin}")
    wanted = dict.fromkeys(TRIPLET_TYPES, per_type) if isinstance(per_type, int) else dict(per_type)
    if "expression" not in faces.columns or faces["expression"].isna().any():
        raise BadInputError("triplets are drawn by label: every face needs an 'expression'")
    vectors, labels = perceived_expression(faces).to_numpy(), faces["expression"].to_numpy()
    rng, ids, tables = np.random.default_rng(seed), faces.index.to_numpy(), []
    for name, count in wanted.items():
        if name not in TRIPLET_TYPES:
            raise unknown_name("triplet type", name, TRIPLET_TYPES)
        if count < 0:
            raise WrongUseError(f"per_type must not be negative; got {count} for {name}")
        if count == 0:
            continue
        rows, odd = _clear_triplets(vectors, labels, name, count, margin, rng)
        votes = 6 * (odd[:, None] == np.arange(3))
        tables.append(pd.DataFrame(triplets_from_odd_votes(ids[rows], votes, [name] * count)))
    empty = pd.DataFrame({"a": [], "b": [], "odd": []}, dtype=str)
    return TripletTable(pd.concat(tables, ignore_index=True) if tables else empty)


def save_faces(images: Array, faces: FaceTable, folder: str | Path) -> FaceTable:
    """Write the images as PNG files into a folder and return the table with their real paths.

    Args:
        images: (n, H, W, 3) uint8 RGB.
        faces: their table; the file of a face is `folder`/<face_id>.png.
        folder: made if absent.

    Returns:
        A FaceTable equal to `faces` but for `path`.

    Raises:
        BadInputError: another number of images than rows, or images that are not uint8 RGB.
    """
    if images.ndim != 4 or images.shape[-1] != 3 or images.dtype != np.uint8:
        raise BadInputError(f"images are {images.shape} {images.dtype} where (n, H, W, 3) uint8 RGB is due")
    if len(images) != len(faces):
        raise BadInputError(f"{len(images)} images do not fit a table of {len(faces)} faces")
    paths = [Path(folder) / f"{face_id}.png" for face_id in faces.index]
    for image, path in zip(images, paths, strict=True):
        with atomic_path(path) as temporary:
            Image.fromarray(image).save(temporary, format="PNG")
    return FaceTable(pd.DataFrame(faces).assign(path=[str(path) for path in paths]))


def _subject(seed: int, subject: int) -> dict[str, float]:
    return subject_looks(np.random.default_rng([seed, 0, subject]))


def _draw(
    units: Array, lean: Array, looks: dict[str, Array], size: int, advance: Callable[[int], None] = lambda _: None
) -> tuple[Array, dict[str, Any]]:
    """Draw the faces; return the images and those columns that follow from expression and scene."""
    by_number = {number: units[:, column] for column, number in enumerate(ACTION_UNITS)}
    images = np.empty((len(units), size, size, 3), np.uint8)
    landmarks = np.empty((len(units), 68, 2))
    for start in range(0, len(units), _BATCH):
        part = slice(start, start + _BATCH)
        some = {name: value[part] for name, value in looks.items()}
        some_units = {number: value[part] for number, value in by_number.items()}
        curves = face_curves(some_units, lean[part], some, size)
        landmarks[part] = curves["landmarks"]
        images[part] = draw_faces(curves, some_units, lean[part], some, size)
        advance(len(landmarks[part]))
    low, high = np.clip(landmarks.min(axis=1), 0, size - 1), np.clip(landmarks.max(axis=1), 1, size)
    feelings = valence_arousal(units, lean)
    labels: dict[str, Any] = dict(zip(AU_COLUMNS, units.T, strict=True))
    labels |= {"asymmetry": lean, "valence": feelings[:, 0], "arousal": feelings[:, 1]}
    labels |= {"left": low[:, 0], "top": low[:, 1], "right": high[:, 0], "bottom": high[:, 1]}
    labels |= {name: np.rad2deg(looks[name]) for name in ("yaw", "pitch", "roll")}
    labels |= {"light": looks["light_x"], "glasses": looks["glasses"] > 0, "age": looks["age"]}
    labels["landmarks"] = np.round(landmarks.reshape(len(units), 136), 2).tolist()
    return images, labels


def _origin(seed: int, subjects: Array) -> dict[str, list[str]]:
    return {
        "dataset": ["synthetic"] * len(subjects),
        "split": ["validation" if subject % 5 == 4 else "train" for subject in subjects],
        "subject": [f"synthetic-{seed}-s{subject:04d}" for subject in subjects],
    }


def _table(labels: dict[str, Any], ids: Sequence[str]) -> FaceTable:
    first = ("path", "split", "dataset", "subject", "reference", "expression", "valence", "arousal")
    order = [name for name in first if name in labels] + [name for name in labels if name not in first]
    return FaceTable(pd.DataFrame(labels, index=pd.Index(ids, name="face_id"))[order])


def _columns(rows: Sequence[dict[str, float]]) -> dict[str, Array]:
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def _chosen_units(chosen: pd.DataFrame) -> tuple[Array, Array]:
    for column in chosen.columns:
        if column not in (*AU_COLUMNS, "asymmetry"):
            raise BadInputError(str(unknown_name("column of action units", column, (*AU_COLUMNS, "asymmetry"))))
        low, high = (-1, 1) if column == "asymmetry" else (0, 5)
        wrong = ~chosen[column].between(low, high)
        if wrong.any():
            raise BadInputError(
                f"column {column!r} holds {chosen[column][wrong].iloc[0]} where a number in [{low}, {high}] is due"
            )
    if len(chosen) == 0:
        raise BadInputError("no face to draw: the table of action units is empty")
    full = chosen.reindex(columns=[*AU_COLUMNS, "asymmetry"], fill_value=0.0).astype(float)
    return full[list(AU_COLUMNS)].to_numpy(), full["asymmetry"].to_numpy()


def _clear_triplets(
    vectors: Array, labels: Array, name: str, count: int, margin: float, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Draw `count` clear triplets: (count, 3) rows and (count,) which of the three is odd."""
    kept_rows, kept_odd, kept = [], [], 0
    for _ in range(50):
        rows = draw_triplets(labels, name, 2 * count + 16, rng)
        points = vectors[rows]
        pairs = [np.linalg.norm(points[:, i] - points[:, j], axis=1) for i, j in ((1, 2), (0, 2), (0, 1))]
        distances = np.stack(pairs, axis=1)  # column k: the pair that is left when face k is odd
        ordered = np.sort(distances, axis=1)
        clear = (ordered[:, 0] <= (1 - margin) * ordered[:, 1]) & (ordered[:, 0] < ordered[:, 1])
        kept_rows.append(rows[clear])
        kept_odd.append(distances[clear].argmin(axis=1))
        kept += int(clear.sum())
        if kept >= count:
            return np.concatenate(kept_rows)[:count], np.concatenate(kept_odd)[:count]
    raise BadInputError(
        f"only {kept} of {count} clear {name} triplets found in 50 rounds; lower margin={margin} or add faces"
    )


def _check(**numbers: int) -> None:
    """Check the whole numbers of a call, each by its name."""
    ranges = {"n": (1, None), "subjects": (1, None), "frames": (1, None), "size": (32, 1024)}
    for name, value in numbers.items():
        low, high = ranges.get(name, (0, None))
        if (
            isinstance(value, bool)
            or not isinstance(value, (int, np.integer))
            or value < low
            or (high and value > high)
        ):
            allowed = f"{low} to {high}" if high else f"at least {low}"
            raise WrongUseError(f"{name} must be a whole number, {allowed}; got {value!r}")
