#!/usr/bin/env python3
"""Does the course keep its promises on a GPU? One command, a few minutes, no network.

    python benchmarks/gpu.py --json gpu.json     # make gpu
    python benchmarks/gpu.py --smallest          # with the smallest sizes, on a CPU too: does all of this run?

train    notebook 04's training in each precision, predicted and measured: the shipped model, and a model of
         DistilBERT-base's shape with random weights, both on the shipped data
kill     a training is killed (SIGKILL) and run again: how far are its weights from an undisturbed one's?
memory   the GPU is filled until a batch does not fit: it is computed in parts, and stays what it was
race     benchmarks/recipes.py with DistilBERT-base's shape

Prints a Markdown table for benchmarks/README.md. Exit status 1 when a promise is not kept, 2 when something is missing.
Each training runs in a process of its own. On a CPU too little memory is simulated, and fp16 does not exist.
"""

import argparse
import contextlib
import dataclasses
import importlib.util
import io
import json
import multiprocessing
import os
import platform
import shutil
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import recipes  # noqa: E402  the benchmark beside this one

NEEDED = {
    name: name.replace("sklearn", "scikit-learn")
    for name in (
        "torch", "transformers", "accelerate", "datasets", "evaluate", "sklearn", "scipy", "pandas", "pyarrow", "dill",
        "multiprocess", "xxhash", "filelock", "safetensors",
    )
}  # fmt: skip
TOLERANCE = 1e-3  # between the weights of a batch computed at once and in parts, float32


@dataclasses.dataclass(frozen=True)
class Plan:
    """Sizes: how much is trained."""

    edition: str  # whose recipe the large model is trained by
    rows: int | None  # training rows; None: all
    kill_after: int  # steps
    memory_rows: int
    race: tuple  # options of recipes.py


FULL = Plan("full", None, 20, 1024, ("--seconds", "30", "--rounds", "3"))
SMALLEST = Plan("pocket", 64, 2, 64, ("--seconds", "0.2", "--rounds", "1", "--rows", "64"))


@dataclasses.dataclass(frozen=True)
class Training:
    """One training, in a process of its own.

    Attributes:
        home: LESSON_HOME. model: a folder. edition: whose recipe. precision: "fp32", "fp16" or "bf16".
        rows: training rows; None: all. epochs: how often each is read.
        every_step: save a checkpoint after each step.
        room: bytes that are left free on the GPU; None: all there are. On a CPU: rows that "fit".
    """

    home: Path
    model: Path
    edition: str
    precision: str
    rows: int | None
    epochs: int = 2
    every_step: bool = False
    room: int | None = None

    @property
    def folder(self) -> Path:
        """Where it leaves its model."""
        return self.home / self.edition / "model"


def missing() -> list[str]:
    """Return the packages that this machine lacks."""
    return [package for name, package in NEEDED.items() if importlib.util.find_spec(name) is None]


def say_what_is_missing(packages: list[str]) -> None:
    """Say how to get packages with a network and without."""
    names = " ".join(packages)
    print(
        f"Missing here: {', '.join(packages)}.\n"
        f"With a network:     python -m pip install {names}\n"
        f"Without one, where there is one: python -m pip download --no-deps -d wheels {names}\n"
        "        then, with that folder here: python -m pip install --no-deps wheels/*.whl",
        file=sys.stderr,
    )


