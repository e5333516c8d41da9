"""Exercises that answer back: check.<name>(answer) says "not answered yet", "not yet, because ...", or "yes"."""

import functools
import importlib
import math
import numbers
import textwrap
import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from helpers import progress

OPEN, WRONG, RIGHT = "not answered yet", "not yet", "yes"
SIGNS = {OPEN: "○ Not answered yet.", WRONG: "✗ Not yet, because", RIGHT: "✓ Yes."}


@dataclass(frozen=True)
class Reply:
    """What a check says; a notebook shows it as text. state: OPEN, WRONG or RIGHT."""

    state: str
    text: str

    def __repr__(self) -> str:
        # JupyterLab would break a long line within a word.
        return textwrap.fill(f"{SIGNS[self.state]} {self.text}", 92, break_long_words=False, break_on_hyphens=False)


def right(text: str) -> Reply:
    """The answer is right; text says why it matters."""
    return Reply(RIGHT, text)


def wrong(hint: str) -> Reply:
    """The answer is not right yet; hint ends the sentence that begins with "Not yet, because"."""
    return Reply(WRONG, hint)


class Run:
    """The variables of the notebook, as attributes, as they are when a check looks at them."""

    def __init__(self, names: Mapping):
        self.names = names

    def __getattr__(self, name: str):
        if name not in self.names:
            raise NotYetRun(name)
        return self.names[name]


class NotYetRun(Exception):
    """A check needs a variable that the notebook has not made yet."""


class Check:
    """The checks of one notebook: check.<name>(answer) for each exercise in helpers/exercises/<notebook>.py.

    Args:
        notebook: the name of the helper module that the notebook teaches: "gpu", "data", "tokenization", ...
        names: the notebook's variables, globals(): right answers are computed from the run at hand.
        remember: write passed checks to progress.json (the solutions do not).
    """

    def __init__(self, notebook: str, names: Mapping, remember: bool = True):
        self.notebook, self.run, self.remember = notebook, Run(names), remember
        self.exercises = exercises(notebook)

    def __dir__(self) -> list[str]:
        return sorted(self.exercises)

    def __getattr__(self, name: str) -> Callable[[object], Reply]:
        if name.startswith("_") or name not in self.exercises:
            raise AttributeError(f"There is no exercise {name!r} here. There are: {', '.join(self.exercises)}.")
        return functools.partial(self.judge, name)

    def judge(self, name: str, answer=None) -> Reply:
        """Return what there is to say of an answer; an exercise that is not answered, None or ..., is left open."""
        if answer is None or answer is ...:
            return Reply(OPEN, "Put your answer in place of None, and run this cell again.")
        try:
            reply = self.exercises[name](answer, self.run)
        except NotYetRun as missing:
            return Reply(OPEN, f"Run the cells above this one first: there is no `{missing}` yet.")
        if self.remember and reply.state != OPEN:
            progress.record(self.run.settings, self.notebook, name, reply.state == RIGHT)
        return reply


@functools.cache
def exercises(notebook: str) -> dict[str, Callable]:
    """Return the exercises of a notebook by name, in order: the public functions that its module defines."""
    module = importlib.import_module(f"helpers.exercises.{notebook}")
    found = {name: value for name, value in vars(module).items() if isinstance(value, types.FunctionType)}
    return {n: f for n, f in found.items() if f.__module__ == module.__name__ and not n.startswith("_")}


def number(answer, expected: float, yes: str, mistakes: Iterable[tuple[float, str]] = (), hint: str = "",
           tolerance: float = 0.02) -> Reply:  # fmt: skip
    """Judge a number.

    Args:
        mistakes: (the number that a common mistake leads to, its hint); the first that fits is given.
        hint: for any other wrong number.
        tolerance: how far off, as a share of the expected number, still counts; whole numbers take 0.
    """
    if isinstance(answer, str):
        return wrong(f"{answer!r} is text. Give a number, without quotation marks.")
    given = to_float(answer)
    if given is None:
        return wrong(f"a number is asked for, and this is {kind(answer)}.")

    def close(value: float) -> bool:
        return math.isclose(given, value, rel_tol=tolerance, abs_tol=1e-9)

    if close(expected):
        return right(yes)
    return wrong(next((text for value, text in mistakes if close(value)), hint))


def to_float(value) -> float | None:
    """Return a number of Python, numpy or torch as a float, infinite if it is too large; None for anything else."""
    try:
        value = value.item() if hasattr(value, "item") else value
        if not isinstance(value, numbers.Real) or isinstance(value, bool) or math.isnan(value):
            return None
        return float(value)
    except OverflowError:  # 10**400
        return math.inf
    except Exception:  # a table, or whatever a student's function returned
        return None


def choice(answer, expected: str, yes: str, hints: Mapping[str, str]) -> Reply:
    """Judge one of several words; hints: for each wrong word what to say. Capitals and blanks do not count."""
    words = [expected, *hints]
    given = answer.strip().lower() if isinstance(answer, str) else None
    table = {word.lower(): word for word in words}
    if given not in table:
        offered = ", ".join(f'"{word}"' for word in sorted(words))
        return wrong(f"{answer!r} is none of the answers to choose from: {offered}.")
    return right(yes) if table[given] == expected else wrong(hints[table[given]])


def call(function, *arguments) -> tuple[object, Reply | None]:
    """Call a student's function; return (its result, None), or (None, what to say of one that fails)."""
    if not callable(function):
        return None, wrong(f"a function is asked for, and this is {kind(function)}. Give its name without brackets.")
    try:
        result = function(*arguments)
    except Exception as error:
        return None, wrong(f"the function stopped with {type(error).__name__}: {error}")
    if result is None or result is ...:
        return None, Reply(OPEN, "The function returns nothing yet. End it with `return` and the result.")
    return result, None


def kind(value) -> str:
    """Return what a value is, in words: "a list", "True or False", ..."""
    if isinstance(value, bool):
        return "True or False"
    if isinstance(value, float) and math.isnan(value):
        return "not a number (nan)"
    name = {"str": "text", "int": "a number", "float": "a number", "dict": "a dictionary"}.get(type(value).__name__)
    return name or f"a {type(value).__name__}"
