"""Emotion maps on classifiers whose areas are known: places, borders, neighbours, what is written and drawn."""

import doctest

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.colors import to_hex

from exprembed import CAKE, plots
from exprembed.errors import BadInputError, MissingExtraError, WrongUseError
from exprembed.plots import emotion_maps
from exprembed.plots.emotion_maps import class_f1, spherical
from exprembed.plots.style import expression_color

rng = np.random.default_rng(0)


class Quarters:
    """Four classes by the signs of the first two coordinates; another domain has halves."""

    def classify(self, vectors, domain):
        x, y = np.asarray(vectors)[:, 0] > 0, np.asarray(vectors)[:, 1] > 0
        if domain == "halves":
            return np.where(x, "fear", "anger")
        return np.where(x, np.where(y, "happiness", "fear"), np.where(y, "neutral", "anger"))


class Caps:
    """By height on the sphere: a cap of 60 degrees, a belt, a cap."""

    def classify(self, vectors, domain):
        z = np.asarray(vectors)[:, 2]
        return np.select([z > 0.5, z < -0.5], ["happiness", "sadness"], "neutral")


def unit(n=50):
    points = rng.normal(size=(n, 3))
    return points / np.linalg.norm(points, axis=1, keepdims=True)


SQUARE = np.array([[-1.0, -1.0], [1.0, 1.0], [-1.0, 1.0], [1.0, -1.0]])


def words(figure):
    found = [text.get_text() for text in figure.texts]
    for axes in figure.axes:
        found += [text.get_text() for text in (*axes.texts, axes._left_title, axes.xaxis.label, axes.yaxis.label)]
    return found


def test_the_plane_covers_the_observed_range():
    grid = plots.emotion_grid(Quarters(), "quarters", 3 * SQUARE, resolution=10)
    assert not grid.sphere
    assert grid.classes.shape == (10, 10)
    assert grid.x.tolist() == pytest.approx(np.arange(-2.7, 3, 0.6).tolist())
    assert grid.classes[0, 0] == "anger"
    assert grid.classes[0, -1] == "fear"
    assert grid.classes[-1, -1] == "happiness"


def test_borders_of_quarters():
    """Each half axis is a border of half the side: four of them, equally long; corners do not touch."""
    borders = plots.emotion_grid(Quarters(), "quarters", SQUARE, resolution=40).borders()
    for a, b in (("anger", "fear"), ("fear", "happiness"), ("happiness", "neutral"), ("anger", "neutral")):
        assert borders.loc[a, b] == borders.loc[b, a] == pytest.approx(0.25)
    assert borders.loc["anger", "happiness"] == 0
    grid = plots.emotion_grid(Quarters(), "quarters", SQUARE, resolution=40)
    assert len(grid.neighbours()) == 4
    assert not grid.neighbours(least=0.3)


def test_borders_on_the_sphere_are_measured_there():
    """Both circles at z = +-1/2 are equally long; in phi and theta they would be, too, and a pole no border at all."""
    grid = plots.emotion_grid(Caps(), "any", unit(), resolution=120)
    assert grid.sphere
    assert grid.classes.shape == (60, 120)
    assert grid.neighbours() == {("happiness", "neutral"), ("neutral", "sadness")}
    assert grid.borders().loc["happiness", "neutral"] == pytest.approx(0.5)


def test_the_seam_of_the_sphere_is_no_edge():
    """Halves by x: one great circle through the poles; half of it is at phi = +-90 degrees, none at the seam."""
    grid = plots.emotion_grid(Quarters(), "halves", unit(), resolution=80)
    assert grid.neighbours() == {("anger", "fear")}
    turned = plots.EmotionGrid(np.roll(grid.classes, 20, axis=1), grid.x, grid.y, True, grid.faces)
    assert turned.borders().equals(grid.borders())


