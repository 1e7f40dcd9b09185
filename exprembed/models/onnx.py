"""Embedders as single ONNX files: written with their preprocessing inside, checked against torch, run by onnxruntime."""

from __future__ import annotations

import copy
import importlib
import json
import warnings
from datetime import date
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor, nn

from exprembed.data.preprocessing import Preprocessing
from exprembed.data.synthetic import render_faces
from exprembed.errors import BadInputError, MissingExtraError, WrongUseError
from exprembed.files import atomic_path
from exprembed.models.base import Embedder, EmbedderOutput
from exprembed.models.embedding import embed_pixels
from exprembed.models.storage import NOT_STATED, STATED, example_difference, stored_example

FORMAT = 1
TOLERANCE = 1e-4
CHECKED_FACES = 16
INPUT, OUTPUT = "faces", "embeddings"
_METADATA = "exprembed"
_DUE = {"format", "config", "preprocessing", "embedding_dim", "metric", "classes", "fingerprint", "example"}
_OPSET = 18


def luma(pixels: Tensor) -> Tensor:
    """Return the grey levels (N, 1, H, W) uint8 of RGB (N, 3, H, W) uint8, to the last bit as Pillow's mode L.

    L = floor((19595 R + 38470 G + 7471 B + 2^15) / 2^16); all sums stay below 2^24, so float32 is exact.
    """
    weights = torch.tensor([19595.0, 38470.0, 7471.0], device=pixels.device).view(1, 3, 1, 1)
    sums = (pixels.float() * weights).sum(dim=1, keepdim=True)
    return torch.floor((sums + 2**15) / 2**16).to(torch.uint8)


class _Deployed(nn.Module):
    """What the file computes: (N, S, S, 3) uint8 RGB -> grey where the model is -> normalised -> (N, d)."""

    def __init__(self, model: Embedder) -> None:
        super().__init__()
        self.model = model

    def forward(self, faces: Tensor) -> Tensor:
        pixels = faces.permute(0, 3, 1, 2)
        if self.model.preprocessing.channels == 1:
            pixels = luma(pixels)
        output: EmbedderOutput = self.model(self.model.preprocessing.normalize(pixels))
        return output.embedding


def export_onnx(model: Embedder, path: str | Path, card: dict[str, Any] | None = None) -> float:
    """Write an embedder as one ONNX file, and check it against torch before the file is there.

    Input `faces` (N, S, S, 3): uint8 RGB face crops of the model's size S, aligned as its preprocessing says; output
    `embeddings` (N, d). Grey levels, equalisation, normalisation, and the mirror image where the model embeds it too,
    are computed inside. The metadata hold one JSON document under the key `exprembed`: preprocessing, metric, dimension,
    fingerprint, what the card states of licence and use, and an example.

    Args:
        model: any embedder; its mode and device stay as they are.
        path: the file, `*.onnx`; replaced atomically.
        card: what to state, as in `save_model`; a weights card will do.

    Returns:
        The largest difference from torch over rendered faces, max |e - e'| / max(1, max |e|): embeddings of length 1
        are compared as they are, longer ones by their own scale.

    Raises:
        MissingExtraError: without the extra `onnx`.
        WrongUseError: another suffix, or a model that is an ONNX file already.
        BadInputError: torch cannot export the model, or the file differs by more than 1e-4; nothing is written.
    """
    target = Path(path)
    if target.suffix != ".onnx":
        raise WrongUseError(f"ONNX models are written as .onnx; got {target.name!r}")
    if isinstance(model, OnnxEmbedder):
        raise WrongUseError(f"{model.path} is an ONNX model already: copy the file")
    onnx, *_ = [_require(package, "exporting to ONNX") for package in ("onnx", "onnxscript", "onnxruntime")]
    proto = _graph(model)
    document = {
        "format": FORMAT,
        "model": model.registered_name,
        "config": model.config,
        "preprocessing": model.preprocessing.to_dict(),
        "embedding_dim": model.embedding_dim,
        "metric": model.metric,
        "classes": list(model.classes),
        "fingerprint": model.fingerprint,
        "date": date.today().isoformat(),
        **{key: (card or {}).get(key, NOT_STATED) for key in STATED},
        "example": stored_example(model),
    }
    onnx.helper.set_model_props(proto, {_METADATA: json.dumps(document, ensure_ascii=False, allow_nan=False)})
    with atomic_path(target) as temporary:
        temporary.write_bytes(proto.SerializeToString())
        difference = _difference(model, OnnxEmbedder(temporary))
        if not difference <= TOLERANCE:  # NaN too
            raise BadInputError(
                f"the exported model differs from torch by {difference:.2g} where {TOLERANCE:g} is allowed; {target} was "
                "not written"
            )
    return difference


def load_onnx(path: str | Path) -> OnnxEmbedder:
    """Load what `export_onnx` wrote, and check it with the example it holds; `load_model` calls this for `*.onnx`.

    Raises:
        MissingExtraError: without onnxruntime.
        BadInputError: no such file, not such a file, or one that gives other numbers than it should.
    """
    model = OnnxEmbedder(path)
    expected = np.asarray(model.card["example"]["embedding"])
    difference = example_difference(model, model.card)
    if not difference <= TOLERANCE * max(1.0, float(np.abs(expected).max())):
        raise BadInputError(
            f"{path} gives another embedding for the example it holds (difference {difference:.2g}): the file is damaged"
        )
    return model


