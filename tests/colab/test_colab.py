"""The notebooks where they are used: on Colab's image, alone in a folder, with the real setup cell through pip.

`make colab` runs all of it; `.ci/run` runs it without the tests marked `long`.
"""

import json
import os
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import image as colab
import pytest

from conftest import GITHUB, ROOT
from tools import badges

NOTEBOOKS = sorted((ROOT / "notebooks").glob("0*.ipynb"))
VERSION = badges.version()
IMPORT = "from helpers import settings\nprint(settings.__file__)"


def said(cell: dict) -> str:
    """Return what a cell printed, and its error as a notebook shows it."""
    parts = [output.get("text") or "\n".join(output.get("traceback", [])) for output in cell["outputs"]]
    return "".join("".join(part) for part in parts)


def failed(cell: dict) -> bool:
    """Whether a cell ended with an error."""
    return any(output["output_type"] == "error" for output in cell["outputs"])


def one_paragraph(cell: dict) -> str:
    """Return the error of a cell, which must be a short text without a traceback."""
    assert failed(cell), said(cell)
    text = "\n".join(cell["outputs"][-1]["traceback"])
    assert text.count("\n") < 3 and len(text) < 800 and "Traceback" not in text and "--->" not in text, text
    return text


def stamped(path: Path, served) -> dict:
    """Return a notebook of the course with the setup cell that installs from `served`."""
    content = json.loads(path.read_text(encoding="utf-8"))
    for cell in content["cells"]:
        if "".join(cell["source"]).startswith(badges.SETUP):
            cell["source"] = served.cell()
    return content


def test_the_image_has_what_makes_colab_different(student):
    cell = "from importlib import metadata\nprint(*sorted(f'{d.name}=={d.version}' for d in metadata.distributions()))"
    there = said(student.cells(cell)[0]).split()
    _, wanted = colab.freeze(os.environ.get("COLAB_FREEZE", colab.NEWEST))
    for name, second in {"six": "1.16.0", "packaging": "24.1", "zipp": "3.19.2"}.items():
        assert {f"{name}=={wanted[name]}", f"{name}=={second}"} <= set(there)
    assert "jupyter_kernel_gateway==unknown" in there
    assert f"six=={wanted['six']}" in student.freeze() and "six==1.16.0" not in student.freeze()


def test_the_setup_cell_of_version_0_1_fails_here(student, served, made):
    # It stood in all notebooks, passed wherever it was tested, and has never worked in Colab.
    old = (ROOT / "tests" / "colab" / "first_cell_of_0_1.txt").read_text(encoding="utf-8")
    wheel = badges.wheels()[0].partition("#")[0]
    old = old.replace(f"git+{GITHUB}/finetune-step-by-step/finetune-step-by-step", f"{served.host}/{wheel}")
    shutil.copy(made / wheel, served.folder)
    (cell,) = student.cells(old)
    assert failed(cell) and "ResolutionImpossible" in said(cell)


def test_the_setup_cell_works_and_changes_nothing(student, served):
    before = student.freeze()
    student.environ["PIP_INDEX_URL"] = f"{served.host}/index"
    began = time.perf_counter()
    first, second = student.cells(f"{served.cell()}\nimport time\nprint(time.process_time())", IMPORT)
    print(f"\nthe setup cell, with the start of its kernel: {time.perf_counter() - began:.1f} s", file=sys.__stdout__)
    assert said(first).startswith("Installing") and not failed(first)
    assert not failed(second) and "site-packages" not in said(second)
    assert [Path(path).suffix for path in served.asked] == [".whl", ".whl"], "two files, and no index"
    assert student.freeze() == before
    assert [path.name for path in student.folder.iterdir()] == ["Untitled.ipynb"]


@pytest.mark.long
@pytest.mark.parametrize("kind", ["file", "package", "folder", "installed"])
def test_an_owners_own_helpers_are_not_taken(student, served, kind):
    if kind == "file":
        (student.folder / "helpers.py").write_text("raise SystemExit('the wrong helpers')\n")
    elif kind == "installed":  # PyPI has a package `helpers` 0.2.0
        student.environ["PYTHONPATH"] = str(student.folder.parent / "pypi")
        colab.metadata(student.folder.parent / "pypi", "helpers", "0.2.0")
        (student.folder.parent / "pypi" / "helpers").mkdir()
        (student.folder.parent / "pypi" / "helpers" / "__init__.py").write_text("__version__ = '0.2.0'\n")
    else:
        (student.folder / "helpers").mkdir()
        (student.folder / "helpers" / "settings.py").write_text("")
        if kind == "package":
            (student.folder / "helpers" / "__init__.py").write_text("")
    cells = student.cells(served.cell(), IMPORT, served.cell())
    assert not any(map(failed, cells)), said(cells[0])
    assert str(student.folder) not in said(cells[1])
    assert said(cells[2]) == "", "a second time there is nothing to install"


