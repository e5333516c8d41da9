"""Real processes that train and can be killed at any moment, a second apiece.

`Nursery` starts one Python process that imports the heavy packages once, computes nothing, and forks a child for each
training: so a kill costs a second and not ten. What a child does is counted in *ticks*: every event of its file system
(Python's audit events) and every stage of a training step is one, in the same order each time. A child can be told to
kill itself at tick number n, or the test kills it when a time has passed; `Child.phase` tells what it was doing.
"""

import contextlib
import functools
import gc
import hashlib
import json
import math
import mmap
import os
import select
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve()
sys.path[:0] = [str(HERE.parents[2]), str(HERE.parents[1])]  # the course, and what its tests share
PHASES = (
    "preparing", "predicting", "looking", "training", "saving", "sealing", "rotating", "evaluating", "best", "keeping",
    "clearing", "finished",
)  # fmt: skip
WRITES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.chmod", "os.truncate")


class Child:
    """One training in a process of its own."""

    def __init__(self, nursery: "Nursery", number: int, log: Path):
        self.nursery, self.pid, self.log, self.status = nursery, number, log, None

    @property
    def slots(self) -> tuple[int, int, int]:
        """(phase, ticks, steps taken) as the child has written them last."""
        path = self.log.with_suffix(".now")
        return struct.unpack("3i", path.read_bytes()) if path.exists() else (0, 0, 0)

    @property
    def phase(self) -> str:
        """What the child was doing last."""
        return PHASES[self.slots[0]]

    def wait(self, timeout: float = 60) -> int:
        """Wait for the end; return the exit status, negative for a signal. Raises TimeoutError when it hangs."""
        if self.status is None:
            try:
                self.status = self.nursery.ask({"wait": self.pid}, timeout)
            except TimeoutError:
                self.kill()
                raise
        return self.status

    def kill(self) -> None:
        """Kill it, now, for real."""
        self.signal(signal.SIGKILL)

    def signal(self, number: int) -> None:
        """Send it a signal, if it still runs."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def until(self, true, timeout: float = 60) -> bool:
        """Wait until true() or until the child has ended; return whether true() was seen."""
        limit = time.monotonic() + timeout
        while time.monotonic() < limit:
            if true():
                return True
            if not self.alive():
                return bool(true())
            time.sleep(0.001)
        raise TimeoutError(f"{timeout} s have passed; the child is {self.phase}:\n{self.said()}")

    def alive(self) -> bool:
        """Whether it still runs (the nursery reaps it when `wait` is called)."""
        try:
            return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
        except FileNotFoundError:
            return False

    def returned(self) -> str:
        """The digest of the model that it came to."""
        return self.log.with_suffix(".model").read_text()

    def said(self) -> str:
        """What it printed."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""


