"""A release: the same wheel on every machine, and every notebook names it."""

import json
import os
import shutil
import stat
import subprocess
import zipfile

import pytest
from support import NOTEBOOKS, ROOT

from helpers import __version__
from helpers.durable.errors import LessonError
from tools import badges, release

ALL = [*NOTEBOOKS, *sorted((ROOT / "notebooks" / "solutions").glob("0*.ipynb"))]
MOST_SETUP_LINES = 40  # of the setup cell, which a form hides in Colab


def setup_cells(path) -> list[str]:
    """Return the setup cells of a notebook."""
    sources = ["".join(cell["source"]) for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]]
    return [source for source in sources if source.startswith(badges.SETUP)]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel of this tree."""
    return release.build(tmp_path_factory.mktemp("wheel"))


@pytest.fixture
def clone(tmp_path):
    """A clone of what the wheel and the addresses are made of."""
    for name in (
        "helpers",
        "notebooks",
        "docs",
        "README.md",
        "colab_badge.md",
        "pyproject.toml",
        "LICENSE",
        ".gitignore",
    ):
        if (ROOT / name).is_dir():
            shutil.copytree(
                ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "*.png", "_build")
            )
        else:
            shutil.copy(ROOT / name, tmp_path / name)
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    return tmp_path


def test_notebooks_install_the_wheel_of_this_tree(wheel):
    assert badges.wheels()[0] == release.fingerprint(wheel), "run: make notebooks"
    assert badges.version() == __version__
    name, _, sha256 = release.fingerprint(wheel).partition("#")
    for path in ALL:
        (cell,) = setup_cells(path)
        assert f'"{name}"\n    "#{sha256}"' in cell, f"{path.name}: run: make notebooks"


def test_the_setup_cell_is_the_same_in_all_notebooks_and_short():
    assert {cell for path in ALL for cell in setup_cells(path)} == {badges.setup_cell(badges.repository())}
    for repository in (badges.PLACEHOLDER, "own-er/course"):
        lines = [line for line in badges.setup_cell(repository).splitlines() if line.strip()]
        assert len(lines) <= MOST_SETUP_LINES and max(map(len, lines)) <= 88
        assert not [word for word in ("HASH", "VERSION", "HELPERS", "EVALUATE", "NO ADDRESS") if word in str(lines)]
        compile("\n".join(lines), "setup cell", "exec")


def test_the_same_tree_gives_the_same_bytes(wheel, clone, tmp_path, monkeypatch):
    for path in (clone / "helpers").rglob("*"):  # another date, another mode, other files beside
        os.utime(path, (10**9, 10**9))
        path.chmod(path.stat().st_mode ^ stat.S_IWGRP)
    (clone / "helpers" / "__pycache__").mkdir()
    (clone / "helpers" / "__pycache__" / "gpu.cpython-399.pyc").write_bytes(b"left over")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1234567890")
    monkeypatch.chdir(tmp_path)
    again = release.build(clone / "dist", clone)
    assert again.name == wheel.name and again.read_bytes() == wheel.read_bytes()


def test_a_changed_helper_makes_another_wheel(wheel, clone):
    with (clone / "helpers" / "__init__.py").open("a") as module:
        module.write("\n")
    assert release.build(clone / "dist", clone).read_bytes() != wheel.read_bytes()


def test_the_wheel_holds_the_helpers_and_names_no_address(wheel):
    with zipfile.ZipFile(wheel) as archive:
        assert archive.testzip() is None
        names, whole = archive.namelist(), b"".join(archive.read(name) for name in archive.namelist())
    ours = {
        path.relative_to(ROOT).as_posix() for path in release.tracked(ROOT) if path.is_relative_to(ROOT / "helpers")
    }
    assert {name for name in names if ".dist-info/" not in name} == ours
    assert {name.partition("/")[0] for name in names} == {"helpers", f"finetune_step_by_step-{__version__}.dist-info"}
    assert badges.repository().encode() not in whole, "or the fingerprint would change with the address"


def test_a_release_without_an_address_is_refused(clone, capsys):
    with pytest.raises(LessonError, match="no address yet"):
        badges.write(badges.PLACEHOLDER, clone)
        release.set_version("1.2.0", clone)
    assert f'"{__version__}"' in (clone / "helpers" / "__init__.py").read_text()


def test_a_release_sets_version_address_and_fingerprint_everywhere(clone):
    badges.write("own-er/course", clone)
    before = badges.wheels(clone)[0]
    release.set_version("1.2.0", clone)
    wheel, changed = release.stamp(clone / "dist", clone)
    assert wheel.name == "finetune_step_by_step-1.2.0-py3-none-any.whl" and clone / "pyproject.toml" in changed
    assert badges.wheels(clone)[0] == release.fingerprint(wheel) != before
    for path in ALL:
        there = clone / path.relative_to(ROOT)
        (cell,) = setup_cells(there)
        assert there in changed and "own-er/course" in cell and "no address" not in cell
        assert f'"{wheel.name}"' in cell and "download/v1.2.0" in cell and '!= "1.2.0"' in cell
        text = there.read_text(encoding="utf-8")
        assert f"own-er/course/blob/v1.2.0/notebooks/{path.relative_to(ROOT / 'notebooks').as_posix()}" in text
        assert badges.PLACEHOLDER not in text and before.partition("#")[0] not in text
    assert "blob/v1.2.0/notebooks/06" in (clone / "README.md").read_text(encoding="utf-8")
    assert release.stamp(clone / "dist", clone)[1] == [], "a second time there is nothing to do"


@pytest.mark.parametrize("version", ["1.0", "v1.0.0", "1.0.0rc1", "new"])
def test_nonsense_is_no_version(clone, version):
    with pytest.raises(LessonError, match="three numbers"):
        release.set_version(version, clone)


def test_links_between_notebooks_lead_to_colab_too():
    # A copy in Google Drive has no neighbours: a link to the next file leads nowhere there.
    repository, found = badges.repository(), 0
    for path in ALL:
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            text = "".join(cell["source"])
            if cell["cell_type"] == "markdown" and ".ipynb)" in text:
                for match in badges.NOTEBOOK_LINK.finditer(text):
                    name = (path.parent / match[2]).resolve().relative_to(ROOT / "notebooks").as_posix()
                    assert match[0].endswith(f" ([in Colab]({badges.colab(repository, name)}))"), match[0]
                    found += 1
    assert found >= len(ALL) + len(NOTEBOOKS) - 2