def train(work: Training) -> dict:
    """Do what notebook 04 does; return what it was and how it did. Runs in a process of its own."""
    import math

    import transformers

    from helpers import gpu, settings, training
    from helpers.durable import checkpoints

    environ = {"LESSON_HOME": str(work.home), "LESSON_EDITION": work.edition, "LESSON_EPOCHS": str(work.epochs)}
    environ |= {"LESSON_MODEL": str(work.model), "LESSON_DATASET": str(settings.SHIPPED / "data")}
    environ |= {"LESSON_TRAIN_ROWS": str(work.rows)} if work.rows else {}
    transformers.utils.logging.set_verbosity_error()
    known, precision = settings.read(environ), work.precision
    gpu.measure_machine = lambda _: {"precision": precision}
    if work.every_step:
        checkpoints.SAVE_EVERY, checkpoints.MAX_SAVE_SHARE = 0, math.inf
    filling = fill(work.room) if work.room else None
    model, _, summary = training.train(known)
    del filling
    losses = [entry["loss"] for entry in summary["log_history"] if "loss" in entry]
    if not all(map(math.isfinite, losses)):
        raise ValueError(f"a loss is no number: {losses}")
    names = ("precision", "parameters", "steps", "samples_per_second", "validation_accuracy_by_epoch")
    return {name: summary[name] for name in names} | {
        "model": work.model.name,
        "epochs": work.epochs,
        "batch_size": known.recipe.batch_size,
        "measured_seconds": summary["train_seconds"],
        "predicted_seconds": summary["predicted_train_seconds"],
        "last_loss": losses[-1],
        "peak_memory_bytes": recipes.peak_memory(),
    }


def fill(room: int):
    """Leave so many bytes free on the GPU; on a CPU, let a batch of more than so many rows fail as there."""
    import torch

    if torch.cuda.is_available():
        free, _ = torch.cuda.mem_get_info()
        return torch.empty(max(0, free - room), dtype=torch.uint8, device="cuda")
    from transformers import DistilBertForSequenceClassification as Model

    inner = Model.forward

    def forward(self, input_ids=None, attention_mask=None, labels=None, **more):
        if self.training and len(input_ids) > room:
            raise torch.OutOfMemoryError("simulated")
        return inner(self, input_ids=input_ids, attention_mask=attention_mask, labels=labels, **more)

    Model.forward = forward


