"""The committed notebooks: executed in order, tidy, more prose than code, and a first cell that works anywhere."""

import ast
import json
import re
import shutil

import nbformat
import pytest
from support import LESSONS, NOTEBOOKS, PAGE, ROOT, clean_environ, code_cells, load_notebook, run, source

from helpers.classroom import lesson
from helpers.exercises import judging, registry
from tools import badges

MOST_LINES = 15  # of a code cell, blank ones not counted
MOST_COLUMNS = 88  # of a line of code: what JupyterLab shows on a small screen
MOST_STATEMENTS_OF_THE_PAGE = 48  # without imports, setup and settings
WORDS_A_LINE = 6  # of prose for each line of code, at least
TRAINING = (
    PAGE.name,
    "01_gpu_check.ipynb",
    "04_train.ipynb",
    "05_evaluate.ipynb",
    "06_go_faster.ipynb",
    "10_nothing_is_lost.ipynb",
)
MACHINE_PATHS = re.compile(r"(?<![\w.])/(?:work|root|home|tmp|Users|usr|opt|mnt|content)/")

every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
every_lesson = pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)


def lines(cell) -> list[str]:
    """Return the lines of a cell that are not blank."""
    return [line for line in source(cell).splitlines() if line.strip()]


def written(path) -> list:
    """Return the code cells that an author has written: all but the setup cell (tests/test_release.py), a form."""
    return [cell for cell in code_cells(path) if not source(cell).startswith(badges.SETUP)]


def prose(path) -> str:
    """Return all text between the code."""
    return "\n".join(source(cell) for cell in load_notebook(path)["cells"] if cell["cell_type"] == "markdown")


def outputs(path) -> list[dict]:
    """Return all outputs of a notebook."""
    return [output for cell in code_cells(path) for output in cell["outputs"]]


def test_there_are_six_lessons_in_order_after_the_page():
    names = ["00_on_one_page", "01_gpu_check", "02_load_data", "03_tokenize", "04_train", "05_evaluate", "06_go_faster"]
    assert [path.stem for path in NOTEBOOKS] == [*names, "10_nothing_is_lost"]


@every_notebook
def test_it_is_a_valid_notebook(path):
    nbformat.validate(nbformat.read(path, as_version=4))
    ids = [cell["id"] for cell in load_notebook(path)["cells"]]
    assert len(set(ids)) == len(ids)


@every_notebook
def test_it_was_executed_once_from_top_to_bottom(path):
    cells = code_cells(path)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    assert not [output for output in outputs(path) if output["output_type"] == "error"]


@every_lesson
def test_all_checks_have_passed_and_the_card_is_shown(path):
    cells = code_cells(path)
    assert "All checks passed." in json.dumps(cells[-2]["outputs"])
    assert "Your exercises" in json.dumps(cells[-1]["outputs"], ensure_ascii=False)


@every_notebook
def test_it_ran_in_the_pocket_edition(path):
    first = next(output for output in outputs(path))
    assert "".join(first["text"]).startswith("Edition: pocket")


@every_notebook
def test_outputs_hold_no_widgets_and_no_progress_bars(path):
    assert "widgets" not in load_notebook(path)["metadata"]
    text = json.dumps(outputs(path))
    for trace in ("application/vnd.jupyter.widget-view+json", "<progress", "it/s]", "\\r", "\\u001b["):
        assert trace not in text


@every_lesson
def test_pictures_are_png(path):
    kinds = [kind for output in outputs(path) for kind in output.get("data", {}) if kind.startswith("image/")]
    assert set(kinds) <= {"image/png"} and (len(kinds) >= 1 or path == PAGE)


@every_notebook
def test_no_path_of_a_machine_is_told(path):
    for cell in load_notebook(path)["cells"]:
        text = source(cell) + json.dumps([{**o, "data": {**o.get("data", {}), "image/png": ""}} for o in
                                          cell.get("outputs", [])])  # fmt: skip
        assert not MACHINE_PATHS.search(text.replace("https://", "")), MACHINE_PATHS.search(text)
        assert str(ROOT) not in text


@every_notebook
def test_code_cells_are_short(path):
    assert {i: len(lines(c)) for i, c in enumerate(written(path)) if len(lines(c)) > MOST_LINES} == {}


@pytest.mark.parametrize("path", [*NOTEBOOKS, *lesson.solutions()], ids=lambda path: f"{path.parent.stem}-{path.stem}")
def test_lines_of_code_are_short(path):
    code = [line for cell in written(path) for line in lines(cell) if not line.startswith("# @title ")]
    assert [line for line in code if len(line) > MOST_COLUMNS] == []


