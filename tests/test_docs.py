"""The pages on losses: one for each registered loss, with its picture, and examples that run."""

import re
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image
from test_readme import blocks

from exprembed.losses import LOSSES

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "docs/losses"
PAGES = sorted(FOLDER.glob("*.md"))
METHODS = sorted((ROOT / "docs/methods").glob("*.md"))
NAMED = [*LOSSES.items(), "category_triplet_miner"]
PARTS = ("When.", "When not.", "Where ours deviates.", "The paper's numbers.", "Example.")


def by_name(page):
    return page.stem


@pytest.mark.parametrize("page", PAGES, ids=by_name)
def test_python_blocks_run(page):
    code = blocks(page, "python")
    assert code, f"{page.name} has no example"
    torch.manual_seed(0)
    scope = {}
    for block in code:
        exec(compile(block, str(page), "exec"), scope)  # noqa: S102 - our own page


@pytest.mark.parametrize("page", METHODS, ids=by_name)
def test_blocks_of_method_pages_run(page):
    torch.manual_seed(0)
    scope = {}
    for block in blocks(page, "python"):
        exec(compile(block, str(page), "exec"), scope)  # noqa: S102 - our own page


@pytest.mark.parametrize("name", NAMED)
def test_each_loss_has_its_page(name):
    page = FOLDER / f"{name}.md"
    assert page.is_file(), f"{name} has no page: write docs/losses/{name}.md"
    text = page.read_text()
    title = getattr(LOSSES.items().get(name), "__name__", "CategoryTripletMiner")
    assert text.startswith(f"# {title}\n")
    assert f"](pictures/{name}.png)" in text, f"{name} has no picture: add it to evaluation/loss_pictures.py"
    assert "```text\n" in text, "the equation"
    for part in PARTS:
        assert f"**{part}**" in text, f"{page.name} lacks {part!r}"
    assert f"[{title}]({name}.md)" in (FOLDER / "index.md").read_text(), f"the index lacks {title}"


def headings(text):
    """The anchors that a page's headings get."""
    lines = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", line).strip().lower().replace(" ", "-") for line in lines}


@pytest.mark.parametrize(
    "page", [*sorted((ROOT / "docs").rglob("*.md")), *ROOT.glob("*.md")], ids=lambda page: str(page.relative_to(ROOT))
)
def test_links_lead_somewhere(page):
    for target, anchor in re.findall(r"\]\(([^)#]*)(?:#([^)]*))?\)", page.read_text()):
        if not re.match(r"[a-z]+:", target):
            there = (page.parent / target) if target else page
            assert there.exists(), f"{page.name}: {target}"
            assert not anchor or anchor in headings(there.read_text()), f"{page.name}: {target}#{anchor}"


def test_no_page_is_left_out_of_the_site():
    named = re.findall(r"losses/(\w+)\.md", str(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]))
    assert sorted(named) == [page.stem for page in PAGES]


def test_pictures_are_small_and_shown():
    pictures = sorted((FOLDER / "pictures").iterdir())
    text = " ".join(page.read_text() for page in PAGES)
    for path in pictures:
        assert f"](pictures/{path.name})" in text, f"no page shows {path.name}"
        with Image.open(path) as picture:
            assert picture.format == "PNG"
            picture.verify()
        assert path.stat().st_size < 60_000
    assert sum(path.stat().st_size for path in pictures) < 900_000
