"""Several data sets as one table: origins, classes, what is left out; batches that carry the origin; the reader."""

import doctest

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from exprembed.data import FaceTable, MultiDomain, expected_valence_arousal, multi_domain, read_multi_domain
from exprembed.data.holdout import held_out
from exprembed.data.loading import StepDataset
from exprembed.data.multi_domain import class_lists
from exprembed.data.samplers import BalancedSampler
from exprembed.data.synthetic import render_faces, save_faces
from exprembed.data.tables import EXPRESSIONS
from exprembed.errors import BadInputError, WrongUseError


def table(expressions, **more):
    ids = [f"f{i}" for i in range(len(expressions))]
    columns = {"path": [f"{face}.png" for face in ids], "expression": pd.Series(expressions, dtype=object).to_numpy()}
    return FaceTable(columns | more, index=ids)


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.sampled_from([*EXPRESSIONS, "bored", None]), min_size=1, max_size=9),
    st.lists(st.sampled_from([*EXPRESSIONS, None]), min_size=1, max_size=9),
)
def test_every_face_is_kept_or_listed(first, second):
    tables = {"one": table([*first, "fear"]), "two": table([*second, "anger"])}
    skipped = []
    both = MultiDomain(tables, {"two": 8}, skipped)
    assert len(both.faces) + len(skipped) == len(first) + len(second) + 2
    assert not {item.item for item in skipped} & set(both.faces.index)
    for domain in tables:
        own = both.faces[both.faces["dataset"] == domain]
        assert set(own["expression"]) <= set(both.domains[domain])
        assert own.index.str.startswith(f"{domain}/").all()
        assert both.counts.loc[domain].sum() == len(own)
    assert (np.array(["one", "two"])[both.origin] == both.faces["dataset"]).all()


def test_columns_of_some_and_votes():
    voted = table(["fear"], votes_fear=[3], votes_anger=[1], valence=[0.5], arousal=[0.1])
    both = MultiDomain({"voted": voted, "plain": table(["anger"])})
    assert both.faces["valence"].isna().tolist() == [False, True]
    assert not [column for column in both.faces if str(column).startswith("votes_")]


def test_classes_of_ones_own():
    both = MultiDomain({"mine": table(["calm", "rage"]), "raf": table(["fear"])}, {"mine": ["calm", "rage"]})
    assert both.domains == {"mine": ("calm", "rage"), "raf": EXPRESSIONS[:7]}
    assert both.counts.loc["mine", ["calm", "rage", "fear"]].tolist() == [1, 1, 0]


def test_bad_tables():
    with pytest.raises(BadInputError, match="no expression"):
        MultiDomain({"one": FaceTable({"path": ["a"]}, index=["a"])})
    with pytest.raises(BadInputError, match="no face of 'one'"):
        MultiDomain({"one": table(["contempt"])})
    with pytest.raises(WrongUseError, match="none of"):
        MultiDomain({"one": table(["fear"])}, {"two": 7})
    with pytest.raises(WrongUseError, match="mapping"):
        MultiDomain({})
    with pytest.raises(WrongUseError, match="list the names"):
        class_lists({"one": 5})


def test_batches_carry_origin_and_own_labels():
    both = MultiDomain({"seven": table(["fear", "anger"]), "eight": table(["contempt", "fear"])}, {"eight": 8})
    faces = FaceTable(pd.DataFrame(both.faces).assign(expression=["fear", "contempt", "contempt", "fear"]))
    sampler = BalancedSampler(np.arange(4), 64)
    steps = StepDataset(np.zeros((4, 1, 1, 1), np.float16), faces, sampler, EXPRESSIONS, both.domains)
    assert steps.domains.tolist() == [0, 0, 1, 1]
    assert steps.labels.tolist() == [EXPRESSIONS.index("fear"), -1, 7, EXPRESSIONS.index("fear")]
    batch = steps[0]
    rows = sampler.plan(0).rows
    assert batch.domains.tolist() == steps.domains[rows].tolist()
    assert batch.to("cpu").domains.tolist() == batch.domains.tolist()
    with pytest.raises(WrongUseError, match="holds 'seven'; did you mean 'seventh'"):
        StepDataset(steps.inputs, faces, sampler, EXPRESSIONS, {"seventh": EXPRESSIONS, "eight": EXPRESSIONS})
    with pytest.raises(WrongUseError, match="'dataset'"):
        StepDataset(steps.inputs, FaceTable(faces.drop(columns="dataset")), sampler, EXPRESSIONS, both.domains)