@every_notebook
def test_setup_and_settings_are_folded_away(path):
    """In Colab as a form, in JupyterLab as a hidden source: the lesson begins with the lesson."""
    for cell in code_cells(path)[:2]:
        assert source(cell).startswith("# @title ")
        assert cell["metadata"]["cellView"] == "form" and cell["metadata"]["jupyter"] == {"source_hidden": True}


@every_lesson
def test_what_is_true_of_this_data_alone_is_told_and_not_asserted(path):
    """With a reader's own data or model a claim may fail; then it is a sentence, and the notebook goes on."""
    claims = code_cells(path)[-3]
    said = "".join("".join(output.get("text", "")) for output in claims["outputs"]).splitlines()
    assert said and all(line.endswith((": holds here", ": does not hold here")) for line in said)
    assert "assert " not in source(claims)


@pytest.mark.parametrize("path", [*NOTEBOOKS, *lesson.solutions()], ids=lambda path: f"{path.parent.stem}-{path.stem}")
def test_there_is_more_prose_than_code(path):
    code = sum(len(lines(cell)) for cell in written(path))
    assert len(prose(path).split()) >= WORDS_A_LINE * code


@every_notebook
def test_metadata(path):
    metadata = load_notebook(path)["metadata"]
    assert metadata["kernelspec"] == {"display_name": "Python 3", "language": "python", "name": "python3"}
    colab = metadata["colab"]
    assert (colab["name"], colab["toc_visible"], colab["provenance"]) == (path.name, True, [])
    assert (metadata.get("accelerator"), colab.get("gpuType")) == (
        ("GPU", "T4") if path.name in TRAINING else (None, None)
    )


@every_notebook
def test_badge(path):
    found = re.findall(r"\[!\[Open in Colab\].*", source(load_notebook(path)["cells"][0]))
    assert found == [badges.badge(badges.repository(), path.name)]


@pytest.mark.parametrize("number", [0, 1])
def test_the_first_two_code_cells_are_the_same_everywhere(number):
    assert len({source(code_cells(path)[number]) for path in NOTEBOOKS}) == 1


@every_lesson
def test_the_last_code_cells_check_and_show_the_card(path):
    assert source(code_cells(path)[-2]).count("assert ") >= 3
    assert source(code_cells(path)[-1]).strip().endswith("progress.card(settings)")


@every_lesson
def test_it_ends_with_a_summary_and_the_way_on(path):
    last = source(load_notebook(path)["cells"][-1])
    assert "## Summary" in last
    number = LESSONS.index(path) + 1
    if number < len(LESSONS):
        assert re.search(r"\*\*Next: \[[^\]]+\]\(([^)]+)\) ", last)[1] == LESSONS[number].name
    else:
        assert "end of the course" in last


@every_lesson
def test_a_self_test_opens_it_and_its_answers_are_folded_away(path):
    (place,) = [i for i, cell in enumerate(load_notebook(path)["cells"]) if "## Self-test" in source(cell)]
    cells = load_notebook(path)["cells"]
    code = [cell for cell in cells[:place] if cell["cell_type"] == "code"]
    assert place <= 5 and len(code) <= 2, "before it stand the title, the setup and the settings alone"
    cell = source(cells[place])
    assert cell.count("<details>") == cell.count("</details>") == 3


MODULES = dict(zip(sorted(path.stem for path in LESSONS), registry.TITLES, strict=True))
every_solution = pytest.mark.parametrize("path", lesson.solutions(), ids=lambda path: path.stem)


def test_each_notebook_has_its_solutions():
    assert [path.name for path in lesson.solutions()] == [path.name for path in LESSONS]


@every_lesson
def test_each_exercise_has_a_cell_that_runs_unanswered(path):
    module = MODULES[path.stem]
    text = "\n".join(map(source, code_cells(path)))
    assert f'check = Check("{module}", globals())' in text
    assert re.findall(r"^check\.(\w+)\(", text, re.M) == list(registry.EXERCISES[module])
    assert 4 <= len(registry.EXERCISES[module]) <= 6
    for cell in code_cells(path):
        if re.search(r"^check\.\w+\(", source(cell), re.M):
            (output,) = cell["outputs"]
            assert judging.SIGNS[judging.OPEN] in "".join(output["data"]["text/plain"])
    headings = re.findall(r"^### Exercise (\d\.\d|\w+)", prose(path), re.M)
    assert len(headings) == len(registry.EXERCISES[module])


def test_the_page_is_a_recipe_to_copy():
    """Of the course's own only the settings, a line for the columns, and a script."""
    code = [line for cell in written(PAGE)[1:] for line in lines(cell)]
    statements = [node for node in ast.walk(ast.parse("\n".join(code))) if isinstance(node, ast.stmt)]
    imports = [node for node in statements if isinstance(node, (ast.Import, ast.ImportFrom))]
    assert len(statements) - len(imports) <= MOST_STATEMENTS_OF_THE_PAGE
    own = [line for line in code if re.search(r"\bhelpers\b|\bcolumns\.", line)]
    assert own == [
        "from helpers import columns",
        "dataset = columns.standard_columns(dataset)  # the course's own line",
        'accuracy = evaluate.load(f"{helpers.__path__[0]}/metrics/accuracy.py")',
    ]
    assert "check." not in "".join(code) and "docs/glossary.md" not in prose(PAGE), "terms are linked in the lessons"


