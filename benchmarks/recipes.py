#!/usr/bin/env python3
"""How fast is each recipe on this machine? Three ways to train the same model on the same rows, in turns.

    python benchmarks/recipes.py                                    # offline: the shipped model and data
    python benchmarks/recipes.py --model ORG/NAME@COMMIT --dataset ORG/NAME@COMMIT --json result.json

original   every row padded to 128 tokens, 16 rows a step, float32: what this course grew from
dynamic    16 rows padded to the longest of them, float32: what most courses do
ours       what notebook 04 does on this machine

Each recipe trains in a process of its own, so that its memory is its own. The processes take turns, so that what else
the machine does hits all of them alike. Prints one JSON object (benchmarks/README.md explains its fields).
"""

import argparse
import contextlib
import dataclasses
import json
import multiprocessing
import os
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import helpers  # noqa: E402, F401  before PyTorch, whose threads it makes polite

START = "spawn"  # how a process of its own begins (multiprocessing)
SHAPE = "distilbert-shape"
TYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--model", default="", help=f"a Hub id, ORG/NAME@COMMIT, a folder, or {SHAPE}: DistilBERT-base's 66 million "
        "parameters at random, which needs no network; default: the edition's"
    )  # fmt: skip
    parser.add_argument("--dataset", default="", help="a Hub id, ORG/NAME@COMMIT, or a folder; default: the edition's")
    parser.add_argument(
        "--rows", type=positive(int), default=8192, help="at most so many rows of each recipe's batches (%(default)s)"
    )
    parser.add_argument(
        "--seconds", type=positive(float), default=30, help="of measured steps for each recipe (%(default)s)"
    )
    parser.add_argument("--rounds", type=positive(int), default=3, help="turns of each recipe (%(default)s)")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the result there too")
    return parser.parse_args(arguments)


def positive(kind):
    """Return a function that reads a number above 0."""

    def number(text: str):
        value = kind(text)
        if not 0 < value < float("inf"):
            raise argparse.ArgumentTypeError(f"{text} is not above 0")
        return value

    return number


def random_distilbert(folder: Path) -> str:
    """Write a model of DistilBERT-base's shape with random weights, and a tokenizer, into folder; return its path.

    The tokenizer is the shipped one: its pieces are fewer (8,000 of 30,522), so that sentences are some tokens longer.
    """
    from transformers import AutoTokenizer, DistilBertConfig, DistilBertModel

    from helpers.settings import SHIPPED

    if not (folder / "model.safetensors").exists():
        AutoTokenizer.from_pretrained(SHIPPED / "model").save_pretrained(folder)
        DistilBertModel(DistilBertConfig()).save_pretrained(folder)
    return str(folder)


def read_settings(asked: argparse.Namespace):
    """Return the settings that the options ask for; the shipped model and data by default."""
    from helpers import settings

    from_hub = asked.dataset and not Path(asked.dataset).exists()  # so many rows want the full edition's recipe
    edition = os.environ.get("LESSON_EDITION") or ("full" if from_hub else "pocket")
    form = {"edition": edition, "dataset": asked.dataset}
    model = asked.model
    if model == SHAPE:
        model = random_distilbert(settings.read(**form).home / SHAPE)
    return settings.read(model=model, **form)


def load(settings):
    """Return the tokenized training rows and the tokenizer, making them first where they are not there."""
    from helpers import tokenization

    with contextlib.redirect_stdout(sys.stderr):
        tokenized, tokenizer = tokenization.load_or_make(settings)
    return tokenized["train"], tokenizer