class Nursery:
    """The process that forks children. Use it in a `with`."""

    def __init__(self, folder: Path):
        self.folder, self.children = Path(folder), []
        self.folder.mkdir(parents=True, exist_ok=True)
        environ = {name: value for name, value in os.environ.items() if not name.startswith(("LESSON_", "HF_"))}
        environ |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HOME": str(self.folder / "hf")}
        self.process = subprocess.Popen(
            [sys.executable, str(HERE)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environ,
            cwd=HERE.parents[2], start_new_session=True,
        )  # fmt: skip
        self.ask({}, 120)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        """End it, and every child that is left (one that stands still would for ever)."""
        for child in self.children:
            if child.status is None:
                child.kill()
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate()

    def ask(self, request: dict, timeout: float):
        """Send a request, return the answer. Raises TimeoutError; the answer is then forgotten when it comes."""
        self.process.stdin.write(json.dumps(request).encode() + b"\n")
        self.process.stdin.flush()
        limit = time.monotonic() + timeout
        while True:
            ready, _, _ = select.select([self.process.stdout], [], [], max(0, limit - time.monotonic()))
            if not ready:
                raise TimeoutError(f"no answer to {request} within {timeout} s")
            answer = json.loads(self.process.stdout.readline())
            if answer["to"] == request:
                return answer["answer"]

    def start(self, home: Path, **what) -> Child:
        """Start a training below home.

        Args:
            model, dataset: folders.
            epochs, seed, train_rows: settings.
            precision: "fp32" or "bf16"; not measured, so that it never changes.
            every: seconds between checkpoints; 0: after every step; None: as the course does.
            kill: the tick at which it kills itself: a number, or (phase, steps taken, number among those).
            limit: bytes; no file can grow larger.
            interrupt: steps after which KeyboardInterrupt is raised, once.
            pause: (phase, steps taken) at whose first tick it stops, until it gets SIGCONT.
            again: after KeyboardInterrupt, run the same trainer again in the same process.
            memory: the most rows that "fit into the GPU"; `where` ("forward" or "backward") fails with more,
                `after` so many steps.
            call: "train"; "load_or_train", what notebook 05 calls; "command": python -m helpers train.
            trace: a file into which each tick is written as a line: phase and steps taken.
        """
        log = self.folder / f"{len(self.children)}.log"
        request = {"home": str(home), "log": str(log)} | {name: value for name, value in what.items()}
        self.children.append(Child(self, self.ask(json.loads(json.dumps(request, default=str)), 30), log))
        return self.children[-1]

    def train(self, home: Path, timeout: float = 60, **what) -> Child:
        """Start a training and wait for its end."""
        child = self.start(home, **what)
        child.wait(timeout)
        return child


def serve() -> None:
    """Answer requests until the input ends. Runs in the nursery's process."""
    import evaluate
    import torch.profiler  # noqa: F401
    import transformers.models.distilbert.modeling_distilbert  # noqa: F401
    import transformers.trainer  # noqa: F401

    from helpers import evaluation, training  # noqa: F401
    from helpers.classroom import lesson  # noqa: F401

    evaluate.load(training.METRIC)
    with contextlib.suppress(ImportError):  # half a second's table, which some versions have
        from transformers.conversion_mapping import get_checkpoint_conversion_mapping

        get_checkpoint_conversion_mapping("distilbert")
    gc.freeze()  # what is here now needs no looking through in any child

    for line in sys.stdin:
        request, answer = json.loads(line), True
        if "wait" in request:
            _, status = os.waitpid(request["wait"], 0)
            answer = os.waitstatus_to_exitcode(status)
        elif request:
            answer = os.fork()
            if answer == 0:
                os._exit(live(request))
        print(json.dumps({"to": request, "answer": answer}), flush=True)


def live(request: dict) -> int:
    """Do what a child was asked for; return its exit status: 0, 2 after a LessonError, 1 after any other error."""
    import traceback

    from helpers.durable.errors import LessonError

    os.setsid()
    handle = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(handle, stream)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.stdout, sys.stderr = os.fdopen(1, "w", 1), os.fdopen(2, "w", 1)
    try:
        work(request)
        return 0
    except LessonError as error:
        print(f"LessonError ({error.code}): {error}", flush=True)
        return 2
    except BaseException:
        traceback.print_exc()
        return 1


class Clock:
    """Counts a child's ticks, and kills it at one of them."""

    def __init__(self, request: dict):
        path = Path(request["log"]).with_suffix(".now")
        path.write_bytes(struct.pack("3i", 0, 0, 0))
        with path.open("r+b") as file:
            self.map = mmap.mmap(file.fileno(), 12)
        self.ticks, self.steps, self.phases, self.kill, self.here = 0, 0, [0], request.get("kill"), 0
        self.pause = request.get("pause")
        self.trace = request.get("trace") and Path(request["trace"]).open("w", 1)  # noqa: SIM115
        self.show()

    def show(self) -> None:
        """Write down where we are; readers see it at once."""
        self.map[:] = struct.pack("3i", self.phases[-1], self.ticks, self.steps)

    def tick(self) -> None:
        """One event more."""
        self.ticks += 1
        self.show()
        if self.trace:
            self.trace.write(f"{PHASES[self.phases[-1]]} {self.steps}\n")
        if isinstance(self.kill, list):
            self.here += [PHASES[self.phases[-1]], self.steps] == self.kill[:2]
        here = PHASES[self.phases[-1]], self.steps
        if self.kill in (self.ticks, [*here, self.here]):
            os.kill(os.getpid(), signal.SIGKILL)
        if self.pause == [*here]:
            self.pause = None
            os.kill(os.getpid(), signal.SIGSTOP)

    def audit(self, event: str, arguments: tuple) -> None:
        """Called by Python for each audit event."""
        opened = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if (opened or event in WRITES) and "/dev/" not in str(arguments[0]):
            self.tick()

    def watch(self, owner, name: str, phase: str) -> None:
        """Let every call of owner.name be a phase of its own."""
        inner = getattr(owner, name)

        def watched(*args, **options):
            self.phases.append(PHASES.index(phase))
            self.tick()
            try:
                return inner(*args, **options)
            finally:
                self.tick()
                self.phases.pop()
                self.show()

        setattr(owner, name, watched)


def work(request: dict) -> None:
    """Train as notebook 04 does, under a clock."""
    import resource

    import torch
    from transformers import Trainer

    from helpers import gpu, settings, tokenization, training
    from helpers.__main__ import main
    from helpers.durable import checkpoints, files
    from helpers.durable.checkpoints import CheckpointFolder, ResumableTrainer, TimedSaveCallback

    torch.set_num_threads(1)
    quick = gpu.median_seconds
    gpu.median_seconds = lambda work, seconds: quick(work, 0)
    gpu.threads.busy = lambda: 0.0
    names = ("model", "dataset", "epochs", "seed", "train_rows")
    environ = {f"LESSON_{name.upper()}": str(request[name]) for name in names if request.get(name)}
    environ |= {"LESSON_HOME": request["home"], "LESSON_EDITION": "pocket"}
    asked = settings.read(environ)
    gpu.measure_machine = lambda _: {"precision": request.get("precision", "fp32"), "device": "the test's"}
    if request.get("every") is not None:
        checkpoints.SAVE_EVERY, checkpoints.MAX_SAVE_SHARE = request["every"], math.inf
    if request.get("limit"):
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (request["limit"], resource.RLIM_INFINITY))
    clock = Clock(request)
    if request.get("memory"):
        begun = request.get("after", 0)
        small_memory(request["memory"], request.get("where", "forward"), lambda: clock.steps >= begun)
    for owner, name, phase in (
        (tokenization, "load_or_make", "preparing"), (gpu, "predict_seconds", "predicting"),
        (CheckpointFolder, "__init__", "looking"), (CheckpointFolder, "latest", "looking"),
        (Trainer, "_inner_training_loop", "training"), (files, "write_manifest", "sealing"),
        (ResumableTrainer, "_save_checkpoint", "rotating"), (Trainer, "_save_checkpoint", "saving"),
        (Trainer, "_evaluate", "evaluating"), (training, "best_model", "best"), (training, "save", "keeping"),
        (CheckpointFolder, "clear", "clearing"), (Trainer, "training_step", "training"),
    ):  # fmt: skip
        clock.watch(owner, name, phase)

    counted = TimedSaveCallback.on_step_end

    def on_step_end(self, args, state, control, **more):
        clock.steps = state.global_step
        clock.tick()
        if request.get("interrupt") == state.global_step:
            request["interrupt"] = None
            raise KeyboardInterrupt
        return counted(self, args, state, control, **more)

    TimedSaveCallback.on_step_end = on_step_end
    if request.get("again"):
        again(asked)
    sys.addaudithook(clock.audit)
    if request.get("call") == "command":
        os.environ |= environ
        assert main(["train"]) == 0
    else:
        model, *_ = getattr(training, request.get("call", "train"))(asked)
        Path(request["log"]).with_suffix(".model").write_text(digest(model.state_dict()))
    clock.phases = [PHASES.index("finished")]
    clock.show()