@pytest.mark.long
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_helpers_that_are_already_imported_are_named(student, served, kind):
    if kind == "file":
        (student.folder / "helpers.py").write_text("mine = 1\n")
    else:
        (student.folder / "helpers").mkdir()
    text = one_paragraph(student.cells("import helpers", served.cell())[1])
    assert str(student.folder / "helpers") in text and "rename it" in text


def test_another_wheel_at_the_same_address_is_refused(student, served):
    wheel = served.files / badges.wheels()[0].partition("#")[0]
    with zipfile.ZipFile(wheel, "a") as other:
        other.writestr("helpers/attack.py", "print('attacked')\n")
    text = one_paragraph(student.cells(served.cell(), IMPORT)[0])
    assert "DO NOT MATCH THE HASHES" in text


@pytest.mark.long
def test_another_version_is_named_with_the_address_of_its_notebooks(student, served, made, tmp_path):
    other = tmp_path / "installed"
    with zipfile.ZipFile(made / badges.wheels()[0].partition("#")[0]) as wheel:
        wheel.extractall(other)
    module = other / "helpers" / "__init__.py"
    module.write_text(module.read_text().replace(f'"{VERSION}"', '"9.9.9"'))
    student.environ["PYTHONPATH"] = str(other)
    text = one_paragraph(student.cells(served.cell())[0])
    assert VERSION in text and f"{served.host}/own-er/course/tree/v9.9.9" in text and not served.asked


@pytest.mark.long
def test_what_is_installed_is_used_as_it_is(student, served, made, tmp_path):
    with zipfile.ZipFile(made / badges.wheels()[0].partition("#")[0]) as wheel:
        wheel.extractall(tmp_path / "installed")
    student.environ["PYTHONPATH"] = str(tmp_path / "installed")
    cells = student.cells(served.cell(), IMPORT)
    assert said(cells[0]) == "" and str(tmp_path / "installed") in said(cells[1]) and not served.asked


@pytest.mark.long
def test_without_a_network_it_ends_in_a_paragraph(student, served):
    text = one_paragraph(student.cells(served.cell().replace(served.host, "http://127.0.0.1:9"))[0])
    assert "could not be installed" in text and "Max retries exceeded" in text and "On Kaggle" in text


@pytest.mark.long
def test_without_an_address_it_says_how_to_write_one(student, served):
    text = one_paragraph(student.cells(badges.setup_cell(badges.PLACEHOLDER).replace(GITHUB, served.host))[0])
    assert "no address yet" in text and "python -m helpers badges OWNER/REPO" in text
    assert not served.asked


@pytest.mark.long
def test_on_kaggle_without_internet_a_data_set_with_the_wheels_will_do(student, served, made, tmp_path):
    shutil.copytree(made, tmp_path / "input" / "datasets" / "teacher" / "finetune-step-by-step")
    cell = served.cell().replace("/kaggle/input", (tmp_path / "input").as_posix())
    cells = student.cells(cell.replace(served.host, "http://127.0.0.1:9"), IMPORT)
    assert not any(map(failed, cells)), said(cells[0])
    wheel = next((tmp_path / "input").rglob("finetune*.whl"))
    wheel.write_bytes(wheel.read_bytes() + b"attack")
    assert "DO NOT MATCH THE HASHES" in one_paragraph(student.cells(cell)[0])


def test_an_old_python_is_named(served, tmp_path):
    python = colab.find_python("3.9")
    if python is None:
        pytest.skip("this machine has no Python 3.9, which a Mac's own is: nothing was tried")
    (tmp_path / "cell.py").write_text(served.cell(), encoding="utf-8")
    done = subprocess.run([python, tmp_path / "cell.py"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1 and "requires a different Python: 3.9" in done.stderr


def test_all_notebooks_in_order(student, served):
    student.environ["LESSON_HOME"] = str(student.folder.parent / "home")
    whole_course(student, served, NOTEBOOKS)


@pytest.mark.long
@pytest.mark.parametrize("path", NOTEBOOKS[1:], ids=lambda path: path.stem)
def test_each_notebook_on_a_machine_of_its_own(student, served, path):
    whole_course(student, served, [path])


def whole_course(student, served, paths) -> None:
    """Run notebooks one after another, and say how long each took."""
    before = student.freeze()
    for path in paths:
        began = time.perf_counter()
        cells = student.run(stamped(path, served), path.name)
        assert not any(map(failed, cells)), said(next(filter(failed, cells)))
        print(f"\n{path.stem}: {time.perf_counter() - began:.0f} s", end="", file=sys.__stdout__, flush=True)
    assert student.freeze() == before
