"""A tiny untrained model, rendered pictures, films made of them."""

from pathlib import Path

import pytest
from PIL import Image

from exprembed.data.synthetic import render_faces, save_faces


@pytest.fixture(scope="session")
def model():
    import torch

    from exprembed.models import FECNet

    torch.manual_seed(0)
    return FECNet(backbone="resnet10_grey48", dense_channels=0, hidden=16, embedding_dim=4).eval()


@pytest.fixture(scope="session")
def rendered(tmp_path_factory):
    images, faces = render_faces(40, 5, seed=3, size=64)
    return save_faces(images, faces, tmp_path_factory.mktemp("rendered"))


@pytest.fixture
def photos(tmp_path, rendered):
    """A folder of twelve pictures."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in rendered.index[:12]:
        (folder / f"{name}.png").write_bytes(Path(rendered.loc[name, "path"]).read_bytes())
    return folder


@pytest.fixture(scope="session")
def film(tmp_path_factory, rendered):
    """Thirty frames of 64 x 64 at 10 frames a second; frame i shows rendered face i // 3."""
    av = pytest.importorskip("av")
    path = tmp_path_factory.mktemp("films") / "clip.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        stream.bit_rate = 2_000_000
        for i in range(30):
            image = Image.open(rendered["path"].iloc[i // 3]).convert("RGB")
            out.mux(stream.encode(av.VideoFrame.from_image(image)))
        out.mux(stream.encode())
    return path
