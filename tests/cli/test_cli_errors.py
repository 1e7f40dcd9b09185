"""Exit codes, one clear line on stderr, nearest names, and a --help that loads nothing heavy."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from exprembed.cli import script
from exprembed.errors import BadInputError, WrongUseError

HEAVY = ("torch", "numpy", "pandas", "faiss", "PIL", "sklearn", "matplotlib", "lightning", "pyarrow")
VERBS = ("demo", "embed", "index", "album", "evaluate", "train", "features", "faces", "fec", "weights", "export")


def test_help_loads_nothing_heavy_and_names_every_verb(shell):
    code = (
        "import sys\nfrom exprembed.cli import app\n"
        "try:\n    app(['--help'])\nexcept SystemExit as end:\n    code = end.code\n"
        f"print('LOADED', [name for name in {HEAVY!r} if name in sys.modules], code)"
    )
    done = shell("-c", code)
    assert done.returncode == 0, done.stderr
    assert "LOADED [] 0" in done.stdout
    for verb in VERBS:
        assert f" {verb} " in done.stdout


def test_python_m_and_version(shell):
    from exprembed import __version__

    assert shell("-m", "exprembed", "--version").stdout.strip() == f"exprembed {__version__}"


@pytest.mark.parametrize("tool", ["index", "train", "evaluate", "embed", "demo"])
def test_tools_launch_their_verb_from_anywhere(shell, tool, tmp_path):
    root = Path(__file__).resolve().parents[2]
    done = shell(root / "tools" / f"{tool}.py", "--help")
    assert done.returncode == 0, done.stderr
    assert f"{tool}.py {tool}" in done.stdout


@pytest.mark.parametrize(
    "verb",
    [
        *VERBS,
        "index build",
        "index search",
        "evaluate knn",
        "weights show",
        "faces show",
        "fec download",
        "export onnx",
    ],
)
def test_every_verb_has_help_that_flows(cli, verb):
    done = cli(*verb.split(), "--help")
    assert done.code == 0
    assert "Usage" in done.out


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["weights", "show", "fecnet_ferplus_15d"], "unknown weights 'fecnet_ferplus_15d'"),
        (["embed", ".", "--detector", "mtcn"], "did you mean 'mtcnn'?"),
        (["embed", ".", "--faces", "larges"], "did you mean 'largest'?"),
        (["embed", ".", "--detector", "yunet"], "--detector-model FILE"),
        (["embed", ".", "--detector", "mtcnn", "--aligned"], "nothing to find"),
        (["embed", ".", "--crop-eyes", "0.3,0.4"], "four fractions"),
        (["embed", ".", "--crop-eyes", "0.7,0.4,0.3,0.4"], "left eye first"),
        (["embed", ".", "--dataset", "celeb"], "did you mean 'celeba'?"),
        (["embed", ".", "--split", "train"], "--dataset"),
        (["train", "ferplus-triplet-small"], "did you mean 'ferplus-triplets-small'?"),
        (["train", "ferplus-triplets-small", "--set", "step=5"], "did you mean 'steps'?"),
        (["features", "ferplus-triplets-small"], "--set data.path=DIR"),
        (["train"], "--list"),
        (["features"], "either a RECIPE"),
        (["index", "remove", "somewhere"], "either ids or --where"),
        (
            ["evaluate", "triplets", "--vectors", "a", "--triplets", "b", "--agreement", "stron"],
            "did you mean 'strong'?",
        ),
    ],
)
def test_wrong_use_is_2_and_says_what_would_work(cli, words, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = cli(*words)
    assert done.code == 2
    assert expected in done.err
    assert done.out == ""
    assert done.err.startswith("error: ")


@pytest.mark.parametrize(
    "words", [["embd"], ["embed"], ["embed", "x", "--batch", "0"], ["embed", "x", "--nonsense"], ["index", "serch"]]
)
def test_what_the_parser_refuses_is_2_too(cli, words):
    done = cli(*words)
    assert done.code == 2
    assert done.out == ""


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["embed", "absent.jpg"], "absent.jpg does not exist"),
        (["embed", "*.jpg"], "matches no file"),
        (["embed", "."], "no image"),
        (["demo", "absent"], "absent does not exist"),
        (["index", "info", "absent"], "absent does not exist"),
        (["index", "info", "."], "holds no index"),
        (["index", "search", "absent", "x"], "absent does not exist"),
        (["album", "absent.parquet"], "absent.parquet does not exist"),
        (["evaluate", "triplets", "--vectors", "a.parquet", "--triplets", "b.parquet"], "a.parquet does not exist"),
        (["evaluate", "knn", "--gallery", "text.parquet"], "cannot be read as a Parquet table"),
        (["train", "absent.yaml"], "there is no recipe file"),
        (["weights", "show", "absent.safetensors"], "there is no weights file"),
        (["embed", ".", "--dataset", "celeba"], "CelebA"),
    ],
)
def test_bad_input_is_3_and_names_it(cli, words, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.parquet").write_text("no Parquet")
    done = cli(*words)
    assert done.code == 3
    assert expected in done.err
    assert done.out == ""


def test_a_missing_extra_is_2_and_says_how_to_install_it(cli, photos, weights, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "facenet_pytorch", None)
    done = cli("embed", photos, "--model", weights)
    assert done.code == 2
    assert "exprembed[faces]" in done.err


def test_an_output_that_cannot_be_written_is_3(cli, photos, weights, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    done = cli("embed", photos, "--aligned", "--model", weights, "--out", tmp_path / "file" / "faces.parquet")
    assert done.code == 3
    assert "file" in done.err


def test_json_of_a_failed_run_leaves_stdout_empty(cli, tmp_path):
    done = cli("embed", tmp_path / "absent.jpg", "--json")
    assert (done.code, done.out) == (3, "")


def test_plain_turns_results_into_json():
    import numpy as np

    from exprembed.cli._common import plain
    from exprembed.files import Skipped

    value = {"a": np.float32(0.5), 2: [np.nan, np.inf], "c": (np.arange(2), Skipped("x", "y")), "d": None}
    assert json.loads(json.dumps(plain(value), allow_nan=False)) == {
        "a": 0.5,
        "2": [None, None],
        "c": [[0, 1], ["x", "y"]],
        "d": None,
    }


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (BadInputError("bad.csv: no column a"), 3, "error: bad.csv: no column a"),
        (WrongUseError("k must be at least 1; got 0"), 2, "error: k must be at least 1; got 0"),
        (FileNotFoundError(2, "No such file or directory", "gone"), 3, "error: gone: No such file or directory"),
    ],
)
def test_scripts_end_in_one_line_too(error, code, words):
    def main() -> None:
        raise error

    done = CliRunner().invoke(script(main), [])
    assert done.exit_code == code
    assert done.output.strip() == words


@pytest.mark.parametrize("name", ["real_faces", "jaffe_limits", "ablation"])
def test_evaluations_name_the_folder_that_is_wrong(shell, name, tmp_path):
    where = "--ferplus" if name == "ablation" else "--data"
    done = shell("-m", f"evaluation.{name}", where, tmp_path / "absent", "--out", tmp_path / "out")
    assert done.returncode == 3, done.stderr
    assert "Traceback" not in done.stderr
    assert f"{tmp_path / 'absent'}" in done.stderr.splitlines()[-1]
