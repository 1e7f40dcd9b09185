"""From photos, folders and data sets to face crops and vectors, in batches, so that memory stays bounded."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from exprembed.errors import BadInputError, MissingExtraError, WrongUseError, unknown_name
from exprembed.files import Skipped
from exprembed.progress import progress

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from PIL import Image

    from exprembed.data.faces import FaceCrop, FaceDetector, FoundFace
    from exprembed.data.preprocessing import Preprocessing
    from exprembed.data.quality import FaceLimits
    from exprembed.models.base import Embedder
    from exprembed.pipeline import Flow, NamedFaces, Written

DETECTORS = ("mtcnn", "yunet")
# Eye centres shared by all files of a data set, as fractions of width and height: left x, left y, right x, right y.
# CelebA's 178 x 218 crops put them at about (70, 112) and (109, 112); the face fills less than half of the width.
DATASET_EYES = {"celeba": "0.393,0.514,0.612,0.514"}


@dataclass(frozen=True)
class FaceOptions:
    """How faces are found, cut out and embedded."""

    aligned: Annotated[
        bool, typer.Option("--aligned", help="The files are face crops already: no face is searched for.")
    ] = False
    crop_eyes: Annotated[
        str | None,
        typer.Option(
            help="Cut every file by these eye centres, without search: left x, left y, right x, right y as fractions "
            "of width and height. For files that were all aligned the same way.",
            metavar="X,Y,X,Y",
        ),
    ] = None
    faces: Annotated[str, typer.Option(help="Faces taken from each photo: all or largest.")] = "all"
    min_face: Annotated[
        float,
        typer.Option(
            help="Narrowest face in pixels that is looked for and kept; a larger number searches faster.", min=0
        ),
    ] = 20.0
    min_score: Annotated[
        float | None, typer.Option(help="Leave out faces of which the detector is less sure, 0 to 1.", min=0, max=1)
    ] = None
    min_sharpness: Annotated[
        float | None,
        typer.Option(help="Leave out faces that are more blurred: variance of the crop's Laplacian.", min=0),
    ] = None
    max_yaw: Annotated[
        float | None, typer.Option(help="Leave out faces turned further to a side, in degrees.", min=0)
    ] = None
    max_pitch: Annotated[
        float | None, typer.Option(help="Leave out faces turned further up or down, in degrees.", min=0)
    ] = None
    explain: Annotated[
        bool, typer.Option("--explain", help="Print each face found, its measures, and why it is kept or dropped.")
    ] = False
    detector: Annotated[str | None, typer.Option(help="Face detector: mtcnn (default) or yunet.")] = None
    detector_model: Annotated[
        Path | None, typer.Option(help="YuNet's ONNX file, for --detector yunet.", metavar="FILE")
    ] = None
    batch: Annotated[int, typer.Option(help="Faces embedded at once.", min=1)] = 64
    threads: Annotated[
        int | None,
        typer.Option(help="CPU threads of each stage: decoding, finding faces, embedding. Default: one a core.", min=1),
    ] = None
    device: Annotated[str, typer.Option(help="Where the networks run: cpu, cuda, cuda:1, ...")] = "cpu"

    def __post_init__(self) -> None:
        """Refuse options that contradict each other."""
        if self.faces not in ("all", "largest"):
            raise unknown_name("choice of --faces", self.faces, ("all", "largest"))
        if self.detector is not None and self.detector not in DETECTORS:
            raise unknown_name("detector", self.detector, DETECTORS)
        if self.detector == "yunet" and self.detector_model is None:
            raise WrongUseError("--detector yunet needs its ONNX file: --detector-model FILE")
        if self.detector_model is not None and self.detector != "yunet":
            raise WrongUseError("--detector-model goes with --detector yunet; MTCNN brings its weights along")
        if self.detector is not None and (self.aligned or self.crop_eyes):
            raise WrongUseError(
                "--detector searches for faces; --aligned and --crop-eyes say that there is nothing to find"
            )
        if self.crop_eyes is not None:
            _eyes(self.crop_eyes)
        if self.aligned or self.crop_eyes:
            self._refuse_limits("--aligned and --crop-eyes search for nothing")

    @property
    def limits(self) -> FaceLimits:
        """What a face must measure to be kept."""
        from exprembed.data.quality import FaceLimits

        return FaceLimits(self.min_face, self.min_score, self.min_sharpness, self.max_yaw, self.max_pitch)

    def eyes(self, dataset: str | None) -> tuple[float, ...] | None:
        """Return the eye centres by which all files are cut: those given, else those known of the data set."""
        if self.crop_eyes is not None:
            return _eyes(self.crop_eyes)
        known = DATASET_EYES.get(dataset or "")
        if not known or self.detector is not None:
            return None
        self._refuse_limits(f"{dataset} is cut by eyes that are known: add --detector mtcnn")
        return _eyes(known)

    def _refuse_limits(self, because: str) -> None:
        for name in ("min_score", "max_yaw", "max_pitch"):
            if getattr(self, name) is not None:
                raise WrongUseError(f"--{name.replace('_', '-')} limits what a detector finds; {because}")

    @property
    def flow(self) -> Flow:
        """How the job runs."""
        from exprembed.pipeline import Flow

        if self.explain:
            return Flow(self.batch, threads=1)  # so that pictures are explained in their order
        return Flow(self.batch) if self.threads is None else Flow(self.batch, self.threads)

    def make_detector(self) -> FaceDetector:
        """Return the detector that was asked for."""
        from exprembed.data.detectors import MTCNNDetector, YuNetDetector

        if self.detector == "yunet" and self.detector_model is not None:
            return YuNetDetector(self.detector_model)
        try:
            return MTCNNDetector(min_face=max(1.0, self.min_face), device=self.device)
        except MissingExtraError as error:
            raise MissingExtraError("facenet-pytorch", "faces", "finding faces (without --aligned)") from error


@dataclass(frozen=True)
class SourceOptions:
    """Which data set a folder holds, and how much of it is taken."""

    dataset: Annotated[
        str | None,
        typer.Option(
            help="Read the folder as this data set (celeba, ferplus, folder, jaffe, rafdb, ...): its labels become columns."
        ),
    ] = None
    split: Annotated[str | None, typer.Option(help="Only this split of the data set.")] = None
    limit: Annotated[int | None, typer.Option(help="Only the first N files.", min=1)] = None


@dataclass(frozen=True)
class Photos:
    """The files of a job: their paths in order, what is known of each, and what was left out so far."""

    paths: list[Path]
    known: pd.DataFrame | None = None
    dataset: str | None = None
    skipped: list[Skipped] = field(default_factory=list)


@dataclass(frozen=True)
class Embedded:
    """The faces of a job: row i of `faces` (a FaceTable) belongs to row i of `vectors` (n, d)."""

    faces: pd.DataFrame
    vectors: np.ndarray
    skipped: list[Skipped]
    images: int
    seconds: float
    reused: int = 0  # images whose vectors an earlier run left

    @property
    def metadata(self) -> pd.DataFrame | None:
        """What an index keeps of the faces; None where nothing is known."""
        known = self.faces.drop(columns="landmarks", errors="ignore").dropna(axis=1, how="all")
        return known if len(known.columns) else None

    def speed(self) -> dict[str, Any]:
        """Return counts and speed for the JSON document."""
        return {
            "images": self.images,
            "faces": len(self.faces),
            "skipped": len(self.skipped),
            "seconds": round(self.seconds, 3),
            "images_per_second": round((self.images - self.reused) / max(self.seconds, 1e-9), 1),
        }


def open_model(name_or_path: str | None, options: FaceOptions) -> Embedder:
    """Load the model of a verb, and set where it runs and the number of threads it uses."""
    import torch

    from exprembed.models import load_model

    if options.threads is not None:
        torch.set_num_threads(options.threads)
    model: Embedder = load_model(name_or_path, device=options.device)
    return model


def find_photos(paths: list[Path], source: SourceOptions | None = None, films: bool = False) -> Photos:
    """List the files of a job: photos (and films), folders and patterns, or one folder of a data set."""
    from exprembed.data.images import IMAGE_SUFFIXES, find_images

    options = source or SourceOptions()
    if options.dataset is None:
        if options.split is not None:
            raise WrongUseError("--split chooses a part of a data set; say which with --dataset")
        if films:
            from exprembed.pipeline.job import SUFFIXES as suffixes
        else:
            suffixes = IMAGE_SUFFIXES
        found, skipped = find_images(paths, suffixes)
        return Photos(found[: options.limit], skipped=skipped)
    if len(paths) != 1:
        raise WrongUseError(f"--dataset {options.dataset} takes one folder; got {len(paths)} paths")
    skipped = []
    faces = _read_dataset(options.dataset, paths[0], options.split, skipped).iloc[: options.limit]
    if faces.empty:
        raise BadInputError(
            f"{paths[0]}: no face of {options.dataset}" + (f", split {options.split}" if options.split else "")
        )
    return Photos([Path(path) for path in faces["path"]], faces, options.dataset, skipped)


def embed_photos(
    model: Embedder, photos: Photos, options: FaceOptions, crops: Path | None = None, quiet: bool = False
) -> Embedded:
    """Cut out and embed the faces of photos, a batch at a time.

    Args:
        model: the embedder; its preprocessing says where the eyes go.
        photos: the files.
        options: how faces are found.
        crops: a folder that gets every crop as a PNG file, whose path becomes the column `crop`.
        quiet: show no progress.

    Returns:
        The faces with what is known of them, in the order of the files; `eyes` holds the eye centres by which a face
        was cut (left x, left y, right x, right y in pixels of the upright photo) and is missing for whole files.

    Raises:
        BadInputError: not a single face was embedded.
    """
    with progress("embedding", len(photos.paths), quiet or options.explain) as advance:
        done = embed_some(model, photos, options, crops, advance)
    if not len(done.faces):
        from exprembed.pipeline import no_face

        raise no_face(done.images, done.skipped)
    return done


def embed_some(
    model: Embedder,
    photos: Photos,
    options: FaceOptions,
    crops: Path | None = None,
    advance: Callable[[int], None] = lambda _: None,
) -> Embedded:
    """Do what `embed_photos` does, also where there is no face; `advance` is told of each file."""
    from exprembed.pipeline import collect

    started = time.perf_counter()
    done = collect(model, photos.paths, cut_of(model, photos, options, crops), options.flow, advance)
    table = done.faces
    if photos.known is not None and len(table):
        fresh = [column for column in table.columns if column not in photos.known.columns]
        table = photos.known.drop(columns="landmarks", errors="ignore").loc[table.index].join(table[fresh])
    seconds = time.perf_counter() - started
    return Embedded(table, done.vectors, [*photos.skipped, *done.skipped], len(photos.paths), seconds)


def embed_into(
    out: Path,
    model: Embedder,
    photos: Photos,
    options: FaceOptions,
    flow: Flow,
    crops: Path | None = None,
    anew: bool = False,
    quiet: bool = False,
) -> Written:
    """Embed photos into a Parquet file, taking up what an earlier run left of it.

    Raises:
        BadInputError: not a single face was embedded.
    """
    from exprembed.pipeline import write
    from exprembed.pipeline.job import settings_of

    cut = cut_of(model, photos, options, crops)
    told = None if photos.known is None else photos.known.to_csv()
    settings = settings_of(model, cut.cut, flow, str(crops), photos.dataset, told)
    with progress("embedding", len(photos.paths), quiet or options.explain) as advance:
        anew = anew or options.explain  # what is taken up is not looked at
        return write(model, photos.paths, cut, flow, out, settings, photos.skipped, photos.known, advance, anew)


def cut_of(model: Embedder, photos: Photos, options: FaceOptions, crops: Path | None = None) -> NamedFaces:
    """Return how faces come out of the files, named after the file or, in a data set, by its face_id."""
    from exprembed.data.preprocessing import Alignment
    from exprembed.pipeline import NamedFaces, SearchedFaces, WholeFaces

    alignment, size = model.preprocessing.alignment or Alignment(), model.preprocessing.size
    explain = explain_photo if options.explain else None
    eyes = options.eyes(photos.dataset)
    cut: SearchedFaces | WholeFaces
    if eyes is not None or options.aligned:
        cut = WholeFaces(eyes, alignment, size, options.limits, explain)
    else:
        which: Any = "largest" if photos.known is not None else options.faces
        cut = SearchedFaces(options.make_detector(), alignment, size, which, options.limits, explain)
    ids = None
    if photos.known is not None:
        ids = dict(zip(map(str, photos.paths), photos.known.index, strict=True))

    def keep(face: FaceCrop) -> None:
        if crops is not None:
            face.row["crop"] = str(_save_crop(face, crops))

    return NamedFaces(cut, ids, keep)


def recut(row: Any, preprocessing: Preprocessing, side: int | None = None) -> Image.Image:  # noqa: ANN401 - a table's row
    """Cut a face anew from its file: by its `eyes` to `side` pixels (the model's where None), else the whole file.

    Args:
        row: a row of a face table, with `path` and perhaps `eyes`.
        preprocessing: says where the eyes go.
        side: side of the crop; whole files keep their size.
    """
    import numpy as np

    from exprembed.data.alignment import align_face
    from exprembed.data.images import open_image

    image, eyes = open_image(row["path"]), row.get("eyes")
    if eyes is None or isinstance(eyes, float):  # pandas writes a missing list as NaN
        return image
    return align_face(
        image, np.asarray(list(eyes), float).reshape(2, 2), preprocessing.alignment, side or preprocessing.size
    )


def explain_photo(name: str, found: Sequence[FoundFace], reason: str) -> None:
    """Print a photo, each face found in it, its measures, and whether it is kept."""
    typer.echo(f"{name}: {reason.removeprefix(f'{name} ')}" if reason else f"{name}: {len(found)} found")
    for face in found:
        typer.echo(f"  {face.face_id.removeprefix(name) or 'the file'}: {face.quality}; {face.verdict}")


def _read_dataset(name: str, folder: Path, split: str | None, skipped: list[Skipped]) -> pd.DataFrame:
    import inspect

    from exprembed.data.readers import READERS

    reader = READERS.get(name)
    takes = inspect.signature(reader).parameters
    wanted: dict[str, Any] = {"skipped": skipped, "missing": "skip", "split": split}
    if split is not None and "split" not in takes:
        raise WrongUseError(f"the data set {name} has no splits")
    found = reader(folder, **{key: value for key, value in wanted.items() if key in takes})
    faces: pd.DataFrame = found[0] if isinstance(found, tuple) else found
    return faces


def _save_crop(face: FaceCrop, folder: Path) -> Path:
    """Write one crop as PNG under a name made of its face_id; what could lead out of the folder is replaced."""
    import hashlib

    parts = [part for part in Path(face.face_id).parts if part not in ("..", Path(face.face_id).anchor)]
    name = "/".join(parts)
    if name != face.face_id:  # another id may give the same name
        name = f"{name}-{hashlib.sha256(face.face_id.encode()).hexdigest()[:8]}"
    path = folder / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    face.crop.save(path, format="PNG")
    return path


def _eyes(text: str) -> tuple[float, ...]:
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    if len(values) != 4 or not all(0 <= value <= 1 for value in values) or values[0] >= values[2]:
        raise WrongUseError(
            f"--crop-eyes is {text!r}; four fractions of width and height are due, the picture's left eye first, like "
            "0.3,0.4,0.7,0.4"
        )
    return values
