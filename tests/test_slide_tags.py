"""The slides' metadata in the notebooks, and how decks are made of them; tests/browser/test_slides.py looks at them."""

import importlib.util
import re

import pytest
from support import EVERY_NOTEBOOK, NOTEBOOKS, ROOT, load_notebook, source

from helpers.durable.errors import LessonError
from tools import badges

TYPES = ("slide", "subslide", "fragment", "skip", "notes", "-")
MOST_SLIDES = 20

every_notebook = pytest.mark.parametrize("path", EVERY_NOTEBOOK, ids=lambda path: path.stem)


def load_tool():
    """Return tools/slides.py as a module."""
    spec = importlib.util.spec_from_file_location("slides_tool", ROOT / "tools" / "slides.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


slides = load_tool()


def slide_type(cell) -> str | None:
    """Return the type that a cell's metadata gives."""
    return cell["metadata"].get("slideshow", {}).get("slide_type")


@every_notebook
def test_every_cell_says_what_it_is_in_a_deck(path):
    cells = load_notebook(path)["cells"]
    assert {cell["id"]: slide_type(cell) for cell in cells if slide_type(cell) not in TYPES} == {}
    assert all(set(cell["metadata"]["slideshow"]) == {"slide_type"} for cell in cells)


@every_notebook
def test_a_deck_is_short_and_goes_from_the_title_to_the_summary(path):
    cells = load_notebook(path)["cells"]
    begins = [cell for cell in cells if slide_type(cell) in ("slide", "subslide")]
    assert 8 <= len(begins) <= MOST_SLIDES
    assert source(begins[0]).startswith("# ") and begins[0] is cells[0]
    assert source(begins[-1]).startswith("## Summary") and begins[-1] is cells[-1]


@every_notebook
def test_a_deck_shows_every_figure_and_no_form_or_check(path):
    for cell in load_notebook(path)["cells"]:
        picture = any("image/png" in output.get("data", {}) for output in cell.get("outputs", []))
        hidden = "# @title" in source(cell) or "All checks passed." in source(cell) or "## Self-test" in source(cell)
        assert not picture or slide_type(cell) in ("slide", "-"), cell["id"]
        assert not hidden or slide_type(cell) == "skip", cell["id"]


@every_notebook
def test_a_heading_begins_a_slide_or_what_is_left_out(path):
    """So that no slide begins with the end of the one before."""
    for cell in load_notebook(path)["cells"]:
        text = re.sub(r"```.*?```|<details>.*?</details>", "", source(cell), flags=re.S)
        headings = re.findall(r"^#{1,3} ", text, re.M)
        if cell["cell_type"] == "markdown" and headings and not text.startswith("## Summary"):
            assert text.startswith(headings[0]) and len(headings) == 1, f"{cell['id']}: cut it before the heading"
            assert slide_type(cell) in ("slide", "skip"), cell["id"]


def test_the_packages_for_the_decks_are_pinned():
    web = ROOT / "tools" / "web"
    wanted, lock = load_notebook(web / "package.json"), load_notebook(web / "package-lock.json")
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in wanted["dependencies"].values())
    assert lock["packages"][""]["dependencies"] == wanted["dependencies"]
    packages = [about for name, about in lock["packages"].items() if name]
    assert all(about["integrity"].startswith("sha512-") and "resolved" not in about for about in packages)


def test_without_npm_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(slides, "WEB", tmp_path)
    (tmp_path / "package-lock.json").write_text("{}")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LessonError, match="needs npm, which is not installed.*apt install nodejs npm"):
        slides.fetch()


def test_what_npm_says_is_quoted_and_a_failed_fetch_is_tried_again(tmp_path, monkeypatch):
    web, bin_ = tmp_path / "web", tmp_path / "bin"
    web.mkdir(), bin_.mkdir()
    (web / "package-lock.json").write_text("{}")
    npm = bin_ / "npm"
    npm.write_text("#!/bin/sh\necho 'npm error network' >&2\nexit 1\n")
    npm.chmod(0o755)
    monkeypatch.setattr(slides, "WEB", web)
    monkeypatch.setenv("PATH", f"{bin_}:/bin:/usr/bin")
    with pytest.raises(LessonError, match="(?s)failed.*npm error network"):
        slides.fetch()
    npm.write_text('#!/bin/sh\necho "$@" >> calls; mkdir -p node_modules\n')
    assert slides.fetch() == slides.fetch() == web / "node_modules"
    assert (web / "calls").read_text().splitlines() == ["ci --ignore-scripts --no-audit --no-fund"], "fetched once"
    (web / "package-lock.json").write_text('{"other": 1}')
    slides.fetch()
    assert len((web / "calls").read_text().splitlines()) == 2, "another lock is fetched again"


def test_links_of_a_deck_lead_somewhere():
    text = "[![Open](https://a.example/x.svg)](https://b.example) [2](02_load_data.ipynb) [s](solutions/01_a.ipynb)"
    made = slides.with_links(text, NOTEBOOKS[0])
    assert "[Open](https://b.example)" in made and "[2](02_load_data.html)" in made
    assert made.endswith(f"[s](https://github.com/{badges.repository()}/blob/main/notebooks/solutions/01_a.ipynb)")


def test_formulas_are_found_and_code_is_left_alone(monkeypatch):
    seen = []

    def node(command, what, input):
        seen.append(input)
        return '["<math>n</math>", "<math>2n</math>"]'

    monkeypatch.setattr(slides, "node", node)
    text = "with $n$ rows `a$b$` and $2n$; it costs $5 or $6.\n```\n$x$\n```"
    made = "with <math>n</math> rows `a$b$` and <math>2n</math>; it costs $5 or $6.\n```\n$x$\n```"
    assert slides.with_formulas(["no formula", text]) == ["no formula", made]
    assert seen == ['["n", "2n"]']
