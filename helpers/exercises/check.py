"""What a notebook calls: check.<name>(answer) judges the answer to an exercise, and notes that it was tried."""

import functools
import importlib
from collections.abc import Callable, Mapping

from helpers.exercises import progress, registry
from helpers.exercises.judging import OPEN, RIGHT, NotebookVariables, NotYetRun, Reply


class Check:
    """The checks of one notebook: check.<name>(answer) for each exercise in helpers/exercises/<notebook>.py.

    Args:
        notebook: the name of the helper module that the notebook teaches: "gpu", "data", "tokenization", ...
        names: the notebook's variables, globals(): right answers are computed from the run at hand.
        remember: write passed checks to progress.json (the solutions do not).
    """

    def __init__(self, notebook: str, names: Mapping, remember: bool = True):
        self.notebook, self.variables, self.remember = notebook, NotebookVariables(names), remember
        self.exercises = registry.EXERCISES[notebook]

    def __dir__(self) -> list[str]:
        return sorted(self.exercises)

    def __getattr__(self, name: str) -> Callable[[object], Reply]:
        if name.startswith("_") or name not in self.exercises:
            raise AttributeError(f"There is no exercise {name!r} here. There are: {', '.join(self.exercises)}.")
        return functools.partial(self.judge, name)

    def judge(self, name: str, answer=None) -> Reply:
        """Return what there is to say of an answer, whatever the notebook's variables hold; None and ... are open."""
        if answer is None or answer is ...:
            return Reply(OPEN, "Put your answer in place of None, and run this cell again.")
        exercise = getattr(importlib.import_module(f"helpers.exercises.{self.notebook}"), name)
        try:
            settings = self.variables.settings if self.remember else None
            reply = exercise(answer, self.variables)
        except NotYetRun as missing:
            cells = "settings cell at the top" if str(missing) == "settings" else "cells above this one"
            return Reply(OPEN, f"Run the {cells} first: there is no `{missing}` yet.")
        except Exception as error:  # a variable that is not what the notebook has made
            told = f"One of the notebook's variables does not fit the question ({type(error).__name__}: {error})."
            return Reply(OPEN, f"{told} Run the cells above this one again, from the top, and then this one.")
        if self.remember and reply.state != OPEN:
            try:
                progress.record_try(settings, self.notebook, name, reply.state == RIGHT)
            except Exception as error:  # a full disk, for instance: the answer is judged all the same
                return Reply(reply.state, f"{reply.text} (This could not be noted for your card. {error})")
        return reply
