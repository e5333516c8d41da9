"""The commands: python -m helpers lesson | train | progress | badges."""

import argparse
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


def main(arguments: list[str] | None = None) -> int:
    """Run a command; return the exit status: 0, or 2 after an error that the user can mend."""
    values = vars(parser().parse_args(arguments))
    command = values.pop("command")
    try:
        if command == "badges":
            from tools import badges

            changed = badges.write(values["repository"])
            print(f"{len(changed)} files changed.", *[path.name for path in changed])
            return 0
        if command == "progress":
            from helpers import progress

            print(progress.table(Path(values["folder"])))
            return 0
        from helpers import lesson

        settings = lesson.start(values)
        if command == "lesson":
            lesson.run(settings)
            return 0
        from helpers import evaluation, training

        results = evaluation.prepare(settings)
        training.part(training.processes())
        if results:
            print(lesson.summary(results), flush=True)
        return 0
    except Exception as error:
        from helpers.errors import explain

        told = explain(error)
        if told is None:
            raise
        print(f"\n{told}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
