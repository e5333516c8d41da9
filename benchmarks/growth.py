#!/usr/bin/env python3
"""How do time and memory grow with the rows? And how long does it take until the first training step?

    python benchmarks/growth.py                                      # offline: the shipped model and data
    python benchmarks/growth.py --dataset ORG/NAME@COMMIT --rows 1000 4000 16000 67349 --json result.json

Trains one epoch of notebook 04's recipe on each number of rows, each in a process of its own; tokenizes all rows; and
goes from a new Python process to the first training step, once with an empty LESSON_HOME and once with what notebook
03 leaves there. Prints one JSON object (benchmarks/README.md explains its fields).
"""

import argparse
import contextlib
import dataclasses
import math
import multiprocessing
import shutil
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import recipes  # noqa: E402  the benchmark beside this one


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="", help=f"as in recipes.py, {recipes.SHAPE} too")
    parser.add_argument("--dataset", default="", help="a Hub id, ORG/NAME@COMMIT, or a folder; default: the edition's")
    parser.add_argument(
        "--rows", type=recipes.positive(int), nargs="*", metavar="N",
        help="training rows of each run; none: only tokenize and start (default: a quarter, a half and all)",
    )  # fmt: skip
    parser.add_argument("--skip-start", action="store_true", help="do not time tokenizing and the way to a first step")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the result there too")
    return parser.parse_args(arguments)


def train(settings, rows: int | None, step) -> float:
    """Do what notebook 04 does with so many rows (None: all), measuring and saving left out; return the seconds.

    Args:
        step: called after each training step; when it returns True the training ends.
    """
    import transformers
    from transformers import DataCollatorWithPadding, TrainerCallback

    from helpers import gpu, models, tokenization, training

    class Watch(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            control.should_training_stop = bool(step())

    tokenized, tokenizer = tokenization.load_or_make(settings)
    classes = tokenized["train"].features["label"].names
    gpu.predict_seconds(settings, tokenization.lengths(tokenized["train"]), len(classes))
    recipe = dataclasses.replace(gpu.choose_recipe(settings), epochs=1)
    transformers.set_seed(settings.seed)
    data = tokenized["train"] if rows is None else tokenized["train"].shuffle(seed=settings.seed).select(range(rows))
    with tempfile.TemporaryDirectory() as folder:
        trainer = training.LengthGroupedTrainer(
            model=models.load_model(settings, classes, recipe.attention),
            args=recipe.arguments(Path(folder), eval_strategy="no", save_strategy="no", disable_tqdm=True),
            train_dataset=data,
            data_collator=DataCollatorWithPadding(tokenizer),
            callbacks=[Watch()],
        )
        begin = time.perf_counter()
        trainer.train()
        return time.perf_counter() - begin


def worker(pipe, settings, kind: str, rows: int | None) -> None:
    """Measure one thing in a process of its own: "train", "tokenize" or "first step" (the time of day of it)."""
    import datasets

    from helpers import data, models, tokenization

    datasets.disable_progress_bars()
    try:
        with contextlib.redirect_stdout(sys.stderr):
            if kind == "train":
                seconds = train(settings, rows, lambda: False)
                pipe.send({"rows": rows, "seconds": seconds, "peak_memory_bytes": recipes.peak_memory()})
            elif kind == "first step":
                first = []
                train(settings, None, lambda: first.append(time.time()) or True)
                pipe.send(first[0])
            else:
                datasets.disable_caching()  # else `map` would find what it made before
                splits, tokenizer = data.load_or_make(settings), models.load_tokenizer(settings)
                begin = time.perf_counter()
                tokenization.tokenize(splits, tokenizer, settings.recipe.max_length)
                pipe.send({"rows": sum(splits.num_rows.values()), "seconds": time.perf_counter() - begin})
    except Exception as error:
        pipe.send(recipes.plain(error))


def measure(settings, kind: str, rows: int | None = None):
    """Return what a `worker` measures."""
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(target=worker, args=(theirs, settings, kind, rows))
    print(f"{kind} {rows or ''}".strip(), file=sys.stderr, flush=True)
    process.start()
    theirs.close()
    try:
        return recipes.receive(ours)
    finally:
        process.join(timeout=30)
        process.kill()


def starts(settings) -> dict:
    """Return the seconds from a new process to the first training step, with an empty LESSON_HOME and a filled one.

    The Hub's files count as downloaded in both.
    """
    scratch = Path(tempfile.mkdtemp(prefix="growth-"))
    try:
        settings, found = dataclasses.replace(settings, home=scratch / settings.edition), {}
        for name in ("empty_home_seconds", "filled_home_seconds"):
            begin = time.time()
            found[name] = measure(settings, "first step") - begin
        return found
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def growth(runs: list[dict]) -> dict:
    """Return how time and memory grow over runs of {"rows", "seconds", "peak_memory_bytes"}, fewest rows first.

    Returns:
        {"seconds_per_more_row": of each run against the one before, "exponent": of the power law through first and
        last run (1: linear), "memory_ratio": last to first}.
    """
    pairs = list(zip(runs, runs[1:], strict=False))
    first, last = runs[0], runs[-1]
    return {
        "seconds_per_more_row": [(b["seconds"] - a["seconds"]) / (b["rows"] - a["rows"]) for a, b in pairs],
        "exponent": math.log(last["seconds"] / first["seconds"]) / math.log(last["rows"] / first["rows"]),
        "memory_ratio": last["peak_memory_bytes"] / first["peak_memory_bytes"],
    }


def compare(asked: argparse.Namespace) -> dict:
    """Return the benchmark's result."""
    from helpers import gpu
    from helpers.durable.errors import LessonError

    settings = recipes.read_settings(asked)
    found = len(recipes.load(settings)[0])
    wanted = [found // 4, found // 2, found] if asked.rows is None else sorted(set(asked.rows))
    if wanted and wanted[-1] > found:
        raise LessonError(
            f"--rows {wanted[-1]:,}: there are only {found:,} training rows. Give that or fewer.", "too-few-rows"
        )
    result = {
        "device": str(gpu.find_device()),
        "model": recipes.SHAPE if asked.model == recipes.SHAPE else settings.model_name,
        "dataset": settings.dataset_name,
        "train_rows": found,
        "batch_size": settings.recipe.batch_size,
        "runs": [measure(settings, "train", rows) for rows in wanted],
    }
    if len(wanted) > 1:
        result["growth"] = growth(result["runs"])
    if not asked.skip_start:
        result |= {"tokenize": measure(settings, "tokenize"), "first_step": starts(settings)}
    return result


if __name__ == "__main__":
    sys.exit(recipes.command(parse(), compare))
