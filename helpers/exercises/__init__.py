"""The exercises of the notebooks, one module each, and what their checks share."""

import copy
import reprlib
from collections.abc import Callable, Iterable, Mapping

from helpers.check import OPEN, RIGHT, Reply, call, choice, number, right, wrong


def tries(function, cases: Iterable[tuple[tuple, Callable[[object], Reply]]]) -> Reply | None:
    """Call a student's function with the arguments of each case; return what to say of the first that fails, or None.

    Args:
        cases: (arguments, judge): judge(result) is the reply to what the function returns.
    """
    for place, (arguments, judge) in enumerate(cases):
        result, reply = call(function, *copy.deepcopy(arguments))
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


def tries_numbers(function, cases: Iterable[tuple], tolerance: float = 0.02) -> Reply | None:
    """Call a student's function that returns a number; return what to say of the first that is wrong, or None.

    Args:
        cases: (arguments, expected, mistakes, hint), the last three as `check.number` takes them.
    """

    def judge(expected: float, mistakes: Iterable[tuple[float, str]], hint: str) -> Callable[[object], Reply]:
        return lambda result: number(result, expected, "", mistakes, hint, tolerance)

    return tries(function, [(arguments, judge(*rest)) for arguments, *rest in cases])


def predicted(answer, before: float, after: float, noise: float, hints: Mapping[str, str], yes: str) -> Reply:
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