class OnnxEmbedder(Embedder):
    """An exported embedder, run by onnxruntime on the CPU; it embeds and does nothing else.

    Used like the model it came from, whose fingerprint it bears: vectors of both may be mixed. Only what `preprocess`
    returns differs: (N, S, S, 3) uint8 RGB, because the file normalises for itself.

    Args:
        path: a file that `export_onnx` wrote.
        threads: CPU threads; None takes as many as torch is set to.

    Attributes:
        path: the file.
        card: the file's own account of itself: definition, licence, intended use, example.
    """

    def __init__(self, path: str | Path, threads: int | None = None) -> None:
        onnxruntime = _require("onnxruntime", "running an ONNX model")
        place = Path(path)
        if not place.is_file():
            raise BadInputError(f"there is no ONNX file {path}")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or torch.get_num_threads()
        options.log_severity_level = 3
        try:
            session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's errors have no common base of their own
            raise BadInputError(f"{path} cannot be read as an ONNX model: {error}") from error
        card = _card(place, session.get_modelmeta().custom_metadata_map.get(_METADATA))
        preprocessing = Preprocessing.from_dict(card["preprocessing"])
        super().__init__(card["config"], preprocessing, card["embedding_dim"], card["classes"])
        self.metric = card["metric"]
        self.path = place
        self.card = card
        self._session = session
        self.eval()

    def __reduce__(self) -> tuple[Any, ...]:
        """Cross to another process as the file's path: a session cannot be sent."""
        return type(self), (self.path.absolute(),)

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the model that was exported."""
        return str(self.card["fingerprint"])

    def prepare(self, pixels: Tensor) -> Tensor:
        """Return (N, S, S, 3) uint8 of (N, C, S, S) uint8 crops; the luma of three equal channels is that channel."""
        return pixels.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).contiguous()

    def check(self, images: Any) -> None:  # noqa: ANN401 - whatever a user passes
        """Raise BadInputError unless `images` is what `preprocess` gives."""
        side = self.preprocessing.size
        if not isinstance(images, Tensor) or images.dtype != torch.uint8 or images.shape[1:] != (side, side, 3):
            kind = str(getattr(images, "dtype", type(images).__name__)).removeprefix("torch.")
            raise BadInputError(
                f"got {tuple(getattr(images, 'shape', ()))} {kind} where (N, {side}, {side}, 3) uint8 RGB is due; pass it "
                "through this model's preprocess first (an ONNX model normalises for itself)"
            )

    def forward(self, images: Tensor) -> EmbedderOutput:
        """Return the embedding of what `preprocess` gave."""
        self.check(images)
        return EmbedderOutput(torch.from_numpy(self._session.run([OUTPUT], {INPUT: images.cpu().numpy()})[0]))

    def features(self, images: Tensor) -> NoReturn:
        """Refuse: the backbone's maps are inside the graph."""
        raise WrongUseError(f"{self.path} only embeds; its maps need the .safetensors weights")

    def save(self, path: str | Path, card: dict[str, Any] | None = None, half: bool = False) -> NoReturn:
        """Refuse: the file is there already."""
        raise WrongUseError(f"{self.path} is this model's file: copy it")


def onnx_card(path: str | Path) -> dict[str, Any]:
    """Return what an exported file says of itself."""
    return OnnxEmbedder(path, threads=1).card


def _card(path: Path, text: str | None) -> dict[str, Any]:
    if text is None:
        raise BadInputError(f"{path} is an ONNX model of another origin; 'exprembed export onnx' writes what is due")
    try:
        card = json.loads(text)
    except ValueError as error:
        raise BadInputError(f"the metadata of {path} cannot be read: {error}") from error
    if not isinstance(card, dict) or card.get("format") != FORMAT or not set(card) >= _DUE:
        raise BadInputError(f"the metadata of {path} are not those of format {FORMAT}; export the model anew")
    return card


def _graph(model: Embedder) -> Any:  # noqa: ANN401 - onnx.ModelProto, whose package is optional
    """Return the ONNX graph of `_Deployed`, without the paths of this machine that torch notes at each node."""
    deployed = _Deployed(copy.deepcopy(model).cpu()).eval()
    side = model.preprocessing.size
    faces = torch.zeros(2, side, side, 3, dtype=torch.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            program = torch.onnx.export(
                deployed,
                (faces,),
                dynamo=True,
                opset_version=_OPSET,
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_shapes=({0: torch.export.Dim("n")},),
                verbose=False,
            )
        except torch.onnx.OnnxExporterError as error:
            reason = str(error.__cause__ or error).strip().splitlines()[0]
            raise BadInputError(f"torch cannot export {type(model).__name__} to ONNX: {reason}") from error
    proto = program.model_proto  # type: ignore[union-attr]
    graphs = [proto.graph, *proto.functions]
    for graph in graphs:
        del graph.metadata_props[:]
        for node in graph.node:
            del node.metadata_props[:]
    return proto


def _difference(model: Embedder, exported: OnnxEmbedder) -> float:
    """Return max |e - e'| / max(1, max |e|) over rendered faces, in batches of several sizes."""
    images, _ = render_faces(CHECKED_FACES, subjects=4, seed=1, size=max(48, model.preprocessing.size))
    pixels = model.preprocessing.pixels(list(images))
    theirs, ours = embed_pixels(exported, pixels, 5), embed_pixels(model, pixels)
    return float(np.abs(theirs - ours).max() / max(1.0, float(np.abs(ours).max())))


def _require(package: str, purpose: str) -> Any:  # noqa: ANN401 - a module
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise MissingExtraError(package, "onnx", purpose) from error
