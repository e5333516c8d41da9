"""The project: one list of packages everywhere, badges from one place, commands that explain themselves."""

import importlib.metadata
import json
import re
import shutil
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from support import EVERY_NOTEBOOK, NOTEBOOKS, ROOT, clean_environ, refused, run, tiny_data, tiny_model

from helpers import __version__, course
from helpers.__main__ import main
from helpers.classroom import lesson
from helpers.durable.errors import LessonError
from tools import badges

MOST_BYTES = 12 * 2**20
NOT_ON_COLAB = {"evaluate"}
REPOSITORY_FILES = ["helpers", "notebooks", "docs", "README.md", "colab_badge.md", "pyproject.toml"]


def project() -> dict:
    """Return pyproject.toml's table [project]."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def bounds(lines) -> dict[str, str]:
    """Return {name: bounds} of a list of requirements."""
    found = [Requirement(line) for line in lines]
    assert len({canonicalize_name(r.name) for r in found}) == len(found), "each is named once"
    return {canonicalize_name(r.name): str(r.specifier) for r in found}


def text_lines(name: str) -> list[str]:
    """Return the lines of a text file without comments and blank ones."""
    lines = [line.partition("#")[0].strip() for line in (ROOT / name).read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if line]


def direct() -> dict[str, str]:
    """Return the packages that the project names itself, with their bounds."""
    return bounds(project()["dependencies"] + project()["optional-dependencies"]["dev"])


EXTRAS = {"site": "docs/requirements.txt", "browser": "tests/browser/requirements.txt"}


def pins(name: str) -> dict[str, str]:
    """Return {name: version} of a file of name==version lines."""
    pairs = [re.fullmatch(r"([\w.-]+)==([\w.+!-]+)", line).groups() for line in text_lines(name)]
    return {canonicalize_name(package): version for package, version in pairs}


def test_requirements_are_those_of_pyproject():
    assert bounds(text_lines("requirements.txt")) == direct()


@pytest.mark.parametrize("extra", EXTRAS)
def test_what_site_and_browser_tests_need_is_listed_and_pinned(extra):
    needed = bounds(project()["optional-dependencies"][extra])
    assert bounds(text_lines(EXTRAS[extra])) == needed
    pinned = pins("constraints.txt")
    for name, bound in needed.items():
        assert Requirement(f"{name}{bound}").specifier.contains(pinned[name]), name


@pytest.mark.parametrize(("where", "there"), [("tests", False), ("tests/browser", True)])
def test_browser_tests_run_only_where_they_are_asked_for(tmp_path, where, there):
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "tests" / "browser").mkdir(parents=True)
    (tmp_path / "tests" / "browser" / "test_site.py").write_text("def test_it(): pass")
    quiet = ["-p", "no:cacheprovider", "-p", "no:hypothesispytest", "-p", "no:nbmake", "-p", "no:xdist"]
    done = run("-m", "pytest", "--collect-only", "-q", *quiet, where, cwd=tmp_path, env=clean_environ(tmp_path))
    assert ("tests/browser/test_site.py" in done.stdout) == there, done.stdout + done.stderr


def test_the_conda_environment_is_the_same():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    (by_pip,) = [entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict)]
    assert bounds(by_pip) == direct()
    assert any(str(entry).startswith("python") for entry in environment["dependencies"])


def test_the_readme_names_the_same_packages():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    listed = text[text.index("The packages are") : text.index("Colab has all")]
    names = {canonicalize_name(word) for word in re.findall(r"[A-Za-z][\w-]+", listed)}
    assert set(direct()) <= names
    assert names - set(direct()) <= set("the packages are and outside colab also for tests".split())  # noqa: SIM905


def test_constraints_pin_every_direct_dependency_within_its_bounds():
    pinned = pins("constraints.txt")
    for name, bound in direct().items():
        assert Requirement(f"{name}{bound}").specifier.contains(pinned[name]), name


@pytest.mark.parametrize("path", sorted((ROOT / "tests" / "colab").glob("freeze-*.txt")), ids=lambda path: path.stem)
def test_the_versions_of_each_image_of_colab_satisfy_the_bounds(path):
    lines = [line.partition("+cu")[0] for line in text_lines(path.relative_to(ROOT)) if not line.endswith("unknown")]
    there = {canonicalize_name(name): version for name, version in (line.split("==") for line in lines)}
    needed = bounds(project()["dependencies"])
    assert set(needed) - set(there) == NOT_ON_COLAB
    for name in set(needed) & set(there):
        assert Requirement(f"{name}{needed[name]}").specifier.contains(there[name]), name


def test_the_tests_run_with_versions_within_the_bounds():
    for name, bound in direct().items():
        assert Requirement(f"{name}{bound}").specifier.contains(importlib.metadata.version(name)), name


def test_the_package_is_small():
    there = [path for path in (ROOT / "helpers").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert {path.name for path in there} >= {"train.parquet", "model.safetensors", "tokenizer.json", "config.json"}
    assert sum(path.stat().st_size for path in there) < MOST_BYTES


def test_every_module_is_in_the_packages_description():
    import helpers

    for path in (ROOT / "helpers").glob("[a-z]*.py"):
        assert f"`{path.stem}`" in helpers.__doc__, path.name


@pytest.fixture
def copy(tmp_path) -> Path:
    """Return a copy of the files that have badges or other addresses of the repository."""
    other = shutil.ignore_patterns("pocket", "__pycache__", "*.png", "_build")
    for name in REPOSITORY_FILES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, tmp_path / name, ignore=other)
        else:
            shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def contents(folder: Path) -> dict[str, str]:
    """Return the text of all files in a folder."""
    return {str(p.relative_to(folder)): p.read_text(encoding="utf-8") for p in folder.rglob("*") if p.is_file()}


def test_badges_on_disk_are_those_of_this_repository():
    stale = [path.name for path, text in badges.pages(badges.repository()).items() if path.read_text("utf-8") != text]
    assert stale == [], "run: python -m helpers badges"


def test_badges_for_another_repository_change_that_and_nothing_else(copy):
    badges.write("third/one", copy)
    before, old = contents(copy), badges.repository(copy)
    changed = {str(path.relative_to(copy)) for path in badges.write("someone/else", copy)}
    after = contents(copy)
    assert changed == {name for name, text in before.items() if old in text}
    assert changed >= {"README.md", "colab_badge.md", "pyproject.toml", *(f"notebooks/{p.name}" for p in NOTEBOOKS)}
    assert {name: text.replace("someone/else", old) for name, text in after.items()} == before
    assert badges.repository(copy) == "someone/else" and badges.write(None, copy) == []
    for path in NOTEBOOKS:
        assert f"github/someone/else/blob/v{badges.version()}/notebooks/{path.name}" in after["README.md"]
        text = after[f"notebooks/{path.name}"]
        assert 'COURSE = \\"https://github.com/someone/else\\"' in text and old not in text
        assert json.loads(text)["cells"]
    badges.write(old, copy)
    assert contents(copy) == before, "and back again"


ADDRESSES = """
[token](https://github.com/{name}/blob/main/docs/glossary.md#token). Clone https://github.com/{name}.git or
git@github.com/{name}: read https://{pages}/index.html, <https://{pages}>, https://github.com/{name}.
https://raw.githubusercontent.com/{name}/main/README.md
https://colab.research.google.com/github/{name}/blob/v{version}/notebooks/solutions/01_gpu_check.ipynb
"""
OTHERS = """
https://github.com/huggingface/transformers/blob/main/docs/glossary.md, git+https://github.com/huggingface/evaluate
https://github.com/{name}-two/issues, https://huggingface.github.io/transformers, https://{pages}-old
"""


@pytest.mark.parametrize("place", ["notebook", "solution", "docs/teaching.md", "docs/deeper/page.md", "SECURITY.md"])
def test_every_address_of_the_repository_follows(copy, place):
    old, new = badges.repository(copy), "Some-One/else"
    owner, name = old.split("/")
    was = {"name": old, "pages": f"{owner}.github.io/{name}", "version": badges.version()}
    text = ADDRESSES.format(**was) + OTHERS.format(**was)
    if place in ("notebook", "solution"):
        path = copy / "notebooks" / ("solutions" if place == "solution" else "") / NOTEBOOKS[1].name
        notebook = json.loads((copy / "notebooks" / NOTEBOOKS[1].name).read_text(encoding="utf-8"))
        notebook["cells"][4]["source"] = text.splitlines(keepends=True)
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    else:
        path = copy / place
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert path in badges.write(new, copy)
    after = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        after = "".join(json.loads(after)["cells"][4]["source"])
    assert after == ADDRESSES.format(
        name=new, pages="some-one.github.io/else", version=badges.version()
    ) + OTHERS.format(**was)
    assert badges.write(new, copy) == []


def test_addresses_follow_a_name_that_was_written_into_pyproject_by_hand(copy):
    old = badges.repository(copy)
    page = copy / "docs" / "page.md"
    page.write_text(f"https://github.com/{old}/issues")
    pyproject = copy / "pyproject.toml"
    pyproject.write_text(pyproject.read_text().replace(f'"{old}"', '"by/hand"'))
    badges.write(None, copy)
    assert page.read_text() == "https://github.com/by/hand/issues"
    assert not [name for name, text in contents(copy).items() if f"/{old}" in text]


def test_the_table_of_badges_has_a_row_for_each_notebook():
    rows = badges.table(badges.repository()).splitlines()[2:]
    assert len(rows) == len(EVERY_NOTEBOOK)
    for row, path in zip(rows, EVERY_NOTEBOOK, strict=True):
        assert f"(notebooks/{path.name})" in row and row.count("|") == 4


def test_lost_marks_are_reported(copy):
    page = copy / "colab_badge.md"
    page.write_text(page.read_text().replace(badges.END, ""))
    with pytest.raises(LessonError, match="colab_badge.md has lost its lines"):
        badges.write("someone/else", copy)


@pytest.mark.parametrize("name", ["nonsense", "a/b/c", "https://github.com/a/b", "a /b"])
def test_badges_of_nonsense_are_refused(copy, name):
    before = contents(copy)
    with pytest.raises(LessonError, match="OWNER/REPO"):
        badges.write(name, copy)
    assert contents(copy) == before


def test_the_command_exits_with_2_and_a_message(tmp_path):
    done = run("-m", "helpers", "badges", "nonsense", cwd=ROOT, env=clean_environ(tmp_path))
    assert done.returncode == 2
    assert done.stderr.strip().startswith("'nonsense' is not a repository.") and "Traceback" not in done.stderr


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    """A function: run a command line in this process; return (exit status, what it printed, its errors)."""
    for name in ("EDITION", "HOME", "KEEP_ON_DRIVE", "MODEL", "DATASET", "TRAIN_ROWS", "EPOCHS", "SEED"):
        monkeypatch.setenv(f"LESSON_{name}", "")  # so that what a command sets is taken back
    monkeypatch.setenv("LESSON_EDITION", "pocket")
    monkeypatch.setenv("LESSON_HOME", str(tmp_path / "home"))

    def done(*arguments: str) -> tuple[int, str, str]:
        try:
            status = main([*arguments])
        except SystemExit as stopped:  # as argparse ends
            status = stopped.code
        return status, *capsys.readouterr()

    return done


@pytest.mark.parametrize("arguments", [["--epochs", "many"], ["--edition", "bucket"], ["--model", "no such!"]])
@pytest.mark.parametrize("name", ["train", "lesson"])
def test_bad_options_exit_with_2_and_a_message(command, name, arguments):
    status, out, errors = command(name, *arguments)
    assert (status, out) == (2, "") and arguments[1] in errors and "Traceback" not in errors


def test_a_home_that_cannot_be_written_exits_with_2_and_a_message(command, tmp_path):
    (tmp_path / "home").write_text("a file")
    status, _, errors = command("train")
    assert status == 2 and "LESSON_HOME" in errors and "Traceback" not in errors


def test_an_error_that_nobody_can_explain_is_not_hidden(command, monkeypatch):
    monkeypatch.setattr(course, "start_command", lambda values: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        command("train")


def test_help_names_commands_and_settings(command):
    status, out, _ = command("--help")
    assert status == 0 and all(word in out for word in ("lesson", "train", "progress", "badges"))
    _, out, _ = command("train", "--help")
    for option in ("edition", "home", "keep-on-drive", "model", "dataset", "train-rows", "epochs", "seed"):
        assert f"--{option}" in out


@pytest.mark.parametrize("arguments", [[], ["trian"], ["train", "--colour", "red"]])
def test_no_such_command_is_an_error(command, arguments):
    status, _, errors = command(*arguments)
    assert status == 2 and "usage:" in errors


def test_a_failing_notebook_is_reported_with_its_page(tmp_path):
    import nbformat
    from nbformat.v4 import new_code_cell, new_notebook

    path = tmp_path / "broken.ipynb"
    metadata = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    cells = [new_code_cell("print('before')"), new_code_cell("1 / 0"), new_code_cell("print('after')")]
    nbformat.write(new_notebook(cells=cells, metadata=metadata), path)
    with refused("lesson-stopped", "broken.ipynb", "ZeroDivisionError: division by zero"):
        lesson.execute(path, tmp_path / "pages")
    kept = nbformat.read(tmp_path / "pages" / "broken.ipynb", as_version=4)
    assert kept.cells[0].outputs[0].text == "before\n" and not kept.cells[2].outputs
    assert "ZeroDivisionError" in (tmp_path / "pages" / "broken.html").read_text(encoding="utf-8")


def test_the_page_of_a_notebook_says_what_its_figures_show(tmp_path):
    from nbformat.v4 import new_code_cell, new_notebook, writes

    bars = "from helpers import plots\nfigure = plots.bars({'this & that': 2.0}, 'How long?', 'metres')"
    plain = "import matplotlib.pyplot as plt\nfigure = plt.figure()\nplt.plot([1, 2]);"
    (tmp_path / "drawn.ipynb").write_text(writes(new_notebook(cells=[new_code_cell(bars), new_code_cell(plain)])))
    (tmp_path / "helpers").symlink_to(ROOT / "helpers")  # the kernel starts in the notebook's folder
    lesson.execute(tmp_path / "drawn.ipynb", tmp_path / "pages")
    page = (tmp_path / "pages" / "drawn.html").read_text(encoding="utf-8")
    told = re.findall(r'<img [^>]*?alt="([^"]*)"', page)
    assert told == [
        "How long? Bar chart, metres: this &amp; that 2.00.",
        "A figure; the text around it tells about it.",
    ]


PROBE = """
from helpers import settings
from helpers.durable import files
chosen = settings.read()
files.write_json(chosen.home / "results.json", [chosen.model, chosen.dataset])
"""


def test_folders_given_relative_to_here_are_found_by_every_notebook(tmp_path, monkeypatch):
    from nbformat.v4 import new_code_cell, new_notebook, writes

    (tmp_path / "course").mkdir()
    (tmp_path / "course" / "01.ipynb").write_text(writes(new_notebook(cells=[new_code_cell(PROBE)])))
    monkeypatch.setattr(lesson, "notebooks", lambda: [tmp_path / "course" / "01.ipynb"])
    monkeypatch.setattr(lesson, "summary", str)
    for name in ("LESSON_MODEL", "LESSON_DATASET", "LESSON_EDITION", "LESSON_HOME"):
        monkeypatch.setenv(name, "")  # so that what `start` sets is taken back
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    folders = [tiny_model(tmp_path / "here" / "mine"), tiny_data(tmp_path / "here" / "data")]
    monkeypatch.chdir(tmp_path / "here")
    options = {"edition": "pocket", "home": "results", "model": "mine", "dataset": "data"}
    assert lesson.run(course.start_command(options)) == [str(folder) for folder in folders]


def test_the_version_is_the_packages():
    assert re.fullmatch(r"\d+\.\d+\.\d+", __version__)
    assert "version" in project()["dynamic"]