@pytest.fixture
def root(tmp_path):
    """A folder with RAF-DB and FER+ in miniature."""
    images, faces = render_faces(20, 2, 1, size=48)
    labels = ["surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral"]
    aligned = tmp_path / "rafdb/basic/Image/aligned"
    aligned.mkdir(parents=True)
    (tmp_path / "rafdb/basic/EmoLabel").mkdir()
    lines = []
    for i, (image, name) in enumerate(zip(images, faces["expression"], strict=True)):
        if name in labels:
            Image.fromarray(image).save(aligned / f"train_{i:05d}_aligned.jpg")
            lines.append(f"train_{i:05d}.jpg {labels.index(name) + 1}")
    (tmp_path / "rafdb/basic/EmoLabel/list_patition_label.txt").write_text("\n".join(lines))
    train = tmp_path / "fer/FER2013Train"
    train.mkdir(parents=True)
    order = ["neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt"]
    rows = ["Usage,Image name," + ",".join(order) + ",unknown,NF"]
    for i, (image, name) in enumerate(zip(images, faces["expression"], strict=True)):
        Image.fromarray(image).convert("L").save(train / f"fer{i:07d}.png")
        rows.append(f"Training,fer{i:07d}.png," + ",".join(str(9 * (name == n)) for n in order) + ",1,0")
    (tmp_path / "fer/fer2013new.csv").write_text("\n".join(rows) + "\n")
    return tmp_path


def test_reader(root):
    skipped = []
    domains = {"rafdb": {}, "ferplus": {"path": "fer", "valence_arousal": "votes"}}
    faces = read_multi_domain(root, domains, skipped)
    assert set(faces["dataset"]) == {"rafdb", "ferplus"}
    own = faces[faces["dataset"] == "ferplus"]
    assert own["valence"].notna().all()
    assert faces[faces["dataset"] == "rafdb"]["valence"].isna().all()
    contempt = [item for item in skipped if item.reason.startswith("contempt")]
    assert len(own) + len(contempt) == 20
    assert contempt
    more = read_multi_domain(root, {"ferplus": {"path": "fer", "classes": 8}})
    assert len(more) == 20
    twin = read_multi_domain(root, {"again": {"reader": "rafdb", "path": "rafdb", "options": {"split": "train"}}})
    assert set(twin["dataset"]) == {"again"}


def test_reader_refuses(root):
    for domains, message in (
        ({}, "needs domains"),
        ({"rafdb": {"pth": "x"}}, "did you mean 'path'"),
        ({"rafd": {"path": "rafdb"}}, "did you mean 'rafdb'"),
        ({"rafdb": {"valence_arousal": "vote"}}, "did you mean 'votes'"),
    ):
        with pytest.raises(WrongUseError, match=message):
            read_multi_domain(root, domains)
    with pytest.raises(BadInputError, match="votes"):
        read_multi_domain(root, {"rafdb": {"valence_arousal": "votes"}})


def test_held_out_is_a_function_of_the_picture(tmp_path):
    images, faces = render_faces(60, 6, 0, size=48)
    images[7] = images[3]
    faces = save_faces(images, faces, tmp_path)
    few, many = held_out(faces, 0.3), held_out(faces, 0.6)
    assert (few <= many).all()
    assert few[7] == few[3]
    assert not held_out(faces, 0.0).any()
    assert held_out(faces, 1.0).all()
    with pytest.raises(WrongUseError, match=r"\[0, 1\]"):
        held_out(faces, 1.5)


def test_multi_domain_takes_expected_values():
    faces = expected_valence_arousal(table(["fear"], votes_fear=[1], votes_anger=[1]))
    assert MultiDomain({"one": faces}).faces["valence"].tolist() == pytest.approx([(-0.47 - 0.429) / 2])


def test_docstring_examples():
    assert doctest.testmod(multi_domain).failed == 0
