"""What the demo shows and measures: the rendered gallery or the user's own photos, with vectors, pictures and scores."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exprembed.cli._faces import FaceOptions, SourceOptions, embed_photos, find_photos, recut
from exprembed.files import Skipped

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from PIL import Image

    from exprembed.data.tables import TripletTable
    from exprembed.models.base import Embedder

SEED = 2026  # of the gallery: never the seed of rendered faces that a model was trained on
SUBJECTS = 60
ALBUM_FACES = 96
NEIGHBOURS = 5
_LEAST_SUBJECTS = 5  # every fifth is a query


@dataclass
class Gallery:
    """Faces, their vectors and pictures, and how long each step took.

    Attributes:
        faces: one row a face, indexed by face_id; with `expression` and `subject` in the rendered gallery.
        vectors: (n, d), the same index.
        picture: gives the picture of a face.
        album: the vectors of the faces that the album summary is about, perhaps others than the gallery's.
        album_labels: the expression of each face of the album, empty where unknown.
        rendered: whether the faces are the built-in, rendered ones.
        skipped: photos that gave no face.
        steps: (what was done, seconds).
    """

    faces: pd.DataFrame
    vectors: pd.DataFrame
    picture: Callable[[str], Image.Image]
    album: pd.DataFrame
    album_labels: dict[str, str]
    rendered: bool
    skipped: list[Skipped] = field(default_factory=list)
    steps: list[tuple[str, float]] = field(default_factory=list)

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        """Note how long a step takes; it runs on one thread.

        A few hundred faces gain nothing from more, and on a busy machine threads that wait for each other cost minutes.
        """
        started = time.perf_counter()
        # Limits reach only libraries that are loaded by now.
        import sklearn.cluster
        import sklearn.manifold
        import sklearn.metrics
        import sklearn.neighbors  # noqa: F401
        from threadpoolctl import threadpool_limits

        with threadpool_limits(1):
            yield
        self.steps.append((what, time.perf_counter() - started))


def rendered_gallery(model: Embedder, out: Path, faces: int, subjects: int = SUBJECTS) -> Gallery:
    """Render the built-in gallery and one person's album, write the gallery's pictures, embed all."""
    import pandas as pd
    from PIL import Image

    from exprembed.data.synthetic import render_faces, save_faces
    from exprembed.models.embedding import embed_pixels

    subjects = max(_LEAST_SUBJECTS, min(subjects, faces // 10))
    started = time.perf_counter()
    images, table = render_faces(faces, subjects, SEED)
    album_images, album = render_faces(ALBUM_FACES, 1, SEED + 1)
    for old in (out / "gallery").glob(f"synthetic-{SEED}-*.png"):  # of an earlier demo of another size
        old.unlink()
    table = save_faces(images, table, out / "gallery")
    rendered = time.perf_counter()
    every = {
        name: image
        for names, block in ((table.index, images), (album.index, album_images))
        for name, image in zip(names, block, strict=True)
    }
    pixels = model.preprocessing.pixels(list(every.values()))
    vectors = pd.DataFrame(embed_pixels(model, pixels), index=list(every))
    gallery = Gallery(
        faces=pd.DataFrame(table),
        vectors=vectors.loc[table.index],
        picture=lambda name: Image.fromarray(every[name]),
        album=vectors.loc[album.index],
        album_labels={str(name): str(label) for name, label in album["expression"].items()},
        rendered=True,
    )
    gallery.steps.append((f"rendered {len(every):,} faces and wrote {len(table):,} as PNG", rendered - started))
    gallery.steps.append((f"embedded {len(every):,} faces", time.perf_counter() - rendered))
    return gallery


def photo_gallery(model: Embedder, photos: Path, options: FaceOptions, limit: int | None, quiet: bool) -> Gallery:
    """Find and embed the faces of the user's photos."""
    import pandas as pd

    started = time.perf_counter()
    found = find_photos([photos], SourceOptions(limit=limit))
    done = embed_photos(model, found, options, quiet=quiet)
    vectors = pd.DataFrame(done.vectors, index=done.faces.index)
    gallery = Gallery(
        faces=done.faces,
        vectors=vectors,
        picture=lambda name: recut(done.faces.loc[name], model.preprocessing, 2 * 112),
        album=vectors,
        album_labels={},
        rendered=False,
        skipped=done.skipped,
    )
    what = f"found, cut out and embedded {len(vectors):,} faces of {len(found.paths):,} files"
    gallery.steps.append((what, time.perf_counter() - started))
    return gallery


