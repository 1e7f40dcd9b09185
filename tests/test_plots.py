"""The figures: what is drawn is what was given, nothing is global, bad input is named."""

import io
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.colors import to_hex, to_rgba

from exprembed import plots
from exprembed.data.tables import EXPRESSIONS
from exprembed.errors import BadInputError, MissingExtraError, WrongUseError
from exprembed.plots.style import spread

rng = np.random.default_rng(0)
GREY = {f"f{i}": np.full((8, 8), 20 * i, np.uint8) for i in range(12)}


def words(figure):
    found = [text.get_text() for text in figure.texts]
    for axes in figure.axes:
        found += [text.get_text() for text in (*axes.texts, axes.title, axes._left_title, axes.xaxis.label)]
    return [text for text in found if text]


def png(figure):
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=50)
    assert buffer.getvalue().startswith(b"\x89PNG")
    return buffer.getvalue()


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(-100, 100), min_size=1, max_size=12), st.floats(0.01, 20))
def test_spread_keeps_order_gap_and_mean(positions, gap):
    moved = spread(positions, gap)
    order = np.argsort(positions, kind="stable")
    assert (np.diff(moved[order]) >= gap - 1e-6).all()
    assert moved.mean() == pytest.approx(np.mean(positions), abs=1e-6)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(-50, 50), min_size=1, max_size=12, unique=True))
def test_spread_leaves_alone_what_is_apart(positions):
    assert spread(positions, 1.0) == pytest.approx(positions)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(-9, 9), min_size=1, max_size=8))
def test_spread_stays_within_bounds(positions):
    moved = spread(positions, 0.5, low=0.0, high=4.0)
    assert moved.min() >= -1e-9
    assert moved.max() <= 4 + 1e-9
    assert (np.diff(np.sort(moved)) >= 0.5 - 1e-9).all()


def test_each_expression_has_its_own_colour():
    colours = [plots.expression_color(name) for name in EXPRESSIONS]
    assert len(set(colours)) == len(EXPRESSIONS)
    assert plots.expression_color("Happiness") == plots.expression_color("happiness")


def test_pca_of_plane_data_keeps_all_distances():
    flat = rng.normal(size=(30, 2))
    turned = flat @ np.linalg.qr(rng.normal(size=(5, 2)))[0].T
    places = plots.project(turned, "pca")
    given_, found = (np.linalg.norm(x[:, None] - x[None], axis=-1) for x in (turned, places))
    np.testing.assert_allclose(found, given_, atol=1e-9)


def test_pca_of_one_dimension_and_of_equal_vectors():
    assert plots.project(np.arange(5.0)[:, None], "pca")[:, 1].tolist() == [0] * 5
    assert np.isfinite(plots.project(np.ones((5, 3)), "tsne")).all()


def test_tsne_is_a_function_of_the_seed():
    x = rng.normal(size=(40, 4))
    assert np.array_equal(plots.project(x, seed=1), plots.project(x, seed=1))


@pytest.mark.parametrize("vectors", [np.ones(4), np.ones((3, 2)), np.full((9, 2), np.nan)])
def test_project_refuses_bad_vectors(vectors):
    with pytest.raises(BadInputError):
        plots.project(vectors)


def test_project_names_the_nearest_method():
    with pytest.raises(WrongUseError, match="tsne"):
        plots.project(np.eye(5), "t-sne")


def test_map_draws_every_face_in_its_colour_and_names_every_class():
    labels = ["fear"] * 12 + ["happiness"] * 8
    figure = plots.embedding_map(pd.DataFrame(rng.normal(size=(20, 3))), labels, "pca", title="Map")
    points = figure.axes[0].collections[0]
    drawn = [to_hex(colour) for colour in points.get_facecolors()]
    assert drawn.count(plots.expression_color("fear").lower()) == 12
    assert drawn.count(plots.expression_color("happiness").lower()) == 8
    assert {"fear", "happiness", "Map", "PCA, 20 faces"} <= set(words(figure))
    png(figure)