def test_borders_by_faces_are_those_along_which_faces_lie():
    """Two faces at one half axis, beside the corners that span the map: its border is all that counts."""
    near = np.concatenate([SQUARE, [[0.0, -0.5], [0.01, -0.5]]])
    grid = plots.emotion_grid(Quarters(), "quarters", near, resolution=40)
    assert grid.faces.max() == 2
    assert grid.neighbours(by_faces=True) == {("anger", "fear")}
    assert grid.borders(by_faces=True).loc["anger", "fear"] == pytest.approx(1)
    assert len(grid.neighbours()) == 4


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000))
def test_spherical_coordinates_go_there_and_back(seed):
    points = np.random.default_rng(seed).normal(size=(9, 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    phi, theta = spherical(points).T
    back = np.stack([np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)], axis=1)
    assert np.abs(back - points).max() < 1e-9


def test_map_writes_classes_and_scores():
    labels = ["anger", "happiness", "neutral", "neutral"]
    figure = plots.emotion_map(Quarters(), "quarters", SQUARE, labels, 40, axes_names=("arousal", "valence"))
    assert class_f1(Quarters(), "quarters", SQUARE, labels) == {
        "anger": 1.0, "fear": 0.0, "happiness": 1.0, "neutral": pytest.approx(2 / 3)}  # fmt: skip
    assert {"anger\nF1 1.00", "fear\nF1 0.00", "happiness\nF1 1.00", "neutral\nF1 0.67"} <= set(words(figure))
    assert {"arousal", "valence", "quarters", "4 faces"} <= set(words(figure))
    colours = [to_hex(colour) for colour in figure.axes[0].collections[0].get_facecolors()]
    assert sorted(colours) == sorted(expression_color(name).lower() for name in labels)


def test_map_samples_names_what_has_no_area_and_needs_no_labels():
    vectors = rng.normal(size=(90, 2))
    figure = plots.emotion_map(Quarters(), "halves", vectors, ["disgust"] * 90, 20, max_points=30)
    assert len(figure.axes[0].collections[0].get_offsets()) == 30
    assert any("30 of 90 faces" in text and "no area: disgust (F1 0.00)" in text for text in words(figure))
    bare = plots.emotion_map(Quarters(), "halves", pd.DataFrame(vectors), resolution=20)
    assert {"anger", "fear"} <= set(words(bare))
    some = plots.emotion_map(Quarters(), "halves", vectors, [None, "fear"] * 45, 20)
    assert any("F1" in text for text in words(some))


def test_sphere_map_is_drawn_in_angles():
    figure = plots.emotion_map(Caps(), "any", unit(), resolution=40)
    axes = figure.axes[0]
    assert axes.get_xlim() == pytest.approx((-np.pi, np.pi))
    assert axes.get_ylim() == pytest.approx((0, np.pi))
    assert {"φ", "θ", "happiness", "neutral", "sadness"} <= set(words(figure))


def test_it_takes_a_real_model():
    model = CAKE(3, "resnet10_grey48", {"rafdb": 7}, normalize=True)
    points = unit(40)
    grid = plots.emotion_grid(model, "rafdb", points, 40)
    assert set(np.unique(grid.classes)) <= set(model.classes)
    with pytest.raises(WrongUseError, match="did you mean 'rafdb'"):
        plots.emotion_map(model, "rafd", points)


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (np.ones((4, 4)), r"\(n, 2\)"),
        (np.ones(4), r"\(n, 2\)"),
        (np.ones((0, 2)), r"\(n, 2\)"),
        (np.full((3, 2), np.nan), "vector 0 holds NaN"),
        (np.ones((3, 3)), "normalize=True"),
    ],
)
def test_bad_vectors(vectors, message):
    with pytest.raises(BadInputError, match=message):
        plots.emotion_map(Quarters(), "quarters", vectors)


def test_bad_labels_and_resolution():
    with pytest.raises(BadInputError, match="one label a vector"):
        plots.emotion_map(Quarters(), "quarters", SQUARE, ["fear"])
    with pytest.raises(BadInputError, match="no vector has a label"):
        plots.emotion_map(Quarters(), "quarters", SQUARE, [None] * 4)
    with pytest.raises(WrongUseError, match="at least 8"):
        plots.emotion_map(Quarters(), "quarters", SQUARE, resolution=2)


def test_globe(tmp_path):
    pytest.importorskip("plotly")
    points = unit(60)
    labels = [None if i % 6 == 0 else str(name) for i, name in enumerate(Caps().classify(points, "any"))]
    figure = plots.emotion_globe(Caps(), "any", points, labels, resolution=40, max_points=30)
    mesh, *scatters = figure.data
    corners = np.stack([mesh.x, mesh.y, mesh.z], axis=1)
    assert np.abs(np.linalg.norm(corners, axis=1) - 1).max() < 1e-9
    # Two triangles a cell of 20 x 40, each of its class's colour and of no other.
    middles = corners[np.stack([mesh.i, mesh.j, mesh.k], axis=1)].mean(axis=1)
    assert len(middles) == len(mesh.facecolor) == 2 * 20 * 40
    named = Caps().classify(middles / np.linalg.norm(middles, axis=1, keepdims=True), "any")
    shown = {}
    for name, color in zip(named, mesh.facecolor, strict=True):
        shown.setdefault(name, []).append(color)
    usual = {name: max(set(colors), key=colors.count) for name, colors in shown.items()}
    assert len(set(usual.values())) == len(set(mesh.facecolor)) == 3
    for name, colors in shown.items():
        assert colors.count(usual[name]) > 0.9 * len(colors)
    assert sum(len(scatter.x) for scatter in scatters) == 30
    assert {scatter.name for scatter in scatters} == {"happiness", "neutral", "sadness", "no label"}
    figure.write_html(tmp_path / "globe.html", include_plotlyjs="cdn")
    assert "plotly" in (tmp_path / "globe.html").read_text()
    with pytest.raises(BadInputError, match="unit vectors"):
        plots.emotion_globe(Caps(), "any", SQUARE)
    with pytest.raises(BadInputError, match="one label a vector"):
        plots.emotion_globe(Caps(), "any", points, ["fear"])


def test_globe_without_plotly(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "plotly.graph_objects", None)
    with pytest.raises(MissingExtraError, match=r"exprembed\[plots\]"):
        plots.emotion_globe(Caps(), "any", unit())


def test_docstring_examples():
    assert doctest.testmod(emotion_maps).failed == 0
