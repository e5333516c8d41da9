"""The commands: python -m helpers lesson | train | progress | badges."""

import argparse
import os
import sys
from pathlib import Path

from helpers.settings import NAMES


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    top = argparse.ArgumentParser(
        prog="python -m helpers", description="Fine-tune a small language model, step by step."
    )
    commands = top.add_subparsers(dest="command", required=True)
    texts = {
        "lesson": "run all notebooks in order; keep them executed and as HTML",
        "train": "what notebook 04 does, evaluated",
    }
    for name, text in texts.items():
        command = commands.add_parser(name, help=text, description=text)
        for setting in NAMES:
            command.add_argument(f"--{setting.replace('_', '-')}", help=f"as LESSON_{setting.upper()}", metavar="VALUE")
    text = "one table of a class's progress.json files"
    commands.add_parser("progress", help=text, description=text).add_argument("folder", metavar="FOLDER")
    badges = commands.add_parser("badges", help="write the badges and the addresses for your own copy")
    badges.add_argument(
        "repository", nargs="?", metavar="OWNER/REPO", help="default: the one that pyproject.toml names"
    )
    return top


def progress(folder: Path) -> int:
    """Print the table of a class; return the exit status."""
    from helpers.classroom.table import table

    try:
        print(table(folder), flush=True)
    except BrokenPipeError:  # `| head` has seen enough; nothing is left to be written when Python ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def badges(repository: str | None) -> int:
    """Write badges and addresses with the clone's own tool; return the exit status."""
    from helpers.durable.errors import LessonError
    from helpers.settings import clone_root

    root = clone_root()
    if root is None:
        raise LessonError("There is no clone of the course here. Run this command inside one.", "no-clone")
    sys.path.insert(0, str(root))
    from tools import badges

    changed = badges.write(repository, root)
    print(f"{len(changed)} files changed.", *[path.name for path in changed])
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Run a command; return the exit status: 0, or 2 after an error that the user can mend."""
    values = vars(parser().parse_args(arguments))
    command = values.pop("command")
    try:
        if command == "badges":
            return badges(values["repository"])
        if command == "progress":
            return progress(Path(values["folder"]))
        from helpers import course
        from helpers.classroom import lesson

        settings = course.start_command(values)
        if command == "lesson":
            lesson.run(settings)
            return 0
        from helpers import evaluation, training

        results = evaluation.evaluate_model(settings)
        training.finish_together()
        if results:
            print(lesson.summary(results), flush=True)
        return 0
    except Exception as error:
        from helpers.durable.errors import explain

        told = explain(error)
        if told is None:
            raise
        print(f"\n{told}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
