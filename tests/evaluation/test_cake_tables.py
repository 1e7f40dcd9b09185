"""CAKE's tables and figures on a few rendered faces: what is trained, scored and said."""

import numpy as np
import pandas as pd
import pytest
import torch

from evaluation import cake
from evaluation.cake_domains import Domains, read_domains
from evaluation.cake_heads import scores
from exprembed.data import FaceTable, MultiDomain
from exprembed.report import Report

QUICK = ["init=null", "steps=3", "sampler.batch_size=32", "model.backbone=resnet10_grey48", "threads=null"]
SIZES = (2, 3, 512)


@pytest.fixture(scope="module")
def domains(tmp_path_factory):
    """Rendered faces as two domains: all with valence and arousal, and some under the name of a real set without."""
    one = read_domains(tmp_path_factory.mktemp("faces"), synthetic=240)
    sides = []
    for side in (one.train, one.test):
        faces = pd.DataFrame(side.faces)
        faces.index = faces.index.str.removeprefix("synthetic/")
        bare = faces.iloc[::2].drop(columns=["valence", "arousal"])
        sides.append(MultiDomain({"rafdb": FaceTable(bare), "synthetic": FaceTable(faces)}))
    return Domains(*sides, {"rafdb": "stand-in", "synthetic": "rendered"}, one.skipped)


@pytest.fixture(scope="module")
def bench(domains, tmp_path_factory):
    return cake.read_bench(domains, tmp_path_factory.mktemp("cache"), QUICK)


def test_domains_are_apart(tmp_path):
    found = read_domains(tmp_path, synthetic=160)
    table = pd.DataFrame(found.train.faces), pd.DataFrame(found.test.faces)
    assert not set(table[0]["subject"]) & set(table[1]["subject"])
    assert not set(table[0].index) & set(table[1].index)
    assert "contempt" not in set(table[0]["expression"])
    assert "contempt" in found.left_out


def test_copies_of_training_faces_are_not_scored(tmp_path):
    from evaluation.cake_domains import _fresh

    faces = pd.DataFrame(read_domains(tmp_path, synthetic=80).train.faces).iloc[:4]
    paths = faces["path"].tolist()
    faces = faces.assign(split=["train", "validation", "validation", "validation"])
    faces["path"] = [paths[0], paths[0], paths[1], paths[1]]
    skipped = []
    assert _fresh(FaceTable(faces), skipped).tolist() == [True, False, True, False]
    assert len(skipped) == 2


def test_the_bench_follows_the_domains(bench, domains):
    assert list(bench.cake.model["domains"]) == ["rafdb", "synthetic"]
    assert list(bench.regressor.model["domains"]) == ["synthetic"]
    assert bench.train.shape == (len(domains.train.faces), 256, 1, 1)
    assert bench.test.shape[0] == len(domains.test.faces)


def test_multi_domain_f1_is_weighted_by_scored_faces(bench):
    head = bench.head(0, embedding_dim=2)
    sizes, values = [], []
    for j, name in enumerate(bench.domains.test.domains):
        own, truth = bench.truth(name)
        sizes.append(own.sum())
        values.append(scores(truth, head.predictions[j, own], bench.domains.test.domains[name])["F1"])
    expected = sum(n * f for n, f in zip(sizes, values, strict=True)) / sum(sizes)
    assert bench.multi_domain_f1(head) == pytest.approx(expected)
    assert len(set(sizes)) == 2


def test_true_values_are_the_embedding(bench):
    own, _ = bench.truth("synthetic")
    felt = bench.domains.test.faces[own][["arousal", "valence"]].to_numpy(np.float32)
    head = bench.with_true_values(1, 0, "synthetic")
    assert head.embedding.shape == (own.sum(), 3)
    assert np.abs(head.embedding[:, :2] - felt).max() < 1e-6


def test_seeds_differ_and_repeat(bench):
    first, again, other = (bench.head(seed, embedding_dim=2) for seed in (0, 0, 1))
    assert np.array_equal(first.embedding, again.embedding)
    assert not np.array_equal(first.embedding, other.embedding)


def test_every_avk_has_the_one_regressor(bench):
    heads = [bench.head(seed, extra_dims=k) for seed, k in ((0, 0), (1, 1))]
    weights = [head.model.regressor.weight for head in heads]
    assert torch.equal(*weights)
    assert np.allclose(heads[0].embedding, heads[1].embedding[:, :2])


def test_report(bench, tmp_path):
    report, globes = cake.run(bench, (0, 1), SIZES, resolution=40)
    titles = [section.title for section in report.sections]
    assert [title.split(":")[0] for title in titles[:6]] == [
        "Table 1",
        "Table 2",
        "Table 3",
        "Figure 2",
        "Figure 4",
        "Figure 5",
    ]
    assert not any(section.same_data for section in report.sections)
    assert all("Not the same experiment" in section.statement for section in report.sections[:4])
    assert report.sections[0].rows[0].paper["AffectNet"] == 58.1
    two = report.sections[1]
    assert two.rows[1].ours["dimensions"] == 512
    assert "keeps of the baseline's macro F1: RAF-DB" in two.notes[0]
    four = report.sections[4]
    assert set(four.rows[0].ours) == set(four.rows[1].ours) == {"2", "3", "512"}
    assert "The largest step is that from" in four.notes[0]
    five = report.sections[5]
    assert len(five.figures) == 6
    assert 0 <= five.rows[0].ours["RAF-DB / rendered"].mean <= 100
    assert set(globes) == {"globe_rafdb", "globe_synthetic"}
    folder = report.write(tmp_path)
    assert Report.from_json((folder / "report.json").read_text()).title == report.title
    assert (folder / "figure_4.png").is_file()


def test_neutrals_neighbours_are_counted():
    from evaluation.cake_maps import _neutral

    assert _neutral({("anger", "neutral"), ("neutral", "sadness"), ("anger", "sadness")}) == (2, 2)
    assert _neutral({("anger", "fear"), ("anger", "sadness"), ("anger", "neutral")}) == (1, 3)
    assert _neutral(set()) == (0, 0)
