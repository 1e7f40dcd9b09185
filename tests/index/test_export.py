"""An index as a table: every item, its vector and metadata, for others to read."""

import doctest

import numpy as np
import pyarrow.parquet as pq
import pytest

from exprembed.errors import BadInputError, WrongUseError
from exprembed.index import ExpressionIndex, export
from exprembed.index.export import export_index


@pytest.fixture
def index():
    index = ExpressionIndex(3, model="m" * 64)
    vectors = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    index.add(vectors, [f"x{i}" for i in range(50)], {"age": range(50), "name": [f"n{i}" for i in range(50)]})
    index.remove(["x0", "x49"])
    return index


def test_example():
    assert doctest.testmod(export).failed == 0


def test_parquet(index, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "_BLOCK", 20)  # several blocks, the last one shorter
    assert export_index(index, tmp_path / "a.parquet") == 48
    table = pq.read_table(tmp_path / "a.parquet")
    assert table["id"].to_pylist() == index.ids
    assert np.array_equal(np.stack(table["vector"].to_pylist()), index.vectors_of(index.ids))
    assert table["age"].to_pylist() == list(range(1, 49))
    assert table.schema.metadata[b"metric"] == b"l2"
    assert table.schema.metadata[b"model"] == b"m" * 64


def test_an_empty_index(tmp_path):
    assert export_index(ExpressionIndex(3), tmp_path / "a.parquet") == 0
    assert pq.read_table(tmp_path / "a.parquet").num_rows == 0


def test_lance(index, tmp_path):
    lance = pytest.importorskip("lance")
    assert export_index(index, tmp_path / "a.lance") == 48
    dataset = lance.dataset(str(tmp_path / "a.lance"))
    assert dataset.to_table()["id"].to_pylist() == index.ids
    with pytest.raises(BadInputError, match="is there already"):
        export_index(index, tmp_path / "a.lance")


def test_wrong_use(index, tmp_path):
    with pytest.raises(WrongUseError, match=r"\.parquet or \.lance; got 'a\.csv'"):
        export_index(index, tmp_path / "a.csv")
    index.add([[1.0, 0, 0]], metadata={"vector": [1]})
    with pytest.raises(BadInputError, match="called 'vector'"):
        export_index(index, tmp_path / "a.parquet")
    assert not list(tmp_path.iterdir())


def test_on_the_command_line(index, tmp_path):
    from typer.testing import CliRunner

    from exprembed.cli.index import index_app

    index.save(tmp_path / "i")
    done = CliRunner().invoke(index_app, ["export", str(tmp_path / "i"), str(tmp_path / "o.parquet")])
    assert done.exit_code == 0
    assert "wrote 48 items" in done.output
    assert pq.read_table(tmp_path / "o.parquet").num_rows == 48
