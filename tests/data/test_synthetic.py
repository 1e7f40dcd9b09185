"""Synthetic faces: labels, independence of their three sources, what action units do, triplets true to the distance."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from exprembed.data import synthetic
from exprembed.data.synthetic import ACTION_UNITS, AU_COLUMNS, render_expressions, render_faces, render_sequence
from exprembed.data.tables import EXPRESSIONS, FaceTable
from exprembed.errors import BadInputError, WrongUseError

SIDES_OF_MOUTH = [48, 54]
INNER_LIPS = [62, 66]  # middle of the upper and of the lower inner lip
UPPER_LIDS, LOWER_LIDS = [37, 38, 43, 44], [41, 40, 47, 46]
INNER_BROWS, OUTER_BROWS = [20, 21, 22, 23], [17, 18, 25, 26]
CHIN = 8


@pytest.fixture(scope="module")
def gallery():
    return render_faces(n=500, subjects=20, seed=3, size=48)


def points_of(faces: pd.DataFrame) -> np.ndarray:
    return np.array(faces["landmarks"].tolist()).reshape(len(faces), 68, 2)


def with_unit(**units: float) -> tuple[np.ndarray, np.ndarray]:
    """Neutral face and the same face with some action units: images (2, 112, 112, 3), landmarks (2, 68, 2)."""
    images, faces = render_expressions(pd.DataFrame([dict.fromkeys(units, 0.0), units]), seed=4, subject=2, scene=1)
    return images.astype(float), points_of(faces)


def around(image: np.ndarray, points: np.ndarray, margin: int = 3) -> np.ndarray:
    low, high = np.floor(points.min(axis=0)).astype(int) - margin, np.ceil(points.max(axis=0)).astype(int) + margin
    return image[low[1] : high[1], low[0] : high[0]]


def test_images_and_labels_are_complete_and_in_range(gallery):
    images, faces = gallery
    assert images.shape == (500, 48, 48, 3)
    assert images.dtype == np.uint8
    assert isinstance(faces, FaceTable)
    assert set(faces["expression"]) == set(EXPRESSIONS)
    assert faces["expression"].value_counts().min() >= 50
    assert faces[list(AU_COLUMNS)].to_numpy().max() <= 5
    assert faces[["valence", "arousal"]].abs().to_numpy().max() <= 1
    assert faces["valence"].min() < -0.7
    assert faces["valence"].max() > 0.7
    assert not faces.drop(columns="landmarks").isna().to_numpy().any()
    assert images.reshape(500, -1).std(axis=1).min() > 10  # none is blank


def test_same_seed_same_faces_and_another_seed_other_faces():
    first, table = render_faces(12, 4, seed=5, size=40)
    again, same = render_faces(12, 4, seed=5, size=40)
    other, _ = render_faces(12, 4, seed=6, size=40)
    assert (first == again).all()
    pd.testing.assert_frame_equal(pd.DataFrame(table), pd.DataFrame(same))
    assert (first != other).any(axis=(1, 2, 3)).all()


def test_a_longer_gallery_begins_with_the_shorter_one():
    short, few = render_faces(20, 6, seed=1, size=40)
    long, many = render_faces(75, 6, seed=1, size=40)
    pd.testing.assert_frame_equal(pd.DataFrame(few), pd.DataFrame(many).iloc[:20])
    assert (short == long[:20]).all()


def test_every_reference_is_a_truly_neutral_face_of_the_same_subject(gallery):
    _, faces = gallery
    references = faces.loc[faces["reference"]]
    assert (references["subject"].to_numpy() == faces["subject"].to_numpy()).all()
    assert (references[list(AU_COLUMNS)].to_numpy() == 0).all()
    assert (references["expression"] == "neutral").all()
    assert (references[["valence", "arousal"]].to_numpy() == 0).all()


def test_splits_share_no_subject(gallery):
    _, faces = gallery
    assert faces.groupby("subject")["split"].nunique().max() == 1
    assert (faces["split"] == "validation").mean() == pytest.approx(0.2)


def test_prototypes_lie_in_their_quadrants_of_valence_and_arousal(gallery):
    means = pd.DataFrame(gallery[1]).groupby("expression")[["valence", "arousal"]].mean()
    assert means["valence"].idxmax() == "happiness"
    assert (means.loc[["sadness", "fear", "disgust", "anger", "contempt"], "valence"] < -0.1).all()
    assert means["arousal"].idxmin() == "sadness"
    assert (means.loc[["surprise", "fear", "anger"], "arousal"] > 0.3).all()


def test_expression_is_independent_of_identity_pose_light_and_glasses():
    _, faces = render_faces(1600, 40, seed=11, size=32)
    faces = pd.DataFrame(faces).iloc[40:]
    faces["glasses"] = faces["glasses"].astype(float)
    scene = faces[["yaw", "pitch", "roll", "light", "glasses"]].to_numpy()
    shown = np.column_stack([faces[list(AU_COLUMNS)], faces["valence"], faces["arousal"]])
    correlations = np.corrcoef(scene.T, shown.T)[:5, 5:]
    assert np.abs(correlations).max() < 4.5 / np.sqrt(len(faces))  # 95 pairs; 4.5 sigma
    counts = pd.crosstab(faces["subject"], faces["expression"]).to_numpy()
    assert counts.max() - counts.min() <= 1  # every round of eight shows every expression
    subject_share = faces.groupby("subject")[list(AU_COLUMNS)].mean().var() / faces[list(AU_COLUMNS)].var()
    assert subject_share.max() < 0.08  # 39 faces a subject: about 1 / 39 by chance


def test_subjects_differ_in_shape_and_a_subject_keeps_its_shape():
    table = pd.DataFrame({"au_12": [0.0]})
    shapes = [[points_of(render_expressions(table, 0, s, 64, scene=c)[1])[0] for c in (0, 1)] for s in range(4)]
    eyes = [np.linalg.norm(p[0][36:42].mean(0) - p[0][42:48].mean(0)) for p in shapes]
    wide = [np.ptp(p[0][:17, 0]) / eye for p, eye in zip(shapes, eyes, strict=True)]
    assert np.ptp(wide) > 0.05
    same = render_expressions(table, 0, 1, 64, scene=0)[0]
    assert (same == render_expressions(table, 0, 1, 64, scene=0)[0]).all()


def test_landmarks_are_in_the_order_of_ibug_and_inside_a_generous_frame(gallery):
    _, faces = gallery
    p = points_of(faces) / 48
    assert p.min() > -0.25
    assert p.max() < 1.3
    x, y = p[..., 0], p[..., 1]
    assert (np.diff(x[:, :17], axis=1).mean(axis=0) > 0).all()  # the jaw runs from the left to the right
    assert (x[:, 36] < x[:, 39]).all()
    assert (x[:, 39] < x[:, 42]).all()
    assert (x[:, 42] < x[:, 45]).all()
    assert (x[:, 48] < x[:, 54]).all()
    assert (y[:, 17:27].mean(axis=1) < y[:, 36:48].mean(axis=1)).all()
    assert (y[:, 36:48].mean(axis=1) < y[:, 30]).all()
    assert (y[:, 33] < y[:, 62]).all()
    assert (y[:, 57] < y[:, 8]).all()
    apart = np.linalg.norm(p[:, 36:42].mean(axis=1) - p[:, 42:48].mean(axis=1), axis=1)
    assert apart.mean() == pytest.approx(0.38, abs=0.02)
    assert p[:, 36:48].mean(axis=(0, 1)) == pytest.approx([0.5, 0.365], abs=0.02)


def test_boxes_lie_within_the_image(gallery):
    _, faces = gallery
    assert faces[["left", "top"]].to_numpy().min() >= 0
    assert faces[["right", "bottom"]].to_numpy().max() <= 48


@pytest.mark.parametrize(
    ("unit", "points", "axis", "sign"),
    [
        ("au_01", INNER_BROWS[1:3], 1, -1),
        ("au_02", OUTER_BROWS[1:3], 1, -1),
        ("au_04", INNER_BROWS, 1, 1),
        ("au_05", UPPER_LIDS, 1, -1),
        ("au_06", LOWER_LIDS, 1, -1),
        ("au_07", LOWER_LIDS, 1, -1),
        ("au_09", [31, 33, 35], 1, -1),
        ("au_10", [50, 51, 52], 1, -1),
        ("au_12", SIDES_OF_MOUTH, 1, -1),
        ("au_14", SIDES_OF_MOUTH, 1, -1),
        ("au_15", SIDES_OF_MOUTH, 1, 1),
        ("au_17", [57, 66], 1, -1),
        ("au_25", [66], 1, 1),
        ("au_26", [CHIN, 57], 1, 1),
        ("au_43", UPPER_LIDS, 1, 1),
    ],
)
def test_action_unit_moves_its_landmarks(unit, points, axis, sign):
    _, p = with_unit(**{unit: 5.0})
    moved = sign * (p[1, points, axis] - p[0, points, axis])
    assert (moved > 0.5).all()
    half = with_unit(**{unit: 2.5})[1]
    assert (sign * (half[1, points, axis] - half[0, points, axis]) < moved).all()


def test_lips_stretch_tighten_and_part():
    def width(p: np.ndarray) -> np.ndarray:
        return p[:, 54, 0] - p[:, 48, 0]

    def gap(p: np.ndarray) -> np.ndarray:
        return p[:, 66, 1] - p[:, 62, 1]

    _, stretched = with_unit(au_20=5.0)
    assert width(stretched)[1] > width(stretched)[0] + 4
    _, tight = with_unit(au_23=5.0)
    assert width(tight)[1] < width(tight)[0] - 1
    red = tight[:, 57, 1] - tight[:, 51, 1]
    assert red[1] < 0.6 * red[0]
    _, parted = with_unit(au_25=4.0, au_26=4.0)
    assert gap(parted)[0] == pytest.approx(0, abs=0.1)
    assert gap(parted)[1] > 6
    _, closed = with_unit(au_26=4.0)  # a jaw that drops behind closed lips does not part them
    assert gap(closed)[1] == pytest.approx(0, abs=0.1)


def test_brow_lowerer_pulls_the_brows_together():
    _, p = with_unit(au_04=5.0)
    assert p[1, 22, 0] - p[1, 21, 0] < p[0, 22, 0] - p[0, 21, 0] - 1


def test_closed_eyes_hide_iris_and_white():
    images, p = with_unit(au_43=5.0)
    opened, closed = (around(image, p[0, 36:42], margin=-1) for image in images)
    assert np.ptp(opened.mean(axis=2)) > 90
    assert np.ptp(closed.mean(axis=2)) < 0.8 * np.ptp(opened.mean(axis=2))
    assert np.linalg.norm(p[1, 37] - p[1, 41]) < 0.35 * np.linalg.norm(p[0, 37] - p[0, 41])


def test_open_mouth_shows_dark_and_teeth():
    images, p = with_unit(au_25=5.0, au_26=5.0)
    shut, wide = (around(image, p[1, 60:68], margin=-1) for image in images)
    assert wide.mean(axis=2).min() < shut.mean(axis=2).min() - 3
    assert wide[..., 2].max() > shut[..., 2].max() + 20  # teeth are bluer than skin and lips


@pytest.mark.parametrize("unit", AU_COLUMNS)
def test_every_action_unit_changes_the_picture_and_only_the_face(unit):
    units = {unit: 4.0, "au_25": 4.0} if unit == "au_26" else {unit: 4.0}
    images, _ = with_unit(**units)
    change = np.abs(images[1] - images[0]).mean(axis=2)
    assert change.max() > 20
    assert change[:8, :8].max() == 0  # the background's corner
    assert change[:8, -8:].max() == 0


def test_one_sided_smile_raises_one_corner_and_is_no_pleasant_one():
    table = pd.DataFrame({"au_12": [0.0, 4.0, 4.0, 4.0], "asymmetry": [0.0, 1.0, -1.0, 0.0]})
    _, faces = render_expressions(table, seed=4, subject=2, scene=1)
    rise = points_of(faces)[0, SIDES_OF_MOUTH, 1] - points_of(faces)[:, SIDES_OF_MOUTH, 1]
    assert rise[1, 1] > 3 > 0.5 > abs(rise[1, 0])
    assert rise[2, 0] > 3 > 0.5 > abs(rise[2, 1])
    assert (rise[3] > 3).all()
    assert faces["valence"].iloc[1] < 0.1 < faces["valence"].iloc[3]
    ids = faces.index
    assert synthetic.expression_distance(faces, ids[1:2], ids[2:3])[0] == 0  # a mirrored face shows the same


def test_sequence_runs_from_neutral_to_the_apex():
    images, faces = render_sequence("happiness", seed=2, frames=7, subject=1, size=64)
    assert images.shape == (7, 64, 64, 3)
    assert (faces.loc[faces.index[0], list(AU_COLUMNS)].to_numpy(float) == 0).all()
    assert faces["frame"].tolist() == list(range(7))
    assert faces["expression"].tolist() == ["neutral"] + ["happiness"] * 6
    assert (faces["reference"] == faces.index[0]).all()
    assert (np.diff(faces[list(AU_COLUMNS)].to_numpy(), axis=0) >= 0).all()
    assert (np.diff(points_of(faces)[:, SIDES_OF_MOUTH, 1].mean(axis=1)) < 0).all()
    moved = np.abs(images.astype(float) - images[0]).mean(axis=(1, 2, 3))
    assert (np.diff(moved) > 0).all()
    _, portraits = render_faces(2, 2, seed=2, size=64)
    assert faces["subject"].iloc[0] == portraits["subject"].iloc[1]


def test_distance_is_the_weighted_euclidean_distance_of_action_units(gallery):
    _, faces = gallery
    a, b = faces.index[:200], faces.index[200:400]
    weight = [1, 1, 1.2, 1, 0.8, 0.7, 1, 1, 1.6, 0.8, 1.3, 0.9, 1.2, 0.8, 1.2, 1.3, 1.2]
    expected = []
    for first, second in zip(a, b, strict=True):
        x, y = faces.loc[first], faces.loc[second]
        total = sum(w * ((x[c] - y[c]) / 5) ** 2 for w, c in zip(weight, AU_COLUMNS, strict=True))
        lean = [abs(f["asymmetry"]) * max(f["au_12"], f["au_14"]) / 5 for f in (x, y)]
        expected.append(np.sqrt(total + 0.8 * (lean[0] - lean[1]) ** 2))
    measured = synthetic.expression_distance(faces, a, b)
    assert measured == pytest.approx(expected)
    assert synthetic.expression_distance(faces, b, a) == pytest.approx(measured)
    assert (synthetic.expression_distance(faces, a, a) == 0).all()


def test_distance_does_not_depend_on_who_shows_the_expression():
    table = pd.DataFrame({"au_12": [0.0, 4.0], "au_06": [0.0, 3.0]})
    joined = pd.concat([pd.DataFrame(render_expressions(table, 0, s, 32)[1]) for s in (0, 1)])
    ids = joined.index
    assert synthetic.expression_distance(joined, [ids[1]], [ids[3]])[0] == 0
    assert synthetic.expression_distance(joined, [ids[0]], [ids[3]])[0] > 1


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), margin=st.sampled_from([0.0, 0.2, 0.4]))
def test_triplets_are_true_to_the_distance(gallery, seed, margin):
    _, faces = gallery
    triplets = synthetic.synthetic_triplets(faces, 30, seed, margin=margin)
    distance = {
        pair: synthetic.expression_distance(faces, triplets[pair[0]], triplets[pair[1]])
        for pair in (("a", "b"), ("a", "odd"), ("b", "odd"))
    }
    nearest = np.minimum(distance["a", "odd"], distance["b", "odd"])
    assert (distance["a", "b"] <= (1 - margin) * nearest).all()
    assert (distance["a", "b"] < nearest).all()
    assert triplets["type"].value_counts().to_dict() == {"one_class": 30, "two_class": 30, "three_class": 30}
    labels = np.stack([faces.loc[triplets[c], "expression"].to_numpy() for c in ("a", "b", "odd")], axis=1)
    distinct = [len(set(row)) for row in labels]
    assert distinct == [1] * 30 + [2] * 30 + [3] * 30
    assert (triplets["agreement"] == "strong").all()
    assert (triplets[["votes_odd_a", "votes_odd_b", "votes_odd_odd"]].to_numpy() == (0, 0, 6)).all()


def test_triplets_are_a_function_of_the_seed(gallery):
    _, faces = gallery
    first = synthetic.synthetic_triplets(faces, {"two_class": 20}, seed=1)
    assert first.equals(synthetic.synthetic_triplets(faces, {"two_class": 20}, seed=1))
    assert not first.equals(synthetic.synthetic_triplets(faces, {"two_class": 20}, seed=2))


def test_two_class_triplets_mostly_pair_the_same_label(gallery):
    _, faces = gallery
    triplets = synthetic.synthetic_triplets(faces, {"two_class": 400}, seed=0)
    same = faces.loc[triplets["a"], "expression"].to_numpy() == faces.loc[triplets["b"], "expression"].to_numpy()
    assert same.mean() > 0.8  # distances and labels mostly agree


def test_saved_files_hold_the_pixels_and_the_table_their_paths(tmp_path):
    images, faces = render_faces(5, 2, seed=0, size=40)
    assert faces["path"].iloc[3] == "synthetic/0/000003.png"
    saved = synthetic.save_faces(images, faces, tmp_path / "new")
    for image, path in zip(images, saved["path"], strict=True):
        assert (np.asarray(Image.open(path)) == image).all()
    assert len(list((tmp_path / "new").iterdir())) == 5
    pd.testing.assert_frame_equal(pd.DataFrame(saved).drop(columns="path"), pd.DataFrame(faces).drop(columns="path"))


def test_table_survives_parquet(tmp_path):
    _, faces = render_faces(5, 2, seed=0, size=40)
    faces.write_parquet(tmp_path / "faces.parquet")
    back = FaceTable.read_parquet(tmp_path / "faces.parquet")
    assert np.allclose(points_of(back), points_of(faces))
    assert back[list(AU_COLUMNS)].equals(faces[list(AU_COLUMNS)])


@pytest.mark.parametrize("size", [32, 57, 250])
def test_any_size_shows_the_same_face(size):
    table = pd.DataFrame({"au_12": [4.0], "au_25": [3.0]})
    image, faces = render_expressions(table, seed=1, subject=3, size=size)
    usual, usual_faces = render_expressions(table, seed=1, subject=3)
    assert points_of(faces) / size == pytest.approx(points_of(usual_faces) / 112, abs=0.001)
    small = [np.asarray(Image.fromarray(i[0]).resize((16, 16), Image.Resampling.BOX), float) for i in (image, usual)]
    assert np.abs(small[0] - small[1]).mean() < 6


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: render_faces(3, 5, 0), WrongUseError, "n >= subjects"),
        (lambda: render_faces(0, 1, 0), WrongUseError, "n must be"),
        (lambda: render_faces(5, 0, 0), WrongUseError, "subjects must be"),
        (lambda: render_faces(5, 1, -1), WrongUseError, "seed must be"),
        (lambda: render_faces(5, 1, 0, size=8), WrongUseError, "32 to 1024"),
        (lambda: render_faces(5.0, 1, 0), WrongUseError, r"got 5\.0"),
        (lambda: render_sequence("hapiness", 0), WrongUseError, "did you mean 'happiness'"),
        (lambda: render_sequence("neutral", 0), WrongUseError, "unknown expression"),
        (lambda: render_sequence("anger", 0, frames=1), WrongUseError, "at least 2 frames"),
        (lambda: render_sequence("anger", -3), WrongUseError, "seed must be"),
        (lambda: render_expressions(pd.DataFrame({"au_12": [6.0]}), 0), BadInputError, r"6\.0 where"),
        (lambda: render_expressions(pd.DataFrame({"au_12": [np.nan]}), 0), BadInputError, "nan where"),
        (lambda: render_expressions(pd.DataFrame({"au_13": [1.0]}), 0), BadInputError, "au_13"),
        (lambda: render_expressions(pd.DataFrame({"au_12": []}, dtype=float), 0), BadInputError, "no face"),
    ],
)
def test_wrong_calls_say_what_would_work(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_wrong_triplet_calls_say_what_would_work(gallery):
    _, faces = gallery
    with pytest.raises(WrongUseError, match="two_class"):
        synthetic.synthetic_triplets(faces, {"two-class": 3})
    with pytest.raises(WrongUseError, match="negative"):
        synthetic.synthetic_triplets(faces, -1)
    with pytest.raises(WrongUseError, match="margin"):
        synthetic.synthetic_triplets(faces, 1, margin=1.0)
    with pytest.raises(BadInputError, match="au_12"):
        synthetic.synthetic_triplets(FaceTable(pd.DataFrame(faces).drop(columns="au_12")), 1)
    with pytest.raises(BadInputError, match="not in the table"):
        synthetic.expression_distance(faces, ["nobody"], [faces.index[0]])
    with pytest.raises(BadInputError, match="lower margin"):
        synthetic.synthetic_triplets(faces, {"three_class": 50}, margin=0.995)
    assert len(synthetic.synthetic_triplets(faces, 0)) == 0


def test_wrong_images_are_not_saved(tmp_path):
    images, faces = render_faces(3, 1, seed=0, size=32)
    with pytest.raises(BadInputError, match="2 images"):
        synthetic.save_faces(images[:2], faces, tmp_path / "a")
    with pytest.raises(BadInputError, match="uint8"):
        synthetic.save_faces(images.astype(float), faces, tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_action_units_of_the_issue_are_all_there():
    assert set(ACTION_UNITS) >= {1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 17, 20, 23, 25, 26, 43}


def test_each_sequence_has_its_own_scene():
    """Light and pose must not tell the expression: no two people show it in one scene, nor one person two in one."""
    scenes = {
        (subject, name): tuple(render_sequence(name, 1, 2, subject, 32)[1][["yaw", "pitch", "light"]].iloc[0])
        for subject in range(3)
        for name in ("fear", "anger")
    }
    assert len(set(scenes.values())) == 6