def worker(pipe, work: Training) -> None:
    """Train; send (result, what was said), or the error."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(io.StringIO()):
            result = train(work)
        pipe.send((result, said.getvalue()))
    except Exception as error:
        pipe.send(recipes.plain(error))


def start(work: Training):
    """Start a training; return (process, our end of its pipe). What others have prepared is used."""
    for other in work.home.parent.glob(f"*/{work.edition}/tokenized/complete.json"):
        if not (work.home / work.edition).exists():
            leave = shutil.ignore_patterns("model", "checkpoints", "*.lock")
            shutil.copytree(other.parents[1], work.home / work.edition, ignore=leave)
    context = multiprocessing.get_context(recipes.START)
    ours, theirs = context.Pipe()
    process = context.Process(target=worker, args=(theirs, work))
    process.start()
    theirs.close()
    return process, ours


def finish(work: Training) -> tuple[dict, str]:
    """Run a training to its end; return its result and what it said."""
    process, pipe = start(work)
    try:
        return recipes.receive(pipe)
    finally:
        process.join(timeout=30)
        process.kill()


def kill(work: Training, steps: int) -> None:
    """Start a training, and kill it when a checkpoint of so many steps or more is whole."""
    process, pipe = start(work)
    places, limit = work.home / work.edition / "checkpoints", time.monotonic() + 200
    while not pipe.poll() and time.monotonic() < limit:
        found = [int(path.parent.name[11:]) for path in places.glob("main-*/checkpoint-*/complete.json")]
        if max(found, default=0) >= steps:
            process.kill()
            break
        time.sleep(0.005)
    process.join(timeout=30)
    if process.exitcode in (0, None):
        raise RuntimeError(f"the training was not killed; it ended with {process.exitcode}")


def difference(one: Path, other: Path) -> float:
    """Return the largest difference between the weights in two folders."""
    from safetensors.torch import load_file

    ours, theirs = (load_file(folder / "model.safetensors") for folder in (one, other))
    return max((ours[name] - theirs[name]).abs().max().item() for name in ours)


def try_trainings(scratch: Path, models: dict, plan: Plan, precisions: list[str]) -> list[dict]:
    """Train each model in each precision."""
    found = []
    for name, folder in models.items():
        edition = plan.edition if name == recipes.SHAPE else "pocket"
        for precision in precisions:
            work = Training(scratch / f"train-{name}-{precision}", folder, edition, precision, plan.rows)
            found.append(finish(work)[0] | {"model": name})
            say(f"{name}, {precision}: {found[-1]['measured_seconds']:.1f} s")
    return found


def try_kill(scratch: Path, model: Path, plan: Plan, precision: str) -> dict:
    """Train twice undisturbed, and once killed and run again; compare the weights."""
    calm, again, killed = (
        Training(scratch / f"kill-{name}", model, "pocket", precision, plan.rows, every_step=True)
        for name in ("calm", "again", "killed")
    )
    finish(calm)
    finish(again)
    kill(killed, plan.kill_after)
    _, said = finish(killed)
    result = {
        "precision": precision,
        "continued": next((line for line in said.splitlines() if line.startswith("Continuing")), None),
        "difference": difference(calm.folder, killed.folder),
        "difference_of_two_undisturbed": difference(calm.folder, again.folder),
    }
    result["kept"] = bool(result["continued"]) and result["difference"] <= max(
        1e-6, 10 * result["difference_of_two_undisturbed"]
    )
    say(f"kill: {result}")
    return result


def without_dropout(model: Path, folder: Path) -> Path:
    """Copy a model into folder, and take away its dropout: whose random choices would differ from part to part."""
    shutil.copytree(model, folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"dropout": 0.0, "attention_dropout": 0.0, "seq_classif_dropout": 0.0}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def try_memory(scratch: Path, model: Path, plan: Plan, on_gpu: bool) -> dict:
    """Train with all of the memory, and with less and less of it until a batch does not fit; compare."""
    model = without_dropout(model, scratch / "without-dropout")
    options = {"model": model, "edition": plan.edition, "precision": "fp32", "rows": plan.memory_rows, "epochs": 1}
    roomy = Training(scratch / "memory-roomy", **options)
    enough, _ = finish(roomy)
    static = 16 * enough["parameters"]  # weights, gradients, and AdamW's two averages
    for share in (0.5, 0.25, 0.1):
        room = int(static + share * (enough["peak_memory_bytes"] - static)) if on_gpu else enough["batch_size"] - 1
        tight = Training(scratch / f"memory-{share}", room=room, **options)
        found, said = finish(tight)
        told = [line for line in said.splitlines() if line.startswith("The GPU's memory is too small for")]
        if told:
            break
    else:
        raise RuntimeError("the batch fitted into whatever was left: nothing was tried")
    result = {
        "simulated": not on_gpu,
        "room_bytes": room if on_gpu else None,
        "peak_memory_bytes_with_room": enough["peak_memory_bytes"],
        "peak_memory_bytes": found["peak_memory_bytes"],
        "said": told,
        "steps": [enough["steps"], found["steps"]],
        "difference": difference(roomy.folder, tight.folder),
    }
    result["kept"] = enough["steps"] == found["steps"] and result["difference"] < TOLERANCE
    say(f"memory: {result}")
    return result


def try_race(plan: Plan, smallest: bool) -> dict:
    """Run recipes.py's race; in its smallest size with the shipped model."""
    os.environ["LESSON_EDITION"] = plan.edition
    from helpers.settings import SHIPPED

    model = () if smallest else ("--model", recipes.SHAPE)
    return recipes.compare(recipes.parse([*model, "--dataset", str(SHIPPED / "data"), *plan.race]))


