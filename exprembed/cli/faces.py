"""exprembed faces: look at what is found in a photo, and at what the model sees of it."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from exprembed.cli._common import JsonOption, ModelOption, add_verb, clean_stdout, end, option_groups, show
from exprembed.cli._faces import FaceOptions, explain_photo, open_model
from exprembed.errors import BadInputError, WrongUseError
from exprembed.files import Skipped

if TYPE_CHECKING:
    from PIL import Image

    from exprembed.data.faces import FoundFace
    from exprembed.data.preprocessing import Preprocessing

faces_app = typer.Typer(no_args_is_help=True, help="Look at the faces of a photo as the model gets them.")

_PHOTO = (960, 720)  # the photo is drawn within this many pixels
_TILE = 192  # a crop is enlarged by the largest whole factor that keeps it within this many pixels
_GAP, _LINE, _LETTERS, _COLUMNS = 16, 15, 30, 4
_KEPT, _DROPPED, _INK, _PAPER = "#00897b", "#d84315", "#212121", "#ffffff"


@option_groups(face=FaceOptions)
def show_faces(
    photo: Annotated[Path, typer.Argument(help="The photo.", show_default=False)],
    out: Annotated[Path, typer.Option(help="The PNG file to write.")] = Path("show.png"),
    model: ModelOption = None,
    as_json: JsonOption = False,
    *,
    face: FaceOptions,
) -> None:
    """Draw the faces of a photo: boxes and points on it, and beside it each crop exactly as the model sees it.

    Crops are what enters the model: aligned, at its size, grey where it is grey, enlarged without smoothing. Faces
    that fail a limit (--min-face, --max-yaw, ...) are drawn in red, and the reason is printed.

    Exit codes: 0 done; 1 some faces are left out; 2 wrong use; 3 not a photo, or no face in it.
    """
    from exprembed.files import atomic_path

    if out.suffix.lower() != ".png":
        raise WrongUseError(f"--out is a PNG file; got {out}")
    with clean_stdout(as_json):
        plan = open_model(model, face).preprocessing
        image, found = _judged(photo, plan, face)
        if not found:
            raise BadInputError(f"{photo}: no face found")
        picture = face_sheet(image, found, plan)
        with atomic_path(out) as temporary:
            picture.save(temporary, format="PNG")
        explain_photo(str(photo), found, "")
    document = {"photo": photo, "out": out, "size": plan.size, "faces": [_entry(one) for one in found]}
    show(as_json, document, f"drawn: {out}")
    end([Skipped(one.face_id, one.dropped) for one in found if one.dropped is not None])


def face_sheet(photo: Image.Image, found: Sequence[FoundFace], preprocessing: Preprocessing) -> Image.Image:
    """Draw a photo with its boxes and points, and beside it what the model sees of each face that was cut.

    Args:
        photo: the upright RGB picture.
        found: its faces, as `judge_faces` gives them.
        preprocessing: the model's.

    Returns:
        An RGB picture: the photo on the left, the crops in columns on the right, each a whole number of times its size.
    """
    from PIL import Image, ImageDraw, ImageFont

    scale = min(limit / length for limit, length in zip(_PHOTO, photo.size, strict=True))
    width, height = (max(1, round(length * scale)) for length in photo.size)
    cut = [(_seen(preprocessing, one.crop), _caption(one), _color(one)) for one in found if one.crop is not None]
    side = max(1, _TILE // preprocessing.size) * preprocessing.size
    lines = max((len(caption) for _, caption, _ in cut), default=0)
    step = max(side, _TILE) + _GAP, side + lines * _LINE + _GAP
    rows = max(1, (height + _GAP) // step[1], -(-len(cut) // _COLUMNS))
    columns = -(-len(cut) // rows)
    sheet = Image.new("RGB", (width + columns * step[0] + 2 * _GAP, max(height, rows * step[1]) + 2 * _GAP), _PAPER)
    sheet.paste(photo.resize((width, height), Image.Resampling.BICUBIC), (_GAP, _GAP))
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=12)
    for one in found:
        if one.detected is None:
            continue
        left, top, right, bottom = (_GAP + value * scale for value in one.detected.box)
        pen.rectangle((left, top, right, bottom), outline=_color(one), width=2)
        for x, y in (one.detected.landmarks * scale + _GAP).tolist():
            pen.ellipse((x - 3, y - 3, x + 3, y + 3), fill=_color(one), outline=_PAPER)
        pen.text((left + 4, top + 2), _number(one), _color(one), font, stroke_width=2, stroke_fill=_PAPER)
    for place, (seen, caption, color) in enumerate(cut):
        row, column = divmod(place, columns)
        x, y = width + 2 * _GAP + column * step[0], _GAP + row * step[1]
        sheet.paste(seen.resize((side, side), Image.Resampling.NEAREST), (x, y))
        for line, text in enumerate(caption):
            pen.text((x, y + side + 2 + line * _LINE), text, _INK if line else color, font)
    return sheet


def _number(one: FoundFace) -> str:
    return "" if one.detected is None else f"#{one.face_id.rpartition('#')[2]}"


def _color(one: FoundFace) -> str:
    return _KEPT if one.dropped is None else _DROPPED


def _caption(one: FoundFace) -> list[str]:
    """Return lines: the verdict, and the measures, broken between measures alone."""
    measures = str(one.quality).replace(" ", "\xa0").replace(",\xa0", ", ")
    lines = textwrap.wrap(f"{_number(one)} {one.verdict}", _LETTERS) + textwrap.wrap(measures, _LETTERS)
    return [line.replace("\xa0", " ").strip() for line in lines]


def _judged(photo: Path, plan: Preprocessing, face: FaceOptions) -> tuple[Image.Image, list[FoundFace]]:
    import numpy as np

    from exprembed.data.faces import judge_faces, judge_whole
    from exprembed.data.images import open_image

    image, eyes = open_image(photo), face.eyes(None)
    if eyes is not None or face.aligned:
        points = None if eyes is None else np.array(eyes).reshape(2, 2) * image.size
        return image, [judge_whole(str(photo), image, points, plan.alignment, plan.size, face.limits)]
    detected = face.make_detector().detect_batch([image])[0]
    which: Any = face.faces
    return image, judge_faces(str(photo), image, detected, plan.alignment, plan.size, which, face.limits)


def _seen(preprocessing: Preprocessing, crop: Image.Image) -> Image.Image:
    """Return what the model is given, with nothing undone but the linear normalisation."""
    import numpy as np
    from PIL import Image

    low, high = preprocessing.value_range
    values = preprocessing(crop)[0].numpy().transpose(1, 2, 0) * np.array(preprocessing.std) + preprocessing.mean
    pixels = np.round((values - low) / (high - low) * 255).clip(0, 255).astype(np.uint8)
    return Image.fromarray(pixels[..., 0] if preprocessing.channels == 1 else pixels).convert("RGB")


def _entry(one: FoundFace) -> dict[str, Any]:
    found = one.detected
    place = {} if found is None else {"box": found.box, "landmarks": found.landmarks}
    return {
        "face_id": one.face_id,
        "kept": one.dropped is None,
        "reason": one.dropped,
        **one.quality.columns(),
        **place,
    }


add_verb(faces_app, show_faces, "show")