def digest(weights: dict) -> str:
    """Return what tells a model's weights from any other's."""
    total = hashlib.sha256()
    for name in sorted(weights):
        total.update(f"{name}\n".encode() + weights[name].cpu().numpy().tobytes())
    return total.hexdigest()


def again(asked) -> None:
    """Let a training that is interrupted be run again by the same trainer, as a notebook's cell is."""
    import transformers

    from helpers import gpu, training
    from helpers.durable.checkpoints import ResumableTrainer

    inner = ResumableTrainer.train

    def train(self, resume_from_checkpoint=None):
        try:
            return inner(self, resume_from_checkpoint)
        except KeyboardInterrupt:
            print("interrupted", flush=True)
            transformers.set_seed(asked.seed)
            return inner(self, training.checkpoint_folder(asked, gpu.choose_recipe(asked)).latest())

    ResumableTrainer.train = train


def small_memory(rows: int, where: str, begun) -> None:
    """Let a batch of more than `rows` rows raise what PyTorch raises when a GPU's memory is too small, once begun()."""
    import torch
    from transformers import DistilBertForSequenceClassification as Model

    inner, loss_of = Model.forward, torch.Tensor.backward
    seen = [0]

    @functools.wraps(inner)  # the Trainer reads its signature
    def forward(self, input_ids=None, **more):
        seen[0] = len(input_ids)
        if self.training and where == "forward" and len(input_ids) > rows and begun():
            raise torch.OutOfMemoryError("CUDA out of memory (simulated)")
        return inner(self, input_ids=input_ids, **more)

    def backward(self, *args, **options):
        loss_of(self, *args, **options)  # all gradients are there already when it fails
        if where == "backward" and seen[0] > rows and begun():
            raise torch.OutOfMemoryError("CUDA out of memory (simulated)")

    Model.forward, torch.Tensor.backward = forward, backward


if __name__ == "__main__":
    serve()
