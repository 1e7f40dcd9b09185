"""Films: frames with their times, some of them on request, and errors that name the file."""

import numpy as np
import pytest
from PIL import Image

from exprembed.errors import BadInputError, WrongUseError
from exprembed.pipeline import read_frames

pytest.importorskip("av")


def test_every_frame_comes_with_its_time(film, rendered):
    frames = list(read_frames(film))
    assert [frame.number for frame in frames] == list(range(30))
    np.testing.assert_allclose([frame.time for frame in frames], np.arange(30) / 10, atol=1e-6)
    for frame in frames[::5]:
        due = np.asarray(Image.open(rendered["path"].iloc[frame.number // 3]).convert("RGB"), float)
        assert frame.image.mode == "RGB"
        assert np.abs(np.asarray(frame.image, float) - due).mean() < 12


@pytest.mark.parametrize(
    ("fps", "due"), [(5, range(0, 30, 2)), (1, (0, 10, 20)), (3, (0, 4, 7, 10, 14, 17, 20, 24, 27)), (50, range(30))]
)
def test_frames_a_second(film, fps, due):
    assert [frame.number for frame in read_frames(film, fps=fps)] == list(due)


def test_reading_may_stop_early(film):
    frames = read_frames(film)
    next(frames)
    frames.close()


def test_what_is_no_film_is_named(tmp_path, film):
    (tmp_path / "text.mp4").write_text("hello")
    (tmp_path / "empty.mp4").touch()
    for name in ("text.mp4", "empty.mp4", "absent.mp4"):
        with pytest.raises(BadInputError, match=name):
            list(read_frames(tmp_path / name))
    with pytest.raises(BadInputError, match="64 x 64 pixels, more than the limit of 1,000"):
        list(read_frames(film, max_pixels=1000))
    with pytest.raises(WrongUseError, match="above 0; got 0"):
        list(read_frames(film, fps=0))


def test_sound_alone_has_no_pictures(tmp_path):
    import av

    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("aac", rate=8000, layout="mono")
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), format="fltp", layout="mono")
        sound.rate = 8000
        out.mux(stream.encode(sound))
        out.mux(stream.encode())
    with pytest.raises(BadInputError, match="no pictures"):
        list(read_frames(path))
