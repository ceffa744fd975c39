"""Every Python block of the README and of docs/ runs, and prints what the page says it prints.

The blocks of a page share their names. A block marked `text` is the output of the Python block before it: numbers may differ
in their last places, words may not. A Python block without one may print nothing. What needs a C compiler is passed over where
there is none.
"""

import io
import re
import runpy
import tomllib
from contextlib import redirect_stdout
from pathlib import Path

import pytest

import tinygrad_rnn as tg
from tinygrad_rnn.compiler.native.build import NoCompilerError

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(python|text)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?:e[+-]?\d+)?")


def same_output(shown: str, printed: str) -> bool:
    """Equal, but for the last places of numbers."""
    if NUMBER.sub("#", shown) != NUMBER.sub("#", printed):
        return False
    pairs = zip(NUMBER.findall(shown), NUMBER.findall(printed), strict=True)
    return all(a == b or ("." in a and float(a) == pytest.approx(float(b), rel=1e-5)) for a, b in pairs)


def tidy(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_page(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = page.read_text(encoding="utf-8")
    blocks = [(text.count("\n", 0, m.start()) + 2, m[1], m[2]) for m in BLOCK.finditer(text)]
    names: dict[str, object] = {"__name__": "__main__"}
    printed: str | None = ""
    where = ""
    tg.manual_seed(0)
    for line, kind, block in [*blocks, (0, "python", "")]:
        if kind == "text":
            same = printed is None or same_output(tidy(block), tidy(printed))
            assert same, f"{page.name}, line {line}: shown\n{block}\nprinted\n{printed}"
            printed = ""
            continue
        assert not printed, f"{where} printed what the page does not show:\n{printed}"
        where = f"{page.name}, line {line}"
        out = io.StringIO()
        try:
            with redirect_stdout(out):
                exec(compile("\n" * (line - 1) + block, str(page), "exec"), names)
            printed = out.getvalue()
        except NoCompilerError:
            printed = None
    for picture in tmp_path.glob("*.svg"):
        shown = ROOT / "docs" / "pictures" / picture.name
        assert words(shown) == words(picture), f"{shown.name} is stale: run `python docs/make_pictures.py`"


def test_a_wrong_output_is_noticed():
    assert same_output("loss 0.1234567 in 3", "loss 0.1234568 in 3")
    assert not same_output("loss 0.1234567 in 3", "loss 0.1235567 in 3")
    assert not same_output("loss 0.12 in 3", "loss 0.12 in 4")
    assert not same_output("loss 0.12", "cost 0.12")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", text) + re.findall(r'(?:src|srcset)="([^"]+)"', text)
    assert not [t for t in targets if "://" not in t and not (page.parent / t).exists()]


def words(svg: Path) -> list[str]:
    """The labels in a picture, which do not depend on the program that did the layout."""
    return sorted(re.findall(r"<text[^>]*>([^<]*)</text>", svg.read_text(encoding="utf-8")))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_named_on_a_page_exist(page):
    names = re.findall(r"\b(?:tinygrad_rnn|examples|docs|tests)/[\w/.]+\w", page.read_text(encoding="utf-8"))
    assert not [name for name in names if not (ROOT / name).exists()]


def test_the_page_on_numpys_functions_is_up_to_date():
    names = runpy.run_path(str(ROOT / "docs" / "make_coverage.py"))
    assert names["page"]() == names["PAGE"].read_text(encoding="utf-8"), "run `python docs/make_coverage.py`"
    assert "x**2" not in names["page"]()  # Markdown takes what is between two of these for bold


def test_the_readmes_commands_name_extras_that_exist():
    commands = re.findall(r'pip install -e "\.\[(\w+)\]"', (ROOT / "README.md").read_text(encoding="utf-8"))
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert commands
    assert set(commands) <= set(extras)
