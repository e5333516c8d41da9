"""What every exercise's check must do: accept its solution, and meet each wrong answer with the hint that fits."""

import copy
import importlib
import re
import types
from dataclasses import dataclass, field

import pytest

from helpers.exercises import progress, registry
from helpers.exercises.check import Check
from helpers.exercises.judging import OPEN, RIGHT, SIGNS, WRONG, Reply


@dataclass
class Case:
    """An exercise's answers. right: all accepted. wrong: at least three (answer, a part of the hint that must come)."""

    right: list
    wrong: list[tuple] = field(default_factory=list)


NONSENSE = ["purple", "", 3.7, -1, True, float("nan"), [], {}, object(), len, b"\0", (1, 2, 3), {"a": 1}]
# What may stand in a variable of the notebook when a student has used its name for something else.
OTHER_VALUES = [None, -1.5, "text", [], [None], {"a": None}, object()]
# With these words a hint begins that does not go on with the sentence "Not yet, because ...".
COMMANDS = re.compile("(choose|compare|count|cut|divide|give|how|keep|look|put|return|take|try|use|what|write) ")


class Recorder(dict):
    """Variables that remember which of them were read."""

    read = frozenset()

    def __getitem__(self, name: str):
        self.read |= {name}
        return super().__getitem__(name)


def rejects_nonsense(check: Check, name: str, case: Case) -> None:
    """Answers of every type get "not yet" and a reason, whatever they are; no exception."""
    for answer in NONSENSE:
        if not any(answer is right or answer == right for right in case.right if not hasattr(right, "shape")):
            reply = getattr(check, name)(copy.copy(answer))
            assert reply.state == WRONG and len(reply.text) > 15, (name, answer, reply)
            goes_on_from_because(reply)


def goes_on_from_because(reply: Reply) -> None:
    """A hint ends the sentence that begins with "Not yet, because"."""
    bare = COMMANDS.match(reply.text) and not reply.text.startswith("what is lost is")
    assert not bare and reply.text[-1] in ".?)", f"{SIGNS[WRONG]} {reply.text}"


def exercise_tests(notebook: str, names: dict, cases: dict[str, Case]):
    """Return the test class for one notebook's exercises.

    Args:
        names: what `globals()` is in the notebook, with `settings`.
        cases: for each exercise.
    """
    each = pytest.mark.parametrize("name", list(cases))

    class TestExercises:
        def test_every_exercise_is_registered_and_has_a_case_and_its_question(self):
            module = importlib.import_module(f"helpers.exercises.{notebook}")
            here = [value for value in vars(module).values() if getattr(value, "__module__", "") == module.__name__]
            found = [value for value in here if isinstance(value, types.FunctionType) and value.__name__[0] != "_"]
            assert [function.__name__ for function in found] == list(registry.EXERCISES[notebook]) == list(cases)
            assert all(function.__doc__ for function in found)

        @each
        def test_its_solution_is_accepted_and_remembered(self, name):
            assert cases[name].right
            for answer in cases[name].right:
                reply = getattr(Check(notebook, names), name)(answer)
                assert reply.state == RIGHT and len(reply.text) > 20, reply
            assert progress.read(progress.path(names["settings"]))[notebook][name]["solved"]

        @each
        def test_a_wrong_answer_gets_the_hint_that_fits(self, name):
            assert len(cases[name].wrong) >= 3
            for answer, hint in cases[name].wrong:
                reply = getattr(Check(notebook, names, remember=False), name)(answer)
                assert reply.state == WRONG and hint in reply.text, (answer, reply)
                goes_on_from_because(reply)

        @each
        def test_no_answer_is_not_answered_yet(self, name):
            for answer in (None, ...):
                assert getattr(Check(notebook, names), name)(answer).state == OPEN

        @pytest.mark.parametrize("name", [name for name, case in cases.items() if callable(case.right[0])])
        def test_a_function_that_is_not_written_yet_is_not_answered_yet(self, name):
            for unwritten in (lambda *given: None, lambda *given: ...):
                assert getattr(Check(notebook, names, remember=False), name)(unwritten).state == OPEN

        @each
        def test_nonsense_is_refused_with_a_reason(self, name):
            rejects_nonsense(Check(notebook, names, remember=False), name, cases[name])

        @each
        def test_a_notebook_not_run_so_far_is_told_what_is_missing(self, name):
            for missing in names:
                less = {key: value for key, value in names.items() if key != missing}
                for answer in (cases[name].right[0], cases[name].wrong[0][0]):
                    reply = Check(notebook, less).judge(name, answer)
                    if missing == "settings":
                        assert reply.state == OPEN and "settings cell" in reply.text, reply
                    elif reply.state == OPEN:
                        assert f"no `{missing}` yet" in reply.text, reply

        @each
        def test_whatever_the_variables_hold_there_is_a_reply(self, name):
            asked = Recorder(names)
            assert Check(notebook, asked).judge(name, cases[name].right[0]).state == RIGHT and asked.read
            for variable in asked.read:
                for value in OTHER_VALUES:
                    reply = Check(notebook, names | {variable: value}).judge(name, cases[name].right[0])
                    assert isinstance(reply, Reply), (variable, value)

    return TestExercises