def test_map_says_that_it_sampled_and_takes_missing_labels():
    labels = pd.Series(["fear", None] * 10)
    figure = plots.embedding_map(rng.normal(size=(20, 3)), labels, "pca", max_points=10)
    assert len(figure.axes[0].collections[0].get_offsets()) == 10
    assert any("10 of 20 faces" in text for text in words(figure))
    with pytest.raises(BadInputError, match="one label a vector"):
        plots.embedding_map(np.eye(4), ["fear"], "pca")


def test_names_on_a_map_do_not_overlap():
    figure = plots.embedding_map(np.zeros((16, 2)) + 1e-3 * rng.normal(size=(16, 2)), list(EXPRESSIONS) * 2, "pca")
    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    overlaps = [(i, j) for i in range(8) for j in range(i) if boxes[i].overlaps(boxes[j])]
    assert not overlaps


@pytest.mark.parametrize("draw", [plots.knn_curve, plots.dimensionality_curve])
def test_curves_draw_what_was_given(draw):
    figure = draw({"ours": ([8, 2, 4], [3.0, 1.0, 2.0], [0.1, 0.2, 0.3])}, "T", {"raters": 5.0})
    line = figure.axes[0].lines[0]
    assert line.get_xdata().tolist() == [2, 4, 8]
    assert line.get_ydata().tolist() == [1, 2, 3]
    assert {"ours", "raters", "T"} <= set(words(figure))
    assert [tick.get_text() for tick in figure.axes[0].get_xticklabels()] == ["2", "4", "8"]
    png(figure)


def test_line_names_stay_inside_the_figure_and_apart():
    names = {f"a network with a long name {i}": ([1, 10, 100], [50, 60, 70 + i / 100]) for i in range(6)}
    figure = plots.knn_curve(names)
    figure.canvas.draw()
    for text in figure.axes[0].texts:
        text.arrow_patch = text.arrowprops = None  # only the words count
    boxes = sorted((text.get_window_extent() for text in figure.axes[0].texts), key=lambda box: box.y0)
    assert max(box.x1 for box in boxes) <= figure.bbox.width
    assert boxes[0].y0 >= 0
    assert boxes[-1].y1 <= figure.bbox.height
    assert all(low.y1 <= high.y0 + 1 for low, high in pairwise(boxes))


@pytest.mark.parametrize("curves", [{}, {"x": ([], [])}, {"x": ([1, 2], [1.0])}])
def test_curves_refuse_what_cannot_be_drawn(curves):
    with pytest.raises(BadInputError):
        plots.knn_curve(curves)


def test_rank_difference_is_within_one():
    figure = plots.rank_difference_curve([1, 2], [0.5, -0.25], "fecnet", "softmax")
    assert {"fecnet better", "softmax better"} <= set(words(figure))
    low, high = figure.axes[0].get_ylim()
    assert low == -high
    with pytest.raises(BadInputError, match=r"\[-1, 1\]"):
        plots.rank_difference_curve([1], [1.5])


def test_bars_have_the_lengths_and_the_ceiling_given():
    accuracy = {"ours": {"one_class": 60.0, "all": 70.0}, "other": {"one_class": 40.0, "all": np.nan}}
    figure = plots.triplet_bars(accuracy, {"one_class": 85.0, "all": 88.0}, title="T", ceiling_name="simulated rater")
    first, second = figure.axes
    assert [bar.get_width() for bar in first.patches] == [60, 40]
    assert [bar.get_width() for bar in second.patches] == [70, 0]
    assert [tick.get_text() for tick in first.get_yticklabels()] == ["ours", "other"]
    assert {"one-class", "all", "60.0", "40.0", "85.0", "88.0", "T"} <= set(words(figure))
    assert "nan" not in " ".join(words(figure))
    assert any("simulated rater" in text for text in words(figure))
    with pytest.raises(BadInputError, match="no accuracy"):
        plots.triplet_bars({})