def test_the_page_leads_to_every_lesson():
    targets = re.findall(r"\]\((\d\d_\w+\.ipynb)\)", prose(PAGE))
    assert set(targets) == {path.name for path in LESSONS}


def test_the_page_numbers_all_sixteen_steps_once():
    numbers = []
    for first, last in re.findall(r"^## Steps? (\d+)(?: (?:to|and) (\d+))?:", prose(PAGE), re.M):
        numbers += range(int(first), int(last or first) + 1)
    assert numbers == list(range(1, 17))


@every_solution
def test_a_solution_answers_every_exercise(path):
    module = MODULES[path.stem]
    cells = [cell for cell in code_cells(path) if re.search(r"^check\.\w+\(", source(cell), re.M)]
    assert [re.search(r"^check\.(\w+)\(", source(c), re.M)[1] for c in cells] == list(registry.EXERCISES[module])
    assert all(judging.SIGNS[judging.RIGHT] in "".join(cell["outputs"][-1]["data"]["text/plain"]) for cell in cells)
    assert any(f'Check("{module}", globals(), remember=False)' in source(cell) for cell in code_cells(path))


@every_solution
def test_a_solution_is_tidy(path):
    test_it_is_a_valid_notebook(path)
    test_outputs_hold_no_widgets_and_no_progress_bars(path)
    test_no_path_of_a_machine_is_told(path)
    test_code_cells_are_short(path)
    test_headings_begin_at_the_title(path)
    cells = code_cells(path)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    assert not [output for output in outputs(path) if output["output_type"] == "error"]


@every_notebook
def test_links_lead_to_files(path):
    targets = re.findall(r"\]\(([^)#\s]+)\)", prose(path))
    local = [target for target in targets if "://" not in target]
    assert local and all((path.parent / target).exists() for target in local)


@every_notebook
def test_headings_begin_at_the_title(path):
    headings = re.findall(r"^(#+) ", prose(path), re.M)
    assert headings.count("#") == 1 and headings[0] == "#" and set(headings) <= {"#", "##", "###"}


def first_cell() -> str:
    """Return the setup cell as it is for a real repository, which lies, for these tests, nowhere."""
    return badges.setup_cell("own-er/course").replace("https://github.com", "file:///no/such")


def without_path(folder) -> dict[str, str]:
    """Return an environment in which the repository is not importable by itself."""
    environ = clean_environ(folder, PIP_NO_INDEX=1, PIP_DISABLE_PIP_VERSION_CHECK=1)
    environ.pop("PYTHONPATH")
    return environ


def test_the_first_cell_in_a_clone_uses_the_clone_and_installs_nothing(tmp_path):
    folder = tmp_path / "clone" / "notebooks"
    folder.mkdir(parents=True)
    shutil.copytree(ROOT / "helpers", tmp_path / "clone" / "helpers", ignore=shutil.ignore_patterns("data"))
    code = first_cell()
    code = f"{code}\n{code}\nimport helpers; print(helpers.__file__)"
    done = run("-c", code, cwd=folder, env=without_path(tmp_path))
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(tmp_path / "clone" / "helpers" / "__init__.py")
    assert list(folder.iterdir()) == []


def test_the_first_cell_leaves_an_installed_course_alone(tmp_path):
    environ = without_path(tmp_path) | {"PYTHONPATH": str(ROOT)}
    done = run("-c", first_cell(), cwd=tmp_path, env=environ)
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_first_cell_quotes_pip_where_it_fails(tmp_path):
    done = run("-c", first_cell(), cwd=tmp_path, env=without_path(tmp_path))
    assert done.returncode == 1 and done.stdout.startswith("Installing")
    message = done.stderr[done.stderr.index("Stop: The course's helpers could not be installed. pip says: ") :]
    assert "/no/such/own-er/course" in message and "run this cell again" in message
    assert list(tmp_path.iterdir()) == []


def test_the_first_cell_names_a_file_that_is_in_its_place(tmp_path):
    (tmp_path / "helpers.py").write_text("")
    environ = without_path(tmp_path) | {"PYTHONPATH": str(ROOT)}
    done = run("-c", f"import helpers\n{first_cell()}", cwd=tmp_path, env=environ)
    assert done.returncode == 1 and str(tmp_path / "helpers.py") in done.stderr and "rename it" in done.stderr
