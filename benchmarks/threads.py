#!/usr/bin/env python3
"""How fast is the training of notebook 04 alone, and beside others of its kind? One row for each setting of OpenMP.

    python benchmarks/threads.py                                       # PyTorch's default and the course's own
    python benchmarks/threads.py GOMP_SPINCOUNT=1000 OMP_WAIT_POLICY=PASSIVE,OMP_NUM_THREADS=1 --at-once 1 2 6

Every training is a process with a LESSON_HOME of its own; all of a row start together. PyTorch is loaded before the
course, so that the environment is the row's and nothing else's. Prints a table in Markdown (benchmarks/README.md
explains its columns). Wants a quiet machine, offline, with the shipped model and data.
"""

import argparse
import contextlib
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parent.parent
COLUMNS = (
    "Setting",
    "At once",
    "Seconds (mean)",
    "Longest",
    "Predicted (mean)",
    "Precision",
    "Other work",
    "sha256 of the weights",
)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "variants", nargs="*", default=["default", "polite"], metavar="NAME=VALUE,...",
        help="environment of a row; 'default': PyTorch's own; 'polite': what the course sets",
    )  # fmt: skip
    parser.add_argument("--at-once", type=int, nargs="+", default=[1, 2], metavar="N", help="trainings side by side")
    parser.add_argument("--limit", type=float, default=600, help="seconds after which a row is given up (%(default)s)")
    parser.add_argument("--epochs", type=int, default=2, help="as LESSON_EPOCHS (%(default)s)")
    parser.add_argument("--rows", type=int, default=0, help="as LESSON_TRAIN_ROWS; 0: all")
    parser.add_argument("--precision", choices=("bf16", "fp32"), help="not what notebook 01 measures, but this")
    parser.add_argument("--work", choices=("prepare", "train"), help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def environment(variant: str, home: Path, asked: argparse.Namespace) -> dict[str, str]:
    """Return the environment of a process: this one's without its own OpenMP, and what the variant sets."""
    from helpers import threads

    dropped = ("OMP_", "GOMP_", "KMP_", "MKL_", "LESSON_", "HF_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    pairs = {"default": {}, "polite": threads.POLITE}.get(variant)
    if pairs is None:
        pairs = dict(pair.split("=", 1) for pair in variant.split(","))
    mine = {"LESSON_HOME": str(home), "HF_HOME": str(home / "hf"), "LESSON_EDITION": "pocket", "HF_HUB_OFFLINE": "1"}
    mine |= {"LESSON_EPOCHS": str(asked.epochs), "LESSON_TRAIN_ROWS": str(asked.rows or ""), "PYTHONPATH": str(ROOT)}
    return kept | mine | pairs


def work(task: str, precision: str | None) -> None:
    """Prepare the data and measure the machine, or train; in a process of its own, which prints JSON at the end."""
    import torch  # noqa: F401, I001  before the course, which would set its own threads

    from helpers import gpu, tokenization, training
    from helpers import settings as course
    from helpers.durable.files import write_json

    settings = course.read()
    result = {}
    with contextlib.redirect_stdout(sys.stderr):
        tokenization.prepare(settings)
        known = gpu.machine(settings)
        if precision:
            write_json(settings.home / "machine.json", known | {"precision": precision})
        if task == "train":
            _, _, result = training.train(settings)
            weights = (settings.home / "model" / "model.safetensors").read_bytes()
            result["sha256"] = hashlib.sha256(weights).hexdigest()
    print(json.dumps(result))


def start(task: str, environ: dict[str, str], asked: argparse.Namespace) -> subprocess.Popen:
    """Start `work` in a new process."""
    command = [sys.executable, __file__, "--work", task]
    if asked.precision:
        command += ["--precision", asked.precision]
    return subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def finish(process: subprocess.Popen, seconds: float) -> dict | None:
    """Return what a process printed; None when it took longer than so many seconds, and was ended.

    Raises CalledProcessError when it failed.
    """
    try:
        out, _ = process.communicate(timeout=max(0, seconds))
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return None
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, process.args)
    return json.loads(out.splitlines()[-1])


def used() -> tuple[float, float, float]:
    """Return seconds: the clock's, those that all CPUs worked, and those that they worked for ended children."""
    total, mine = psutil.cpu_times(), psutil.Process().cpu_times()
    working = sum(total[:3]) + sum(getattr(total, name, 0) for name in ("irq", "softirq", "steal"))
    return time.monotonic(), working, mine.children_user + mine.children_system


def row(variant: str, count: int, folder: Path, asked: argparse.Namespace) -> list[str]:
    """Train `count` times at once; return the cells of the table's row."""
    template = folder / "template"
    finish(start("prepare", environment(variant, template, asked), asked), asked.limit)
    homes = [Path(shutil.copytree(template, folder / f"{number}")) for number in range(count)]
    before = used()
    running = [start("train", environment(variant, home, asked), asked) for home in homes]
    end = time.monotonic() + asked.limit
    results = [finish(process, end - time.monotonic()) for process in running]
    wall, everybody, mine = (after - start for after, start in zip(used(), before, strict=True))
    others = f"{max(0, everybody - mine) / (wall * psutil.cpu_count()):.0%}"
    for home in homes:
        shutil.rmtree(home)
    if None in results:
        return [f"`{variant}`", str(count), f"more than {asked.limit:.0f}", "", "", "", others, ""]
    seconds, predicted = ([one[name] for one in results] for name in ("train_seconds", "predicted_train_seconds"))
    numbers = (statistics.mean(seconds), max(seconds), statistics.mean(predicted))
    precisions = ", ".join(sorted({one["precision"] for one in results}))
    words = (precisions, others, " ".join({o["sha256"][:8] for o in results}))
    return [f"`{variant}`", str(count), *(f"{number:.1f}" for number in numbers), *words]


def main(arguments: list[str] | None = None) -> None:
    """Print the table, row by row."""
    asked = parse(arguments)
    if asked.work:
        work(asked.work, asked.precision)
        return
    print("|", " | ".join(COLUMNS), "|\n|", " | ".join("---" for _ in COLUMNS), "|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for variant in asked.variants:
            for count in asked.at_once:
                print("|", " | ".join(row(variant, count, Path(folder), asked)), "|", flush=True)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
