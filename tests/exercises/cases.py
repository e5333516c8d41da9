"""What every exercise's check must do: accept its solution, and meet each wrong answer with the hint that fits."""

import copy
from dataclasses import dataclass, field

import pytest

from helpers import progress
from helpers.check import OPEN, RIGHT, WRONG, Check, exercises


@dataclass
class Case:
    """An exercise's answers. right: all accepted. wrong: at least three (answer, a part of the hint that must come)."""

    right: list
    wrong: list[tuple] = field(default_factory=list)


NONSENSE = ["purple", "", 3.7, -1, True, float("nan"), [], {}, object(), len, b"\0", (1, 2, 3), {"a": 1}]


def rejects_nonsense(check: Check, name: str, case: Case) -> None:
    """Answers of every type get "not yet" and a reason, whatever they are; no exception."""
    for answer in NONSENSE:
        if not any(answer is right or answer == right for right in case.right if not hasattr(right, "shape")):
            reply = getattr(check, name)(copy.copy(answer))
            assert reply.state == WRONG and len(reply.text) > 15, (name, answer, reply)


def exercise_tests(notebook: str, names: dict, cases: dict[str, Case]):
    """Return the test class for one notebook's exercises.

    Args:
        names: what `globals()` is in the notebook, with `settings`.
        cases: for each exercise.
    """
    each = pytest.mark.parametrize("name", list(cases))

    class TestExercises:
        def test_every_exercise_has_a_case_and_its_question(self):
            assert list(exercises(notebook)) == list(cases)
            assert all(function.__doc__ for function in exercises(notebook).values())

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
            for missing in set(names) - {"settings"}:
                less = {key: value for key, value in names.items() if key != missing}
                assert Check(notebook, less, remember=False).judge(name, cases[name].right[0]).state in (OPEN, RIGHT)

    return TestExercises