def choose_queries(gallery: Gallery, n: int = 8) -> list[str]:
    """Choose query faces without looking at the results.

    Of the rendered gallery: each expression's first face among every fifth subject, no subject twice where possible. Of
    photos: the representatives of the n largest groups of expressions.
    """
    if not gallery.rendered:
        from exprembed.index import summarize_album

        return list(summarize_album(sample(gallery.vectors), n).representatives)
    from exprembed.data.tables import EXPRESSIONS

    chosen: list[str] = []
    used: set[str] = set()
    held = gallery.faces[gallery.faces["split"] == "validation"]
    for expression in EXPRESSIONS:
        rows = held[held["expression"] == expression]
        fresh = rows[~rows["subject"].isin(used)]
        for name in (fresh if len(fresh) else rows).index[:1]:
            chosen.append(str(name))
            used.add(str(held.loc[name, "subject"]))
    return chosen


def sample(vectors: pd.DataFrame, most: int = 4000) -> pd.DataFrame:
    """Return at most `most` of the vectors, drawn at random: clustering and maps grow as the square of their number."""
    return vectors if len(vectors) <= most else vectors.sample(most, random_state=0).sort_index()


@dataclass(frozen=True)
class Score:
    """One line of the score table.

    Attributes:
        name: what was scored.
        model: the model's share, in [0, 1].
        pixels: the same for raw pixels reduced to as many dimensions.
        chance: what guessing gives.
        about: how it was measured, and on how many.
        low: whether lower is better.
    """

    name: str
    model: float
    pixels: float
    chance: float
    about: str
    low: bool = False


def score(gallery: Gallery, triplets: TripletTable, metric: str) -> list[Score]:
    """Score the model and raw pixels on the rendered gallery, whose truth is known."""
    both = ((gallery.vectors, metric), (pixel_vectors(gallery), "l2"))
    ours, pixels = (_triplet_accuracy(vectors, triplets, kind) for vectors, kind in both)
    how = "triplets; the odd one out by exact expression distance"
    lines = [Score("Triplet accuracy, all types", ours.overall, pixels.overall, 1 / 3, f"{ours.n:,} {how}")]
    for name in ours.by_type:
        title = f"Triplet accuracy, {name.replace('_', '-')}"
        lines.append(Score(title, ours.by_type[name], pixels.by_type[name], 1 / 3, f"{ours.n_by_type[name]:,} {how}"))
    return lines + _neighbour_scores(gallery, both)


def _neighbour_scores(gallery: Gallery, both: Sequence[tuple[pd.DataFrame, str]]) -> list[Score]:
    from exprembed.metrics import expression_retrieval_precision, identity_leak, knn_auc_roc

    labels, subjects = gallery.faces["expression"], gallery.faces["subject"]
    train = gallery.faces["split"] == "train"
    k = min(50, int(train.sum()) // 2)
    auc = [knn_auc_roc(v[train], labels[train], v[~train], labels[~train], k, metric=kind) for v, kind in both]
    near = [expression_retrieval_precision(v, labels, None, NEIGHBOURS, kind, subjects) for v, kind in both]
    leak = [identity_leak(v, subjects, labels, kind) for v, kind in both]
    others = f"k = {k}; {auc[0].n:,} queries of people that the {int(train.sum()):,} gallery faces do not show"
    same = f"{near[0].n:,} queries; same expression among other people's faces"
    leaks = f"{leak[0].n:,} faces; nearest face of the same person although the expression differs"
    first, second, third = "kNN AUC-ROC, mean of classes", f"Precision of the {NEIGHBOURS} nearest", "Identity leak"
    return [
        Score(first, auc[0].mean, auc[1].mean, 0.5, others),
        Score(second, near[0].precision, near[1].precision, near[0].base_rate, same),
        Score(f"{third} (lower is better)", leak[0].leak, leak[1].leak, leak[0].chance, leaks, low=True),
    ]


def _triplet_accuracy(vectors: pd.DataFrame, triplets: TripletTable, metric: str) -> Any:  # noqa: ANN401 - TripletAccuracy
    from exprembed.metrics import triplet_accuracy

    return triplet_accuracy(vectors, triplets, metric)


def pixel_vectors(gallery: Gallery, side: int = 48) -> pd.DataFrame:
    """Return grey pixels, projected on as many principal components as the model has dimensions: the baseline."""
    import numpy as np
    import pandas as pd

    grey: np.ndarray = np.stack(
        [
            np.asarray(gallery.picture(str(name)).convert("L").resize((side, side)), float).ravel()
            for name in gallery.faces.index
        ]
    )
    grey -= grey.mean(axis=0)
    left, size, _ = np.linalg.svd(grey, full_matrices=False)
    dim = min(gallery.vectors.shape[1], len(size))
    return pd.DataFrame(left[:, :dim] * size[:dim], index=gallery.faces.index)
