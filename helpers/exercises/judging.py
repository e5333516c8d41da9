"""How an answer is judged: numbers, words, predictions, and functions that a student has written."""

import copy
import functools
import math
import numbers
import reprlib
import textwrap
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

OPEN, WRONG, RIGHT = "not answered yet", "not yet", "yes"
SIGNS = {OPEN: "○ Not answered yet.", WRONG: "✗ Not yet, because", RIGHT: "✓ Yes."}


@dataclass(frozen=True)
class Reply:
    """What a check says; a notebook shows it as text, in lines that end between words. state: OPEN, WRONG or RIGHT."""

    state: str
    text: str

    def __repr__(self) -> str:
        return textwrap.fill(f"{SIGNS[self.state]} {self.text}", 92, break_long_words=False, break_on_hyphens=False)


def right(text: str) -> Reply:
    """The answer is right; text says why it matters."""
    return Reply(RIGHT, text)


def wrong(hint: str) -> Reply:
    """The answer is not right yet; hint ends the sentence that begins with "Not yet, because"."""
    return Reply(WRONG, hint)


class NotYetRun(Exception):
    """A check needs a variable that the notebook has not made yet."""


class NotebookVariables:
    """The variables of the notebook, as attributes, as they are when a check looks at them."""

    def __init__(self, names: Mapping):
        self._names = names

    def __getattr__(self, name: str):
        if name not in self._names:
            raise NotYetRun(name)
        return self._names[name]


def number(answer, expected: float, yes: str, hint: str, mistakes: Iterable[tuple[float, str]] = (),
           tolerance: float = 0.02) -> Reply:  # fmt: skip
    """Judge a number.

    Args:
        hint: for a wrong number that none of the mistakes explains.
        mistakes: (the number that a common mistake leads to, its hint); the first that fits is given.
        tolerance: how far off, as a share of the expected number, still counts; whole numbers take 0.
    """
    if isinstance(answer, str):
        return wrong(f"{reprlib.repr(answer)} is text. Give a number, without quotation marks.")
    given = to_float(answer)
    if given is None:
        return wrong(f"a number is asked for, and this is {describe_type(answer)}.")
    close = functools.partial(math.isclose, given, rel_tol=tolerance, abs_tol=1e-9)
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
    words = {word.lower(): word for word in (expected, *hints)}
    given = answer.strip().lower() if isinstance(answer, str) else None
    if given not in words:
        offered = ", ".join(f'"{word}"' for word in sorted(words.values()))
        return wrong(f"{reprlib.repr(answer)} is none of the answers to choose from: {offered}.")
    return right(yes) if words[given] == expected else wrong(hints[words[given]])


def judge_prediction(answer, before: float, after: float, noise: float, hints: Mapping[str, str], yes: str) -> Reply:
    """Judge a prediction by what was measured.

    Args:
        noise: a difference up to here may be chance: every prediction is accepted then, and told so.
        hints: the words to choose from, for "smaller", "larger" and "the same", in this order, each with its hint.
    """
    smaller, larger, _ = hints
    seen = smaller if after < before else larger
    reply = choice(answer, seen, yes, {word: hint for word, hint in hints.items() if word != seen})
    if abs(after - before) <= noise and (reply.state == RIGHT or reply.text in hints.values()):
        return right(f"Here the difference is so small that it may be chance, so every answer counts. {yes}")
    return reply


def call_safely(function, *arguments) -> tuple[object, Reply | None]:
    """Call a student's function; return (its result, None), or (None, what to say of one that fails)."""
    if not callable(function):
        return None, wrong(f"a function is asked for, not {describe_type(function)}. Give its name without brackets.")
    try:
        result = function(*arguments)
    except (Exception, SystemExit) as error:
        return None, wrong(f"the function stopped with {type(error).__name__}: {error}".rstrip(": .") + ".")
    if result is None or result is ...:
        return None, Reply(OPEN, "The function returns nothing yet. End it with `return` and the result.")
    return result, None


def check_cases(function, cases: Iterable[tuple[tuple, Callable[[object], Reply]]]) -> Reply | None:
    """Call a student's function with the arguments of each case; return what to say of the first that fails, or None.

    Args:
        cases: (arguments, judge): judge(result) is the reply to what the function returns.
    """
    for place, (arguments, judge) in enumerate(cases):
        result, reply = call_safely(function, *copy.deepcopy(arguments))
        if not callable(function) or (place == 0 and reply and reply.state == OPEN):
            return reply
        reply = reply or judge(result)
        if reply.state != RIGHT:
            name = getattr(function, "__name__", "the function")
            told = f"`{name}({', '.join(map(reprlib.repr, arguments))})`"
            if reply.state == OPEN:
                return wrong(f"{told} returns nothing. One way through the function lacks its `return`.")
            return wrong(f"{told} {'gives ' + reprlib.repr(result) if result is not None else 'fails'}: {reply.text}")
    return None


def check_numbers(function, cases: Iterable[tuple], tolerance: float = 0.02) -> Reply | None:
    """Call a student's function that returns a number; return what to say of the first that is wrong, or None.

    Args:
        cases: (arguments, expected, mistakes, hint), the last three as `number` takes them.
    """

    def judge(expected: float, mistakes: Iterable[tuple[float, str]], hint: str) -> Callable[[object], Reply]:
        return lambda result: number(result, expected, "", hint, mistakes, tolerance)

    return check_cases(function, [(arguments, judge(*rest)) for arguments, *rest in cases])


def describe_type(value) -> str:
    """Return what a value is, in words: "a list", "True or False", ..."""
    name = "nan" if isinstance(value, float) and math.isnan(value) else type(value).__name__
    known = {"bool": "True or False", "str": "text", "int": "a number", "float": "a number", "dict": "a dictionary"}
    known |= {
        "nan": "not a number (nan)",
        "NoneType": "nothing",
        "function": "a function",
        "builtin_function_or_method": "a function",
    }
    return known.get(name, f"a{'n' * (name[0].lower() in 'aeiou' or name == 'ndarray')} {name}")