def table(result: dict) -> str:
    """Return the result as a Markdown table for benchmarks/README.md."""
    lines = [
        f"{result['device']}, torch {result['versions']['torch']}, transformers {result['versions']['transformers']}:",
        "",
        "| What | Precision | Measured | Predicted | Samples/s | Peak memory, GB | Validation accuracy |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for run in result["train"]:
        lines.append(
            f"| {run['model']}, {run['steps']} steps of {run['batch_size']} | {run['precision']} | "
            f"{run['measured_seconds']:.1f} s | {run['predicted_seconds']:.1f} s | {run['samples_per_second']:.0f} | "
            f"{run['peak_memory_bytes'] / 1e9:.2f} | {max(run['validation_accuracy_by_epoch']):.3f} |"
        )
    race, killed, memory = result["race"], result["kill"], result["memory"]
    for name, run in race["recipes"].items():
        lines.append(
            f"| race: {name}, batch {run['recipe']['batch_size']} | {run['recipe']['precision']} | step "
            f"{run['step_seconds'] * 1000:.1f} ms | | {run['samples_per_second']:.0f} | "
            f"{run['peak_memory_bytes'] / 1e9:.2f} | |"
        )
    kept = [name for name in ("kill", "memory") if result[name]["kept"]]
    lines += [
        "",
        f"- Race ({race['model']}): ours is {race['ratio_to_original']:.1f} times as fast as original, "
        f"{race['ratio_to_dynamic']:.1f} times as fast as dynamic.",
        f"- Killed and run again ({killed['precision']}): {killed['continued']} Largest difference between weights: "
        f"{killed['difference']:.1e}; of two undisturbed ones: {killed['difference_of_two_undisturbed']:.1e}.",
        f"- Too little memory{' (simulated)' * memory['simulated']}: {memory['said'][-1]} {memory['steps'][1]} steps, "
        f"with room {memory['steps'][0]}. Largest difference between weights: {memory['difference']:.1e}.",
        f"- Promises kept: {', '.join(kept) or 'none'} (of kill, memory). It took {result['seconds']:.0f} s.",
    ]
    return "\n".join(lines)


def say(text: str) -> None:
    """Say on the way what was found."""
    print(text, file=sys.stderr, flush=True)


def measure(scratch: Path, smallest: bool) -> dict:
    """Try everything below an empty folder; return the result."""
    import torch
    import transformers

    from helpers import gpu
    from helpers.settings import SHIPPED

    begin, on_gpu = time.perf_counter(), torch.cuda.is_available()
    plan = SMALLEST if smallest else FULL
    large = SHIPPED / "model" if smallest else Path(recipes.random_distilbert(scratch / recipes.SHAPE))
    models = {"pocket-distilbert": SHIPPED / "model"} | ({} if smallest else {recipes.SHAPE: large})
    precisions = ["fp16", "bf16"] if on_gpu else ["fp32", "bf16"]
    result = {
        "device": str(gpu.find_device()),
        "smallest": smallest,
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "cuda": torch.version.cuda,
            "transformers": transformers.__version__,
        },
        "train": try_trainings(scratch, models, plan, precisions),
        "kill": try_kill(scratch, SHIPPED / "model", plan, precisions[-1]),
        "memory": try_memory(scratch, large, plan, on_gpu),
        "race": try_race(plan, smallest),
    }
    return result | {"seconds": time.perf_counter() - begin}


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smallest", action="store_true", help="the smallest sizes: a minute on a CPU")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write all that was measured there")
    asked = parser.parse_args(arguments)
    lacking = missing()
    if lacking:
        say_what_is_missing(lacking)
        return 2
    with tempfile.TemporaryDirectory(prefix="gpu-") as folder:
        paths = [str(ROOT), str(ROOT / "benchmarks"), os.environ.get("PYTHONPATH", "")]
        os.environ |= {"HF_HUB_OFFLINE": "1", "HF_HOME": f"{folder}/hf", "LESSON_HOME": f"{folder}/race"}
        os.environ |= {"TOKENIZERS_PARALLELISM": "false", "PYTHONPATH": os.pathsep.join(paths)}
        import torch

        if not torch.cuda.is_available() and not asked.smallest:
            print("PyTorch sees no CUDA GPU here. Try --smallest, which runs on a CPU.", file=sys.stderr)
            return 2
        if sys.platform != "win32":  # one process imports everything, and leaves the GPU alone; others are its copies
            recipes.START = "forkserver"
            multiprocessing.set_forkserver_preload(["helpers.training", "helpers.speed", "transformers.trainer"])
        result = measure(Path(folder), asked.smallest)
    if asked.json:
        asked.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(table(result))
    return 0 if result["kill"]["kept"] and result["memory"]["kept"] else 1


if __name__ == "__main__":
    sys.exit(main())
