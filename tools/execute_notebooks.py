#!/usr/bin/env python3
"""Execute the notebooks in place, in the pocket edition, from an empty LESSON_HOME, and clean their outputs.

    python tools/execute_notebooks.py [NAME ...]        (such as 04_train: it and its solutions; default: all)

Run it before committing a changed notebook. It refuses to write a notebook in which a cell failed.
"""

import os
import re
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

COLOURS = re.compile(r"\x1b\[[0-9;]*m")  # of a terminal
KEPT = ("slideshow", "tags", "cellView", "jupyter")  # of a cell's metadata: the last two fold a form
PROGRESS = re.compile(r"\s*<div>(?:(?!</div>).)*?<progress.*?</div>", re.S)


def clean_output(output, places: dict[str, str]) -> bool:
    """Take machine paths and progress bars out of one output; return whether anything is left of it."""

    def clean(text: str) -> str:
        for path, name in places.items():
            text = text.replace(path, name)
        return PROGRESS.sub("", COLOURS.sub("", text))

    if "text" in output:
        output["text"] = clean(output["text"])
        return bool(output["text"].strip())
    data = output.get("data", {})
    if any("widget" in kind for kind in data):
        return False
    for kind in ("text/plain", "text/html"):
        if kind in data:
            data[kind] = clean(data[kind])
    return bool(data)


def clean(notebook, places: dict[str, str]) -> None:
    """Clean all outputs, join what was printed in pieces, and number the cells from 1."""
    notebook.metadata.pop("widgets", None)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for number, cell in enumerate(code, 1):
        cell.execution_count = number
        cell.metadata = {key: value for key, value in cell.metadata.items() if key in KEPT}
        joined = []
        for output in cell.outputs:
            same = joined and output.output_type == "stream" == joined[-1].output_type
            if same and output.name == joined[-1].name:
                joined[-1]["text"] += output["text"]
            else:
                joined.append(output)
        cell.outputs = [output for output in joined if clean_output(output, places)]
        for output in cell.outputs:
            if output.output_type == "execute_result":
                output.execution_count = number


def main() -> None:
    """Execute, clean and write each notebook."""
    import nbformat

    from helpers.classroom import lesson
    from helpers.durable.files import write_text

    wanted = sys.argv[1:]
    for name in [n for n in os.environ if n.startswith("LESSON_")]:
        del os.environ[name]
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["LESSON_HOME"] = f"{scratch}/lesson_home"
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # committed notebooks show the pocket edition
        places = {f"{scratch}/": "", f"{ROOT}/": ""}
        for path in lesson.notebooks() + lesson.solutions():
            if wanted and path.stem not in wanted:
                continue
            folder = Path(scratch, "out", path.parent.name)
            lesson.execute(path, folder)
            notebook = nbformat.read(folder / path.name, as_version=4)
            clean(notebook, places)
            write_text(path, nbformat.writes(notebook, indent=1) + "\n")
            print(f"{path.relative_to(ROOT)}: executed", flush=True)


if __name__ == "__main__":
    main()
