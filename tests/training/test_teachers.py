"""One embedding of several: inner products are kept as well as so few numbers can."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exprembed.data.vectors import vector_columns_of
from exprembed.errors import BadInputError, WrongUseError
from exprembed.training.teachers import join_vectors

ROOT = Path(__file__).resolve().parents[2]


def tables(seed, m=30, dims=(3, 5)):
    rng = np.random.default_rng(seed)
    names = [f"f{row}" for row in range(m)]
    return [pd.DataFrame(rng.normal(size=(m, dim)), index=rng.permutation(names)) for dim in dims]


def cosines(table, order):
    values = table.loc[order].to_numpy(np.float64)
    values = values / np.linalg.norm(values, axis=1, keepdims=True)
    return values @ values.T


@given(st.integers(0, 10_000))
def test_with_all_numbers_cosines_are_the_mean_of_the_others(seed):
    given = tables(seed)
    joined = join_vectors(given, 8)
    order = given[0].index
    assert joined.index.equals(order)
    assert np.allclose(cosines(joined, order), np.mean([cosines(table, order) for table in given], axis=0), atol=1e-5)


@given(st.integers(0, 10_000), st.integers(1, 7))
def test_no_other_map_to_as_few_numbers_keeps_inner_products_better(seed, dim):
    given = tables(seed)
    order = given[0].index
    whole = np.concatenate([t.loc[order].div(np.linalg.norm(t.loc[order], axis=1), axis=0) for t in given], axis=1)
    whole /= np.sqrt(2)
    turned = np.linalg.svd(whole)[2][:dim].T
    unit = whole @ turned / np.linalg.norm(whole @ turned, axis=1, keepdims=True)
    joined = join_vectors(given, dim).to_numpy(np.float64)
    assert np.allclose(joined @ joined.T, unit @ unit.T, atol=1e-4)
    other = np.linalg.qr(np.random.default_rng(seed).normal(size=(8, dim)))[0]
    residue = np.linalg.norm(whole @ whole.T - (whole @ other) @ (whole @ other).T)
    assert np.linalg.norm(whole @ whole.T - (whole @ turned) @ (whole @ turned).T) <= residue + 1e-9


def test_others_are_turned_as_the_faces_that_it_was_made_from():
    given = tables(3)
    some = given[0].index[:12]
    inside = join_vectors([table.loc[some] for table in given], 5)
    assert np.allclose(inside.abs(), join_vectors(given, 5, some).loc[some].abs(), atol=1e-5)  # up to signs of axes


def test_what_cannot_be_joined():
    one, two = tables(0)
    with pytest.raises(WrongUseError, match="no vectors"):
        join_vectors([], 2)
    with pytest.raises(WrongUseError, match="at most the 8"):
        join_vectors([one, two], 9)
    with pytest.raises(BadInputError, match=r"table 2 lacks 1 of them, first 'f"):
        join_vectors([one, two.rename({two.index[3]: "other"})], 4)
    with pytest.raises(BadInputError, match="table 2 has 31 rows"):
        join_vectors([one, pd.concat([two, two.iloc[:1]])], 4)
    for among in ([], ["f0", "nobody"]):
        with pytest.raises(BadInputError, match="`among`"):
            join_vectors([one, two], 4, among)
    two.iloc[4] = 0
    with pytest.raises(BadInputError, match=f"table 2 are all zero in 1 of 30 rows, first in .*{two.index[4]}"):
        join_vectors([one, two], 4)


def test_the_tool_keeps_the_faces_of_the_first_file(tmp_path):
    one, two = tables(1)
    for name, table in (("one", one), ("two", two)):
        table.columns = [f"v{place:02d}" for place in range(table.shape[1])]
        table.assign(path=table.index + ".png", split=name).rename_axis("face_id").to_parquet(
            tmp_path / f"{name}.parquet"
        )
    words = [sys.executable, ROOT / "tools" / "join_vectors.py", tmp_path / "out.parquet"]
    files = [tmp_path / "one.parquet", tmp_path / "two.parquet"]
    subprocess.run([*words, "4", *files], check=True)
    found = pd.read_parquet(tmp_path / "out.parquet")
    assert vector_columns_of(found) == ["v00", "v01", "v02", "v03"]
    assert (found["split"] == "one").all()
    assert found.index.equals(pd.Index(one.index, name="face_id"))
    wrong = subprocess.run([*words, "40", *files], check=False, capture_output=True, text=True)
    assert wrong.returncode == 1
    assert wrong.stderr.strip() == "error: dim must be at least 1 and at most the 8 numbers joined; got 40"
