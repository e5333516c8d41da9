"""The errors that a student can mend: each has a code, and a text that ends with what to try next."""

import ast
import contextlib
import itertools
import re
from functools import cache
from pathlib import Path

import pytest
from support import ROOT

CODE = re.compile(r"[a-z]+(-[a-z]+)+")
# One of these verbs, that tell the reader to do something, stands in one of the last sentences.
STEPS = re.compile(
    r"\b(allow|ask|check|choose|clone|collect|come|copy|did|end|give|install|leave|load|make|map|mend|move"
    r"|name|open|put|remove|rename|restart|run|set|take|try|unset|update|wait|write)\b",
    re.I,
)


@cache
def constants_of_modules() -> dict[str, str]:
    """Return {name: text} of the sentences that several errors share: text constants of any module in helpers/."""
    found = {}
    for path in (ROOT / "helpers").rglob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                with contextlib.suppress(ValueError):
                    value = ast.literal_eval(node.value)
                    if isinstance(value, str):
                        found[node.targets[0].id] = value
    return found


class Raised:
    """One place in helpers/ where a LessonError is made: its file and line, its code(s) and its text."""

    def __init__(self, path: Path, call: ast.Call, around: ast.AST):
        self.place = f"{path.relative_to(ROOT)}:{call.lineno}"
        given = dict(enumerate(call.args)) | {keyword.arg: keyword.value for keyword in call.keywords}
        self.text = self.words(given.get(0, given.get("text")), around)
        code = given.get(1, given.get("code"))
        self.codes = [] if code is None else self.constants(code, around, codes=True)

    def constants(self, node: ast.AST, around: ast.AST, codes: bool = False) -> list[str]:
        """Return the strings that an expression may be; for a variable, those that its function may put into it."""
        if isinstance(node, ast.Name):
            inside = [n for n in ast.walk(around) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
            return [n.value for n in inside if not codes or CODE.fullmatch(n.value)]
        if isinstance(node, ast.IfExp):
            return self.constants(node.body, around, codes) + self.constants(node.orelse, around, codes)
        return [n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and isinstance(n.value, str)]

    def words(self, node: ast.AST, around: ast.AST) -> str:
        """Return the text as far as it is known before the program runs: names of constants are looked up."""
        if isinstance(node, ast.Constant):
            return node.value
        if isinstance(node, ast.JoinedStr):
            return "".join(self.words(part, around) for part in node.values)
        if isinstance(node, ast.FormattedValue):
            name = node.value.id if isinstance(node.value, ast.Name) else ""
            return constants_of_modules().get(name) or self.assigned(name, around) or "..."
        if isinstance(node, ast.BinOp):
            return self.words(node.left, around) + self.words(node.right, around)
        return " ".join(self.constants(node, around)) or "..."

    def assigned(self, name: str, around: ast.AST) -> str:
        """Return all text that a function may put into one of its variables."""
        found = []
        for node in ast.walk(around):
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            names = {n.id for target in targets if target for n in ast.walk(target) if isinstance(n, ast.Name)}
            if isinstance(node, (ast.Assign, ast.AugAssign)) and name in names:
                found += [self.words(n, ast.Module([], [])) for n in ast.walk(node.value) if is_text(n)]
        return " ".join(found)


def is_text(node: ast.AST) -> bool:
    """Return whether a piece of code is a text, with or without braces."""
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


@cache
def raised() -> list[Raised]:
    """Return every place in the package where a LessonError is made."""
    found = []
    for path in sorted((ROOT / "helpers").rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) == "LessonError":
                around = [f for f in functions if f.lineno <= node.lineno <= f.end_lineno]
                found.append(Raised(path, node, around[-1] if around else tree))
    return found


every_error = pytest.mark.parametrize("error", raised(), ids=lambda error: error.place)


def test_there_are_many():
    assert len(raised()) > 40


@every_error
def test_it_has_a_code_of_words_with_hyphens(error):
    assert error.codes, f"{error.place} has no code"
    assert [code for code in error.codes if not CODE.fullmatch(code)] == []


@every_error
def test_its_text_ends_with_what_to_try_next(error):
    sentences = re.split(r"(?<=[.!?:]) ", error.text.strip())
    last = " ".join(sentences[-3:])
    assert STEPS.search(last), f"{error.place}: {last}"


@every_error
def test_its_text_is_made_of_whole_sentences(error):
    assert re.search(r"([.!?]|\.\.\.)$", error.text.strip()), error.text
    assert not re.search(r"\bplease\b|\bsorry\b|!", error.text, re.I), error.text


def test_codes_are_spelt_in_one_way():
    codes = sorted({code for error in raised() for code in error.codes})
    for one, other in itertools.combinations(codes, 2):
        assert sorted(one.split("-")) != sorted(other.split("-")), f"{one} and {other}"
        assert one.replace("-", "") != other.replace("-", "")
    kinds = {code for code in codes if "unreadable" in code.split("-")}
    assert all(code.endswith("-unreadable") for code in kinds), f"what it is comes first: {kinds}"


def test_the_tests_ask_for_codes_that_there_are():
    codes = {code for error in raised() for code in error.codes}
    asked = set()
    for path in (ROOT / "tests").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        asked |= set(re.findall(r"""\brefused\(\s*"([a-z-]+)\"""", text)) | set(
            re.findall(r'code == "([a-z-]+)"', text)
        )
    assert len(asked) > 15 and asked - codes == set()
