"""docs/scale.md prints what its program computes from the reports."""

import contextlib
import io
from pathlib import Path

from test_readme import blocks

ROOT = Path(__file__).parent.parent


def test_the_page_says_what_its_program_prints(monkeypatch):
    page = ROOT / "docs/scale.md"
    (program,), (printed,) = blocks(page, "python"), blocks(page, "text")
    monkeypatch.chdir(ROOT)
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(program, str(page), "exec"), {})  # noqa: S102 - our own page
    assert out.getvalue().strip() == printed.strip()
