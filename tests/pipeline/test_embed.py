"""embed: the library's own vectors, everything accounted for, taken up after a kill, films in bounded memory."""

import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import exprembed
from exprembed.data.faces import DetectedFace
from exprembed.data.vectors import vector_columns
from exprembed.errors import BadInputError, WrongUseError
from exprembed.pipeline import Flow, NamedFaces, ResultStore, WholeFaces, collect, digest_of, embed, stream, write

ROOT = Path(exprembed.__file__).resolve().parents[1]


def vectors_of(table):
    return table.filter(regex=r"^v\d").to_numpy()


class Boxes:
    """A detector that finds one face of fixed place in every picture that is not black, and counts its calls."""

    def __init__(self):
        self._seen = 0

    @property
    def seen(self):
        return self._seen

    def detect_batch(self, images):
        self._seen += len(images)
        points = np.array([[22.0, 26.0], [42.0, 26.0], [32.0, 38.0], [25.0, 48.0], [39.0, 48.0]])
        return [[DetectedFace((10, 8, 54, 60), points, 0.9)] if np.asarray(image).any() else [] for image in images]

    def detect(self, image):
        return self.detect_batch([image])[0]


def test_vectors_are_the_model_s(model, photos):
    table = embed(photos, model, aligned=True)
    paths = sorted(photos.iterdir())
    assert list(table.index) == list(table["path"]) == list(map(str, paths))
    np.testing.assert_allclose(vectors_of(table), model.embed(model.preprocess(paths)), atol=1e-5)
    assert table.attrs["model"] == model.fingerprint
    assert table.attrs["skipped"] == []


def test_faces_that_are_found(model, photos, tmp_path):
    table = embed(photos, model, detector=Boxes())
    assert all(name.endswith("#0") for name in table.index)
    assert {"left", "landmarks", "eyes", "detection_score", "yaw", "sharpness"} <= set(table.columns)
    assert "track" not in table


def test_what_is_left_out_is_told(model, photos, tmp_path):
    (photos / "a.jpg").write_text("hello")
    Image.new("RGB", (64, 64)).save(photos / "b.png")
    out = tmp_path / "out" / "faces.parquet"
    table = embed(photos, model, out, detector=Boxes())
    listed = pd.read_csv(out.parent / "skipped.csv")
    assert [Path(item).name for item in listed["item"]] == ["a.jpg", "b.png"]
    assert table.attrs["skipped"] == listed.to_numpy().tolist()
    assert len(table) == 12
    with pytest.raises(BadInputError, match=r"no face in 1 file; the first: .*no face found"):
        embed(photos / "b.png", model, detector=Boxes())
    with pytest.raises(WrongUseError, match="nothing to find"):
        embed(photos, model, aligned=True, detector=Boxes())


def test_only_what_is_new_or_changed_is_embedded(model, photos, rendered, tmp_path):
    out, detector = tmp_path / "faces.parquet", Boxes()
    first = embed(photos, model, out, detector=detector)
    assert detector.seen == 12
    again = embed(photos, model, out, detector=detector)
    assert detector.seen == 12
    pd.testing.assert_frame_equal(pd.DataFrame(first), pd.DataFrame(again))
    names = sorted(photos.iterdir())
    names[0].unlink()
    names[1].write_bytes(Path(rendered["path"].iloc[30]).read_bytes())
    (photos / "new.png").write_bytes(Path(rendered["path"].iloc[31]).read_bytes())
    third = embed(photos, model, out, detector=detector)
    assert detector.seen == 14
    assert sorted(third["path"]) == sorted(map(str, photos.iterdir()))
    assert not np.allclose(vectors_of(third.loc[[f"{names[1]}#0"]]), vectors_of(first.loc[[f"{names[1]}#0"]]))
    embed(photos, model, out, detector=detector, faces="largest")  # other options: all anew
    assert detector.seen == 14 + 12
    assert not (tmp_path / "faces.parquet.parts").exists()


