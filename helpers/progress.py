"""Which exercises are solved: a file in LESSON_HOME, a card for the student, a table for the teacher."""

import datetime
from dataclasses import dataclass
from pathlib import Path

from helpers.durable.errors import LessonError
from helpers.durable.files import lock, read_json, show_path, write_json

NAME = "progress.json"
NOTEBOOKS = {
    "gpu": "1. Is there a GPU?",
    "data": "2. The data",
    "tokenization": "3. Tokens",
    "training": "4. Training",
    "evaluation": "5. How good is it, really?",
    "speed": "6. Go faster",
}


def path(settings) -> Path:
    """Return the student's file: one for all editions."""
    return settings.home.parent / NAME


def record(settings, notebook: str, exercise: str, solved: bool) -> None:
    """Remember a try: {notebook: {exercise: {"tries": n, "solved": when, or None}}}. A solved exercise stays solved.

    Raises:
        LessonError: the disk is full.
    """
    file = path(settings)
    with lock(file):
        known = read(file) or {}
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
        for exercises in found.values():
            for entry in exercises.values():
                if not isinstance(entry["tries"], int) or not isinstance(entry["solved"], str | None):
                    return None
    except (AttributeError, KeyError, TypeError):
        return None
    return found


def solved(known: dict) -> dict[str, list[bool]]:
    """Return for each notebook, in the course's order, which of its exercises are solved."""
    from helpers.check import exercises

    return {
        notebook: [bool(known.get(notebook, {}).get(name, {}).get("solved")) for name in exercises(notebook)]
        for notebook in NOTEBOOKS
    }


@dataclass(frozen=True)
class Card:
    """The student's card; a notebook shows it as text."""

    known: dict

    def __repr__(self) -> str:
        done = solved(self.known)
        lines = [
            f"{NOTEBOOKS[notebook]:<27} {''.join('●' if one else '○' for one in marks):<6} {sum(marks)} of {len(marks)}"
            for notebook, marks in done.items()
        ]
        total, right = sum(map(len, done.values())), sum(map(sum, done.values()))
        return "\n".join(["Your exercises (● solved, ○ open)", *lines, f"{'together':<34} {right} of {total}"])


def card(settings) -> Card:
    """Return the student's card for the whole course."""
    return Card(read(path(settings)) or {})


def collect(folder: Path) -> tuple[dict[str, dict], dict[str, str]]:
    """Read the progress files of a class: NAME.json, or progress.json in a folder called NAME, at any depth.

    Returns:
        ({student: what the file holds}, {file that could not be read: why}).

    Raises:
        LessonError: there is no such folder, or no progress file in it.
    """
    if not folder.is_dir():
        raise LessonError(
            f"There is no folder {show_path(folder)}. Collect the students' {NAME} files in one folder, "
            "each called after its student (anna.json), or in a folder of that name, and give that folder."
        )
    students, failed = {}, {}
    for file in sorted(folder.rglob("*.json")):
        name = file.parent.relative_to(folder).as_posix() if file.name == NAME and file.parent != folder else file.stem
        known = read(file)
        if known is None:
            failed[file.relative_to(folder).as_posix()] = f"it is no {NAME} of this course, or it is damaged"
        else:
            students[name] = known
    if not students and not failed:
        raise LessonError(
            f"There is no progress file (*.json) in {show_path(folder)}. Each student's lies in LESSON_HOME."
        )
    return students, failed


def table(folder: Path) -> str:
    """Return the table of a class, a student a row, and below it how many solved each exercise, the hardest first.

    Raises:
        LessonError: as `collect` does.
    """
    from helpers.check import exercises

    students, failed = collect(folder)
    width = max([len("student"), *map(len, students)])
    lines = [f"{'student':<{width}}  " + "".join(f"{title.split()[0]:>7}" for title in NOTEBOOKS.values()) + "    all"]
    for student, known in students.items():
        done = solved(known).values()
        cells = "".join(f"{f'{sum(marks)}/{len(marks)}':>7}" for marks in done)
        lines.append(f"{student:<{width}}  {cells}{f'{sum(map(sum, done))}/{sum(map(len, done))}':>7}")
    rows = []
    for notebook in NOTEBOOKS:
        for name in exercises(notebook):
            entries = [known.get(notebook, {}).get(name, {"tries": 0, "solved": None}) for known in students.values()]
            rows.append(
                (sum(e["solved"] is not None for e in entries), sum(e["tries"] for e in entries), notebook, name)
            )
    lines += ["", f"{'exercise':<36} solved by   tries"]
    for right, tries, notebook, name in sorted(rows, key=lambda row: (row[0], -row[1])):
        lines.append(f"{NOTEBOOKS[notebook].split()[0]} {name:<33} {f'{right} of {len(students)}':>9} {tries:>7}")
    lines += [f"\nnot read: {name}: {why}" for name, why in failed.items()]
    return "\n".join(lines)