def peak_memory() -> int | None:
    """Return the most memory that this process has held, in bytes: on the GPU where there is one, else in all."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    with contextlib.suppress(OSError):  # Linux; its ru_maxrss would count the parent process in
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    with contextlib.suppress(ImportError):  # macOS
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return None


def worker(pipe, settings, recipe, rows: int, seconds: float) -> None:
    """Train by one recipe, in a process of its own: say "ready", take turns when told, send the result."""
    from datasets import disable_progress_bars
    from transformers import DataCollatorWithPadding

    from helpers import speed

    class Turns(speed.Stopwatch):
        """A stopwatch that waits between its turns."""

        def on_train_begin(self, args, state, control, **kwargs):
            pipe.send("ready")
            pipe.recv()

        def time_is_up(self, control) -> None:
            pipe.send("turn over")
            if pipe.recv() == "stop":
                control.should_training_stop = True
            self.seconds += seconds
            self.warmup = self.taken + 1  # the first step after a pause is not counted

    disable_progress_bars()
    try:
        with contextlib.redirect_stdout(sys.stderr):
            dataset, tokenizer = load(settings)
            watch = Turns(DataCollatorWithPadding(tokenizer), seconds)
            speed.make_timed_trainer(settings, recipe, dataset, watch, rows).train()
        pipe.send(watch.result() | {"peak_memory_bytes": peak_memory()})
    except Exception as error:
        pipe.send(plain(error))


def plain(error: Exception) -> Exception:
    """Return an error that can be sent to another process: one for people as it is, another one as its text."""
    return error if type(error).__name__ == "LessonError" else RuntimeError(f"{type(error).__name__}: {error}")


def receive(pipe):
    """Return what a worker sends; raise the error that it sends instead."""
    try:
        said = pipe.recv()
    except EOFError:
        raise RuntimeError("A process of the benchmark died, most likely for want of memory.") from None
    if isinstance(said, Exception):
        raise said
    return said


def measure(settings, recipes: dict, rows: int, seconds: float, rounds: int, between) -> dict[str, dict]:
    """Let the recipes train in turns; return each one's result.

    Args:
        seconds: of measured steps for each recipe and turn. between: called before each round.
    """
    spawn = multiprocessing.get_context(START)
    pipes, processes = {}, []
    try:
        for name, recipe in recipes.items():
            pipes[name], theirs = spawn.Pipe()
            processes.append(spawn.Process(target=worker, args=(theirs, settings, recipe, rows, seconds), daemon=True))
            processes[-1].start()
            theirs.close()
            receive(pipes[name])
        for turn in range(rounds):
            between()
            for name, pipe in pipes.items():
                pipe.send("go")
                receive(pipe)
                print(f"round {turn + 1} of {rounds}: {name}", file=sys.stderr, flush=True)
        results = {}
        for name, pipe in pipes.items():
            pipe.send("stop")
            results[name] = receive(pipe)
        return results
    finally:
        for process in processes:
            process.join(timeout=5)
            process.kill()


def compare(asked: argparse.Namespace) -> dict:
    """Return the benchmark's result."""
    import torch
    import transformers

    from helpers import gpu, speed, tokenization
    from helpers.durable.errors import LessonError

    if asked.device == "cuda" and not torch.cuda.is_available():
        raise LessonError(
            "--device cuda: PyTorch sees no CUDA GPU here. Try --device cpu, or another machine.", "no-gpu"
        )
    settings = read_settings(asked)
    dataset, _ = load(settings)
    lengths = tokenization.lengths(dataset)
    work, device = gpu.count_work(settings, lengths), gpu.find_device()
    recipes = {"original": speed.ORIGINAL, "dynamic": speed.DYNAMIC, "ours": gpu.choose_recipe(settings)}
    largest = max(recipe.batch_size for recipe in recipes.values())
    if len(dataset) < largest:
        raise LessonError(
            f"The data has {len(dataset)} training rows, and ours needs a batch of {largest}. Take more rows.",
            "too-few-rows",
        )
    peaks = {kind: [] for kind in dict.fromkeys(recipe.precision for recipe in recipes.values())}

    def measure_peaks():
        for kind, found in peaks.items():
            size = 4096 if device.kind == "cuda" else 1024
            found.append(gpu.matmul_flops_per_second(device.kind, getattr(torch, TYPES[kind]), size))

    turn = asked.seconds / asked.rounds
    results = measure(settings, recipes, asked.rows, turn, asked.rounds, measure_peaks)
    peak = {kind: statistics.median(found) for kind, found in peaks.items()}
    for name, recipe in recipes.items():
        useful = 6 * work["multiplied"] * results[name]["tokens_per_second"]
        results[name] |= {
            "useful_flops_per_second": useful,
            "share_of_peak": useful / peak[recipe.precision],
            "seconds_for_all_epochs": settings.recipe.epochs * len(dataset) / results[name]["samples_per_second"],
            "recipe": dataclasses.asdict(recipe),
        }
    speeds = {name: result["samples_per_second"] for name, result in results.items()}
    return {
        "device": str(device),
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "model": SHAPE if asked.model == SHAPE else settings.model_name,
        "model_revision": settings.model_revision,
        "parameters": work["parameters"],
        "multiplied_parameters": work["multiplied"],
        "dataset": settings.dataset_name,
        "dataset_revision": settings.dataset_revision,
        "tokens_per_row": statistics.mean(lengths),
        "train_rows": len(dataset),
        "epochs": settings.recipe.epochs,
        "rows": asked.rows,
        "seconds": asked.seconds,
        "rounds": asked.rounds,
        "peak_flops_per_second": peak,
        "recipes": results,
        "ratio_to_original": speeds["ours"] / speeds["original"],
        "ratio_to_dynamic": speeds["ours"] / speeds["dynamic"],
    }


def command(asked: argparse.Namespace, work) -> int:
    """Print what work(options) returns as JSON; return the exit status: 0, or 2 after an error that can be mended."""
    from datasets import disable_progress_bars

    from helpers.durable.errors import LessonError
    from helpers.durable.files import write_json

    disable_progress_bars()
    try:
        result = work(asked)
        if asked.json:
            write_json(asked.json, result)
    except (LessonError, OSError) as error:
        print(f"\n{error}", file=sys.stderr)
        return 2
    print(json.dumps(result, indent=2))
    return 0


if __name__ == "__main__":
    options = parse()
    if options.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # before torch looks for GPUs, here and in the workers
    sys.exit(command(options, compare))
