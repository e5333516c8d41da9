"""Run the notebooks in order, as a student would, and keep what they show."""

import html
import os
import time
from pathlib import Path

from helpers.durable.errors import LessonError
from helpers.durable.files import read_json, show_path, write_text
from helpers.settings import Settings, clone_root


def notebooks() -> list[Path]:
    """Return the course's notebooks in order.

    Raises:
        LessonError: they are not beside the package (it was installed without them).
    """
    root = clone_root()
    if root is None:
        raise LessonError(
            "The notebooks are not here. Clone the course's repository and run this command inside it.", "no-clone"
        )
    return sorted((root / "notebooks").glob("[0-9]*.ipynb"))


def solutions() -> list[Path]:
    """Return the notebooks that solve the exercises, in order."""
    return [path for path in (book.parent / "solutions" / book.name for book in notebooks()) if path.is_file()]


def add_alt_text(page: str, notebook) -> str:
    """Return nbconvert's page with the text alternatives that plots.py leaves beside the pictures, in place of none."""
    before, *after = page.split("No description has been provided for this image")
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    kept = [output.metadata.get("image/png", {}) for output in outputs if "image/png" in output.get("data", {})]
    words = [html.escape(metadata.get("alt", "A figure; the text around it tells about it.")) for metadata in kept]
    if len(words) != len(after):  # pictures of another kind: nobody can say which words belong to which
        return page
    return before + "".join(text + rest for text, rest in zip(words, after, strict=True))


def execute(source: Path, folder: Path) -> None:
    """Run one notebook; write it executed, and as an HTML page, into folder.

    Raises:
        LessonError: a cell failed; the message names it and quotes its error. What ran before it is kept.
    """
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, DeadKernelError
    from nbconvert import HTMLExporter

    notebook, failure = nbformat.read(source, as_version=4), None
    place = {"metadata": {"path": str(source.parent)}}
    quiet = ["--log-level=ERROR"]  # the kernel's own remarks, not the notebook's
    client = NotebookClient(notebook, timeout=None, kernel_name="python3", resources=place, extra_arguments=quiet)
    try:
        client.execute()
    except CellExecutionError as error:
        failure = f"{error.ename}: {error.evalue}"
    except DeadKernelError:
        failure = "its Python process died, most likely for want of memory"
    page, _ = HTMLExporter().from_notebook_node(notebook)
    write_text(folder / f"{source.stem}.html", add_alt_text(page, notebook))
    write_text(folder / source.name, nbformat.writes(notebook))
    if failure:
        raise LessonError(
            f"{source.name} stopped: {failure}\n"
            f"The page up to there: {show_path(folder / source.name)}. Mend the cause and run the same command again; "
            "what was finished is used again.",
            "lesson-stopped",
        )


def summary(results: dict) -> str:
    """Return the results as a small table for the terminal."""
    low, high = results["accuracy_ci95"]
    lines = {
        "edition": results["edition"],
        "model": f"{results['model']}, {results['parameters']:,} parameters",
        "data": results["dataset"] + ", " + ", ".join(f"{name} {rows:,}" for name, rows in results["rows"].items()),
        "device": f"{results['device']}, {results['precision']}",
        "training": f"{results['train_seconds']:.1f} s, {results['samples_per_second']:.0f} samples/s",
        "validation": ", ".join(f"{a:.4f}" for a in results["validation_accuracy_by_epoch"]) + " (by epoch)",
        "test": f"{results['accuracy']:.4f} (95% interval {low:.4f} to {high:.4f}), F1 {results['f1']:.4f}",
        "majority": f"{results['majority_accuracy']:.4f}",
        "TF-IDF": f"{results['tfidf_accuracy']:.4f} (McNemar p = {results['mcnemar_p']:.2g})",
    }
    return "\n".join(f"  {name:<12} {text}" for name, text in lines.items())


def run(settings: Settings) -> dict:
    """Run all notebooks under these settings; return the results that notebook 05 left."""
    folder, paths = settings.home / "lesson", notebooks()
    # The kernels read the same settings from the environment.
    os.environ["LESSON_HOME"] = str(settings.home.parent)  # paths mean the same from the notebooks' folder
    for name, source, revision in (
        ("LESSON_MODEL", settings.model, settings.model_revision),
        ("LESSON_DATASET", settings.dataset, settings.dataset_revision),
    ):
        os.environ[name] = f"{source}@{revision}" if revision else source
    for number, path in enumerate(paths, 1):
        begin = time.perf_counter()
        print(f"[{number}/{len(paths)}] {path.stem} ...", end=" ", flush=True)
        execute(path, folder)
        print(f"{time.perf_counter() - begin:.0f} s", flush=True)
    results = read_json(settings.home / "results.json")
    print(f"Results ({show_path(settings.home / 'results.json')}; the pages are in {show_path(folder)}):")
    print(summary(results))
    return results
