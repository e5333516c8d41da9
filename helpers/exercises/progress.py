"""Which exercises are solved: a file in LESSON_HOME, and a card for the student."""

import datetime
import os
from dataclasses import dataclass
from pathlib import Path

from helpers.durable.files import lock, read_json, write_json
from helpers.exercises import registry

FILE_NAME = "progress.json"


def path(settings) -> Path:
    """Return the student's file: one for all editions."""
    return settings.home.parent / FILE_NAME


def record_try(settings, notebook: str, exercise: str, solved: bool) -> None:
    """Remember a try: {notebook: {exercise: {"tries": n, "solved": when, or None}}}. A solved exercise stays solved.
    A file that cannot be read is put aside as progress.json.damaged, and a new one is begun.

    Raises:
        LessonError: the disk is full.
    """
    file = path(settings)
    file.parent.mkdir(parents=True, exist_ok=True)
    with lock(file):
        known = read(file)
        if known is None and file.exists():
            os.replace(file, file.with_name(f"{FILE_NAME}.damaged"))
        known = known or {}
        entry = known.setdefault(notebook, {}).setdefault(exercise, {"tries": 0, "solved": None})
        if entry["solved"] is None:
            entry["tries"] += 1
            if solved:
                entry["solved"] = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
            write_json(file, known)


def read(file: Path) -> dict[str, dict[str, dict]] | None:
    """Return what a progress file holds, or None when it is missing or no such file."""
    found = read_json(file)
    try:
        entries = [entry for exercises in found.values() for entry in exercises.values()]
        whole = all(isinstance(entry["tries"], int) and isinstance(entry["solved"], str | None) for entry in entries)
    except (AttributeError, KeyError, TypeError):
        return None
    return found if whole else None


def solved_by_notebook(known: dict) -> dict[str, list[bool]]:
    """Return for each notebook, in the course's order, which of its exercises are solved."""
    return {
        notebook: [bool(known.get(notebook, {}).get(name, {}).get("solved")) for name in names]
        for notebook, names in registry.EXERCISES.items()
    }


@dataclass(frozen=True)
class Card:
    """The student's card; a notebook shows it as text."""

    known: dict

    def __repr__(self) -> str:
        done = solved_by_notebook(self.known)
        lines = ["Your exercises (● solved, ○ open)"]
        for notebook, marks in done.items():
            circles = "".join("●" if one else "○" for one in marks)
            lines.append(f"{registry.TITLES[notebook]:<27} {circles:<6} {sum(marks)} of {len(marks)}")
        total, right = sum(map(len, done.values())), sum(map(sum, done.values()))
        return "\n".join([*lines, f"{'together':<34} {right} of {total}"])


def card(settings) -> Card:
    """Return the student's card for the whole course."""
    return Card(read(path(settings)) or {})