def test_a_killed_job_goes_on(photos, rendered, tmp_path):
    """SIGKILL in the midst: what was written stays, and together it is what one run would have given."""
    many = tmp_path / "many"
    many.mkdir()
    for i in range(120):
        (many / f"{i:03d}.png").write_bytes(Path(rendered["path"].iloc[i % 40]).read_bytes())
    script = tmp_path / "job.py"
    script.write_text(
        textwrap.dedent(f"""
        import sys, time, torch
        from exprembed.models import FECNet
        from exprembed.pipeline import store, stream
        from exprembed.pipeline.cuts import WholeFaces
        from exprembed.pipeline.job import embed
        store._FILES = 10
        torch.manual_seed(0)
        model = FECNet(backbone="resnet10_grey48", dense_channels=0, hidden=16, embedding_dim=4).eval()
        cut = WholeFaces.__call__
        def counted(self, pictures):
            time.sleep(float(sys.argv[2]))
            with open(sys.argv[1], "a") as log:
                log.writelines(picture.name + "\\n" for picture in pictures)
            return cut(self, pictures)
        WholeFaces.__call__ = counted
        embed({str(many)!r}, model, {str(tmp_path / "faces.parquet")!r}, aligned=True, batch=8)
        """)
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    parts = tmp_path / "faces.parquet.parts"
    log = tmp_path / "log"
    job = subprocess.Popen([sys.executable, script, log, "0.5"], env=environment)
    deadline = time.monotonic() + 120
    while len(list(parts.glob("0*.parquet"))) < 2:
        assert job.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    job.kill()
    job.wait()
    assert not (tmp_path / "faces.parquet").exists()
    kept = len(list(parts.glob("0*.parquet")))
    log.unlink()
    subprocess.run([sys.executable, script, log, "0"], env=environment, check=True)
    again = log.read_text().split()
    assert len(again) == len(set(again)) <= 120 - 10 * kept + 10
    table = pd.read_parquet(tmp_path / "faces.parquet")
    assert list(table.index) == [str(many / f"{i:03d}.png") for i in range(120)]
    np.testing.assert_allclose(vectors_of(table)[:40], vectors_of(table)[40:80], atol=1e-5)


def test_half_of_a_film_in_an_earlier_part_is_not_taken_twice(model, film, photos, tmp_path):
    """Rows of a film that was cut off lie in a part; after the film was embedded again they are left out."""
    paths = [*sorted(photos.iterdir())[:3], film]
    make = lambda: ResultStore(tmp_path / "o.parquet", digest_of("same"), vector_columns(4))  # noqa: E731
    store = make()
    chunks = list(stream(model, paths, NamedFaces(WholeFaces(size=48)), Flow(batch=8)))
    store.add(
        [chunk._replace(skipped={k: v for k, v in chunk.skipped.items() if k < 3}) for chunk in chunks[:2]], paths
    )
    store = make()
    todo = store.take_up(paths)
    assert todo == [film]
    store.add(stream(model, todo, NamedFaces(WholeFaces(size=48)), Flow(batch=8)), todo)
    count, skipped = store.finish()
    assert (count, skipped) == (33, [])
    assert not pd.read_parquet(tmp_path / "o.parquet").index.has_duplicates


def test_a_film_s_faces_carry_time_and_track(model, film):
    table = embed(film, model, detector=Boxes())
    assert table["frame"].tolist() == list(range(30))
    np.testing.assert_allclose(table["time"], np.arange(30) / 10, atol=1e-6)
    assert set(table["track"]) == {0}
    assert table.index[7] == f"{film}@7#0"
    fewer = embed(film, model, detector=Boxes(), fps=2)
    assert fewer["frame"].tolist() == [0, 5, 10, 15, 20, 25]
    smooth = embed(film, model, detector=Boxes(), smooth=0.5)
    np.testing.assert_allclose(np.linalg.norm(vectors_of(smooth), axis=1), 1, atol=1e-5)
    steps = [np.linalg.norm(np.diff(vectors_of(one), axis=0), axis=1).sum() for one in (table, smooth)]
    assert steps[1] < 0.8 * steps[0]
    np.testing.assert_allclose(vectors_of(smooth)[0], vectors_of(table)[0], atol=1e-6)


def test_films_and_photos_keep_their_order_and_a_broken_film_its_reason(model, film, photos, tmp_path):
    (photos / "zz.mp4").write_bytes(film.read_bytes())
    (photos / "broken.mp4").write_bytes(film.read_bytes()[:200])
    table = embed(photos, model, aligned=True)
    assert list(dict.fromkeys(table["path"])) == [str(p) for p in sorted(photos.iterdir()) if p.name != "broken.mp4"]
    ((item, reason),) = table.attrs["skipped"]
    assert Path(item).name == "broken.mp4"
    assert "not a film that can be read" in reason


def test_pictures_in_memory_are_bounded(model, photos):
    """However slowly faces are embedded, decoding does not run ahead."""
    paths = sorted(photos.iterdir()) * 40
    decoded = []

    class Counting(WholeFaces):
        def __call__(self, pictures):
            decoded.extend(pictures)
            return super().__call__(pictures)

    threads = 2
    chunks = stream(model, paths, Counting(size=48), Flow(batch=8, threads=threads))
    next(chunks)
    time.sleep(0.5)
    found, waiting, embedded = (threads + 2) * 16, 2 * 8, (threads + 3) * 8
    assert len(decoded) <= found + waiting + embedded < len(paths) / 2
    chunks.close()


def test_the_faces_are_the_same_however_many_threads_there_are(model, photos):
    paths = sorted(photos.iterdir()) * 3
    before = torch.get_num_threads()
    results = []
    for threads in (1, 3):
        cut = WholeFaces(size=48)
        chunks = list(stream(model, paths, cut, Flow(batch=5, threads=threads)))
        results.append((pd.concat([chunk.faces for chunk in chunks]), np.concatenate([c.vectors for c in chunks])))
    pd.testing.assert_frame_equal(results[0][0], results[1][0])
    np.testing.assert_allclose(results[0][1], results[1][1], atol=1e-6)
    assert torch.get_num_threads() == before


def test_frames_without_a_face_are_told_in_one_line(model, tmp_path):
    av = pytest.importorskip("av")
    path = tmp_path / "dark.mp4"
    with av.open(str(path), "w") as out:
        stream_ = out.add_stream("mpeg4", rate=10)
        stream_.width = stream_.height = 64
        stream_.pix_fmt = "yuv420p"
        for i in range(6):
            image = Image.new("RGB", (64, 64), "white" if i < 2 else "black")
            out.mux(stream_.encode(av.VideoFrame.from_image(image)))
        out.mux(stream_.encode())
    table = embed(path, model, detector=Boxes())
    assert len(table) == 2
    ((_, reason),) = table.attrs["skipped"]
    assert reason == "no usable face in 4 of 6 frames; the first, at 0.200 s: no face found"


def test_write_takes_what_a_data_set_tells(model, photos, tmp_path):
    paths = sorted(photos.iterdir())
    known = pd.DataFrame({"age": range(12), "expression": ["joy"] * 12}, index=[str(path) for path in paths])
    written = write(model, paths, NamedFaces(WholeFaces(size=48)), Flow(), tmp_path / "o.parquet", "x", known=known)
    assert written == (12, 0, [])
    table = pd.read_parquet(tmp_path / "o.parquet")
    assert table["age"].tolist() == list(range(12))
    assert set(table["expression"]) == {"joy"}
    done = collect(
        model,
        paths,
        NamedFaces(WholeFaces(size=48), ids=dict(zip(map(str, paths), "abcdefghijkl", strict=True))),
        Flow(),
    )
    assert "".join(done.faces.index) == "abcdefghijkl"


def test_the_work_of_putting_parts_together_does_not_grow_with_the_files(model, photos, tmp_path, monkeypatch):
    """A part's description is read a few times, not once for each file that it holds."""
    from exprembed.pipeline import store as module

    paths, cut = sorted(photos.iterdir()), NamedFaces(WholeFaces(size=48))
    store = ResultStore(tmp_path / "o.parquet", "x", vector_columns(4))
    store.add(stream(model, paths, cut, Flow()), paths)
    read, metadata = [], module._metadata
    monkeypatch.setattr(module, "_metadata", lambda file: read.append(file) or metadata(file))
    assert store.finish() == (12, [])
    assert len(read) <= 4


@pytest.mark.parametrize("options", [{"fps": 0}, {"smooth": -1}, {"batch": 0}, {"threads": 0}, {"fps": float("nan")}])
def test_what_no_job_can_do_is_refused_without_a_film_too(model, photos, options):
    with pytest.raises(WrongUseError, match=next(iter(options))):
        embed(photos, model, aligned=True, **options)
