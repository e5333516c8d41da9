"""The table of a class: which student has solved which exercises, and which exercises are hard."""

from collections import Counter
from pathlib import Path

from helpers.durable.errors import LessonError
from helpers.durable.files import read_json, show_path
from helpers.exercises import registry
from helpers.exercises.progress import FILE_NAME, read, solved_by_notebook

HOME = "lesson_home"  # the usual name of a LESSON_HOME: it says nothing about its owner
LARGEST = 100_000  # bytes; a progress file has 3,000, and a LESSON_HOME also holds tokenizers and the like
UNTRIED = {"tries": 0, "solved": None}


def collect(folder: Path) -> tuple[dict[str, dict], list[str], list[str]]:
    """Read the progress files of a class, at any depth: NAME.json, or progress.json in a folder called NAME.

    A student is called NAME. Where two have the same name, both are called after the path of their file.

    Returns:
        ({student: what the file holds}, progress files that cannot be read, other .json files).

    Raises:
        LessonError: there is no such folder, or no progress file in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise LessonError(
            f"There is no folder {show_path(folder)}. Collect the students' {FILE_NAME} files in one folder, "
            "each called after its student (anna.json), or in a folder of that name, and give that folder.",
            code="no-folder",
        )
    places = sorted(file.relative_to(folder) for file in folder.rglob("*.json") if file.is_file())
    places = [place for place in places if not any(part.startswith((".", "__MACOSX")) for part in place.parts)]
    homes = {place.parent for place in places if place.name == FILE_NAME}
    found, unread, others = {}, [], []
    for place in places:
        own = place.name == FILE_NAME or not homes.intersection(place.parents)  # not just anything in a LESSON_HOME
        known = read(folder / place) if (folder / place).stat().st_size <= LARGEST else None
        if known or (known is not None and own):
            found[place] = known
        elif place.name == FILE_NAME or (own and should_be_progress(folder / place)):
            unread.append(place.as_posix())
        else:
            others.append(place.as_posix())
    if not found and not unread:
        raise LessonError(
            f"There is no progress file ({FILE_NAME}, or NAME.json) in {show_path(folder)}. Collect them there: each "
            "student's lies in LESSON_HOME, once an exercise was answered.",
            code="no-progress-files",
        )
    names = {place: student_name(place, folder) for place in found}
    count = Counter(names.values())
    students = {names[place] if count[names[place]] == 1 else place.as_posix(): found[place] for place in found}
    return students, unread, others


def student_name(place: Path, folder: Path) -> str:
    """Return whose progress file this is, by its name or by the folder in which it lies."""
    if place.name != FILE_NAME:
        return place.stem
    return "/".join(part for part in place.parent.parts if part != HOME) or folder.resolve().name


def should_be_progress(file: Path) -> bool:
    """True for a file that is cut off or damaged, or that speaks of the course's notebooks."""
    if file.stat().st_size > LARGEST:
        return False
    found = read_json(file)
    return found is None or (isinstance(found, dict) and not registry.TITLES.keys().isdisjoint(found))


def table(folder: Path) -> str:
    """Return the table of a class, a student a row, and below it how many solved each exercise, the hardest first.

    Raises:
        LessonError: as `collect` does.
    """
    students, unread, others = collect(folder)
    width = max([len("student"), *map(len, students)])
    lines = [f"{'student':<{width}}  " + "".join(f"{title.split()[0]:>7}" for title in registry.TITLES.values())]
    lines[0] += "    all"
    for student, known in sorted(students.items()):
        done = solved_by_notebook(known).values()
        cells = "".join(f"{f'{sum(marks)}/{len(marks)}':>7}" for marks in done)
        lines.append(f"{student:<{width}}  {cells}{f'{sum(map(sum, done))}/{sum(map(len, done))}':>7}")
        lines[-1] += "" if known else "  not begun"
    lines += ["", f"{'exercise':<36} solved by   tries"]
    rows = []
    for chapter, (notebook, names) in enumerate(registry.EXERCISES.items(), 1):
        for place, name in enumerate(names, 1):
            entries = [known.get(notebook, {}).get(name, UNTRIED) for known in students.values()]
            solved, tries = (sum(entry["solved"] is not None for entry in entries), sum(e["tries"] for e in entries))
            rows.append((solved, -tries, f"{chapter}.{place}", name))
    for solved, tries, number, name in sorted(rows):
        lines.append(f"{number} {name:<32} {f'{solved} of {len(students)}':>9} {-tries:>7}")
    lines += [f"\nnot read: {name}: it is damaged, or no {FILE_NAME} of this course" for name in unread]
    if others:
        more = ", ..." if len(others) > 3 else ""
        lines.append(f"\nleft out, because no progress is in them: {len(others)} .json ({', '.join(others[:3])}{more})")
    return "\n".join(lines)
