"""The arrows between the rooms, the cost of an import, and lists that come from the registry."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import exprembed
from exprembed.data.readers import READERS
from exprembed.errors import WrongUseError
from exprembed.losses import LOSSES
from exprembed.models import BACKBONES, MODELS
from exprembed.registry import Registry

ROOT = Path(exprembed.__file__).parent
# What each room may import of the others; dependencies point downwards only.
ALLOWED = {
    "data": set(),
    "metrics": set(),
    "plots": set(),
    "losses": {"data"},
    "models": {"data"},
    "index": {"data", "models", "metrics"},
    "training": {"data", "models", "losses", "index", "metrics"},
    "pipeline": {"data", "models"},
    "cli": {"data", "models", "losses", "index", "metrics", "plots", "training", "pipeline"},
}
# Files beside the rooms: `files`, `errors`, `registry` and `report` serve all; `miners` belongs with the losses.
SINGLE = {"miners": "losses"}


def imports_of(file):
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("room", sorted(ALLOWED))
def test_arrows_point_downwards(room):
    files = list((ROOT / room).rglob("*.py"))
    assert files
    for file in files:
        for name in imports_of(file):
            parts = name.split(".")
            target = SINGLE.get(parts[1], parts[1]) if parts[0] == "exprembed" and len(parts) > 1 else None
            if target in ALLOWED and target != room:
                assert target in ALLOWED[room], f"{file.relative_to(ROOT)} imports {name}"


@pytest.mark.parametrize("room", ["metrics", "plots"])
def test_metrics_and_plots_stand_on_arrays_alone(room):
    known = {
        "numpy",
        "numba",
        "pandas",
        "sklearn",
        "threadpoolctl",
        "matplotlib",
        "scipy",
        "exprembed",
        "umap",
        "plotly",
        "PIL",
        *sys.stdlib_module_names,
    }
    for file in (ROOT / room).rglob("*.py"):
        assert {name.split(".")[0] for name in imports_of(file)} <= known, file


def test_import_is_light():
    code = (
        "import sys, time; t = time.perf_counter(); import exprembed; dt = time.perf_counter() - t;"
        "heavy = {'torch', 'faiss', 'pandas', 'sklearn', 'matplotlib', 'lightning'} & set(sys.modules);"
        "sys.exit(f'{heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_exports_come_from_the_registry():
    from exprembed import losses, models

    for registry, module in ((LOSSES, losses), (MODELS, models), (MODELS, exprembed)):
        for name, thing in registry.exports().items():
            assert getattr(module, name) is thing
    from exprembed import data

    assert data.read_ferplus is READERS.get("ferplus")
    for absent in ("FECNett", "read_nothing"):
        with pytest.raises(AttributeError):
            getattr(exprembed, absent)
    with pytest.raises(AttributeError):
        data.read_nothing  # noqa: B018


def test_every_home_of_a_lazy_name_exists():
    for name in exprembed.__dir__():
        assert getattr(exprembed, name) is not None


def test_every_registered_thing_has_its_test():
    golden = " ".join(path.read_text() for path in (Path(__file__).parent / "golden").glob("test_*.py"))
    for name in LOSSES.exports():
        assert name in golden, f"{name} has no golden test"
    tests = " ".join(path.read_text() for path in Path(__file__).parent.rglob("test_*.py"))
    for reader in READERS.exports():
        assert reader in tests, f"{reader} has no test"


def test_the_readme_names_every_registered_thing():
    readme = (ROOT.parent / "README.md").read_text()
    for registry in (LOSSES, MODELS, READERS):
        for name in registry.exports():
            assert f"`{name}`" in readme, f"the README's table lacks {name}"
    for name in BACKBONES.items():
        assert f"`{name}`" in readme, f"the README's table lacks {name}"


def test_a_name_is_given_once():
    registry = Registry("toy", "exprembed.losses")

    @registry.register("one")
    class First:
        pass

    with pytest.raises(WrongUseError, match="already taken"):

        @registry.register("one")
        class Second:
            pass

    assert registry.get("one") is First
    with pytest.raises(WrongUseError, match="did you mean 'one'"):
        registry.get("onne")
