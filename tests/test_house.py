"""The house: each lesson stands on those before it, nothing goes in a circle, and the durable part knows no course."""

import ast
import importlib
import os
import re
from functools import cache
from pathlib import Path

import pytest
import support
from support import NOTEBOOKS, ROOT, clean_environ, code_cells, run, source

LESSONS = ("gpu", "data", "tokenization", "training", "evaluation", "speed")
BELOW = {"columns": "data"}  # a room of a lesson's
MOST_DURABLE_LINES = 650  # of code
ENGINE = ("check", "judging", "progress", "registry")


@cache
def modules() -> dict[str, Path]:
    """Return {"helpers.durable.files": its path} of the whole package."""
    found = {}
    for path in sorted((ROOT / "helpers").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def tree(name: str) -> ast.Module:
    """Return a module's syntax tree."""
    return ast.parse(modules()[name].read_text(encoding="utf-8"))


def imports(code: ast.AST) -> set[str]:
    """Return the names of the helpers' modules that are imported anywhere in a tree, inside functions too."""
    found = set()
    for node in ast.walk(code):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "the package is imported by its name"
            inside = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (inside & set(modules())) or {node.module}
    return {name for name in found if name.split(".")[0] == "helpers"}


def defined(code: ast.Module) -> set[str]:
    """Return the names that a module defines itself."""
    found = set()
    for node in code.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found.add(node.name)
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {n.id for target in targets for n in ast.walk(target) if isinstance(n, ast.Name)}
    return found


def lesson_of(name: str) -> int | None:
    """Return the number of the lesson that a module belongs to, from 0, or None."""
    last = name.rpartition(".")[2]
    last = BELOW.get(last, last)
    return LESSONS.index(last) if name.count(".") == 1 and last in LESSONS else None


def test_there_is_a_module_for_each_lesson():
    assert {f"helpers.{name}" for name in (*LESSONS, *BELOW)} <= set(modules())
    numbers = [f"{number:02}" for number in range(1, 1 + len(LESSONS))]
    assert [path.stem[:2] for path in support.LESSONS] == numbers


@pytest.mark.parametrize("number", range(len(LESSONS)), ids=LESSONS)
def test_a_lesson_imports_only_lessons_before_it(number):
    for name in modules():
        if lesson_of(name) == number:
            used = {lesson_of(other): other for other in imports(tree(name)) if lesson_of(other) is not None}
            assert {other for place, other in used.items() if place > number} == set(), name
            assert number > 0 or used == {}, "the first lesson stands at the bottom"


def test_nothing_goes_in_a_circle():
    left = {name: imports(tree(name)) - {name} for name in modules() if name != "helpers"}
    left = {name: {other for other in used if other in left} for name, used in left.items()}
    while True:
        free = {name for name, used in left.items() if not used}
        if not free:
            break
        left = {name: used - free for name, used in left.items() if name not in free}
    assert left == {}, "these modules import each other"


@pytest.mark.parametrize("name", [name for name in modules() if name.startswith("helpers.durable")])
def test_the_durable_part_knows_nothing_of_the_course(name):
    assert {other for other in imports(tree(name)) if not other.startswith("helpers.durable")} == set()


def test_the_durable_part_is_small():
    """Counted are lines of code: a docstring that says what is raised is no burden."""
    counts = {}
    for name in modules():
        if name.startswith("helpers.durable"):
            lines = modules()[name].read_text(encoding="utf-8").splitlines()
            told = set()
            for node in ast.walk(tree(name)):
                if isinstance(node, (ast.Module, ast.FunctionDef, ast.ClassDef)) and ast.get_docstring(node):
                    told |= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
            code = [n for n, line in enumerate(lines, 1) if line.strip() and not line.strip().startswith("#")]
            counts[name] = len(set(code) - told)
    assert sum(counts.values()) < MOST_DURABLE_LINES, counts


@pytest.mark.parametrize("name", ["settings", "recipe", "models", "plots"])
def test_what_the_lessons_share_imports_no_lesson(name):
    assert {other for other in imports(tree(f"helpers.{name}")) if lesson_of(other) is not None} == set()


def test_no_lesson_imports_the_front_door_or_a_room_around_the_course():
    around = ("helpers.course", "helpers.exercises", "helpers.classroom", "helpers.__main__")
    for name in modules():
        if lesson_of(name) is not None:
            assert not [other for other in imports(tree(name)) if other.startswith(around)], name


def uses(code: ast.AST) -> set[tuple[str, str]]:
    """Return (module, name) of each thing of the helpers that a tree uses by name."""
    bound, found = {}, set()
    for node in ast.walk(code):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "helpers":
            for alias in node.names:
                inside = f"{node.module}.{alias.name}"
                if inside in modules():
                    bound[alias.asname or alias.name] = inside
                else:
                    found.add((node.module, alias.name))
    for node in ast.walk(code):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in bound:
            found.add((bound[node.value.id], node.attr))
    return found


def strangers(code: ast.AST) -> set[str]:
    """Return what is used from a module that does not define it, but has imported it from elsewhere."""
    return {
        f"{module}.{name}"
        for module, name in uses(code)
        if name not in defined(tree(module)) and not name.startswith("__") and f"{module}.{name}" not in modules()
    }


@pytest.mark.parametrize("name", modules())
def test_everything_is_taken_from_the_module_that_defines_it(name):
    assert strangers(tree(name)) == set()
    assert not [node for node in tree(name).body if isinstance(node, ast.ImportFrom) and node.names[0].name == "*"]
    assert "__all__" not in defined(tree(name))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_takes_everything_from_the_module_that_defines_it(path):
    code = "\n".join(source(cell) for cell in code_cells(path))
    plain = re.sub(r"(?m)^(\s*)[%!].*$", r"\1pass", code)  # commands of IPython
    used = uses(ast.parse(plain))
    assert used and strangers(ast.parse(plain)) == set()
    for module, name in used:
        assert hasattr(importlib.import_module(module), name), f"{module} has no {name}"


def test_a_notebook_imports_no_module_under_another_modules_name():
    for path in NOTEBOOKS:
        for cell in code_cells(path):
            for line in re.findall(r"^\s*from helpers.* import .*$", source(cell), re.M):
                renamed = dict(re.findall(r"(\w+) as (\w+)", line))
                assert not {new for new in renamed.values() if f"helpers.{new}" in modules()}, f"{path.name}: {line}"


LOADED = """
import contextlib, io, runpy, sys
sys.argv = ["helpers", "progress", sys.argv[1]]
with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.suppress(SystemExit):
    runpy.run_module("helpers", run_name="__main__")
assert "anna" in out.getvalue(), out.getvalue()
print([name for name in ("torch", "transformers", "datasets", "evaluate", "sklearn") if name in sys.modules])
"""


@pytest.fixture
def collected(tmp_path) -> Path:
    """Return a folder with a class's one progress file."""
    (tmp_path / "anna.json").write_text(
        '{"gpu": {"precision_for": {"tries": 1, "solved": "2025-01-01T00:00:00+00:00"}}}'
    )
    return tmp_path


def test_the_table_of_a_class_loads_nothing_heavy(collected):
    done = run("-c", LOADED, collected, cwd=ROOT, env=clean_environ(collected / "x"))
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


def test_the_table_of_a_class_is_there_in_a_second(collected):
    """Counted is what the processor does, so that other programs do not matter."""
    spent = []
    for _ in range(3):
        before = os.times()
        done = run("-m", "helpers", "progress", collected, cwd=ROOT, env=clean_environ(collected / "x"))
        after = os.times()
        assert done.returncode == 0 and "anna" in done.stdout, done.stderr
        spent.append(after.children_user + after.children_system - before.children_user - before.children_system)
    assert min(spent) < 1, spent


def test_the_engine_of_the_exercises_and_the_settings_load_no_torch():
    names = [f"helpers.exercises.{name}" for name in ENGINE] + ["helpers.settings", "helpers.recipe"]
    done = run("-c", f"import sys, {', '.join(names)}; print('torch' in sys.modules)", cwd=ROOT)
    assert (done.returncode, done.stdout) == (0, "False\n"), done.stderr


def test_every_public_function_says_what_it_does():
    for name in modules():
        assert ast.get_docstring(tree(name)) or name == "helpers.durable", name
        for node in tree(name).body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
                assert ast.get_docstring(node), f"{name}.{node.name}"