def test_retrieval_sheet_shows_each_picture_in_its_place():
    captions = dict.fromkeys(GREY, "fear")
    figure = plots.retrieval_sheet(GREY, ["f0", "f1"], [[["f2", "f3"], ["f4"]], [["f5"], ["f6"]]], ["A", "B"], captions)
    drawn = figure.axes[0].images
    assert [int(image.get_array()[0, 0]) // 20 for image in drawn] == [0, 1, 2, 3, 4, 5, 6]
    left, top = ([image.get_extent()[side] for image in drawn] for side in (0, 3))
    assert left[0] == left[1] < left[2] == left[4] < left[3] < left[5] == left[6]
    assert top[0] == top[2] == top[3] == top[5] > top[1] == top[4] == top[6]
    assert words(figure).count("fear") == 7
    assert {"query", "A", "B"} <= set(words(figure))
    assert {to_rgba(text.get_color()) for text in figure.axes[0].texts if text.get_text() == "fear"} == {
        to_rgba(plots.expression_color("fear"))
    }
    png(figure)


def test_album_sheet_shows_rows_sizes_and_captions():
    figure = plots.album_sheet(GREY, {"A": ["f0", "f1"], "B": ["f2"]}, {"A": [7, 3]}, {"f0": "joy"})
    assert len(figure.axes[0].images) == 3
    assert {"A", "B", "×7", "×3", "joy"} <= set(words(figure))


def test_colour_pictures_pass_and_others_are_refused():
    colour = {"a": np.zeros((4, 4, 3), np.uint8)}
    plots.album_sheet(colour, {"x": ["a"]})
    for wrong in (np.zeros((4, 4)), np.zeros((3, 8, 8), np.uint8), np.zeros(4, np.uint8)):
        with pytest.raises(BadInputError, match="uint8"):
            plots.album_sheet({"a": wrong}, {"x": ["a"]})


def test_sheets_refuse_missing_pictures_and_wrong_counts():
    with pytest.raises(BadInputError, match="no picture for 'nobody'"):
        plots.retrieval_sheet(GREY, ["f0"], [[["nobody"]]])
    with pytest.raises(BadInputError, match="1 queries"):
        plots.retrieval_sheet(GREY, ["f0", "f1"], [[["f2"]]])
    with pytest.raises(BadInputError, match="no pictures"):
        plots.album_sheet(GREY, {})


def test_without_matplotlib_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match=r"exprembed\[plots\]"):
        plots.knn_curve({"x": ([1], [1.0])})


def test_no_figure_touches_pyplot_or_torch():
    code = (
        "import sys, io; from exprembed.plots import knn_curve\n"
        "assert 'matplotlib' not in sys.modules\n"
        "knn_curve({'x': ([1, 2], [1.0, 2.0])}).savefig(io.BytesIO())\n"
        "print({'matplotlib.pyplot', 'torch', 'faiss'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_face_rows_show_what_was_given():
    grey = rng.random((3, 5, 6))
    figure = plots.face_rows({"input": grey, "colour": np.full((3, 5, 6, 3), 51, np.uint8)}, "faces")
    shown = [axes.images[0].get_array() for axes in figure.axes]
    assert len(shown) == 6
    assert np.array_equal(shown[1], grey[1])
    assert np.allclose(shown[3], 0.2)
    assert [axes.get_ylabel() for axes in figure.axes[::3]] == ["input", "colour"]
    for wrong in ({}, {"a": grey, "b": grey[:2]}, {"a": grey[:0]}):
        with pytest.raises(BadInputError, match="as many pictures"):
            plots.face_rows(wrong)


def test_sweep_curve():
    figure = plots.sweep_curve({"S1R1": ([0.1, 1.0, 10.0], [50.0, 60.0, 55.0], [1.0, 2.0, 1.0])}, "lambda", "Figure 11")
    assert figure.axes[0].get_xlabel() == "lambda"
    assert figure.axes[0].get_ylabel() == "accuracy, %"
    assert figure.axes[0].lines[0].get_ydata().tolist() == [50.0, 60.0, 55.0]
