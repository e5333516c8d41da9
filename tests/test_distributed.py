"""The commands: `helpers train` by one process and by two, and by two that are killed and run again.

Two processes share the work of one: the same steps, nearly the same result, every file written once and whole.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from safetensors.torch import load_file
from support import ROOT, clean_environ, make_settings, tiny_data, tiny_model

from helpers.durable import files, handoff
from helpers.durable.checkpoints import list_checkpoints
from helpers.durable.files import MANIFEST, read_json

# Two processes draw other dropout masks than one, and sum their gradients in another order: from the first step on the
# weights differ a little, and in the end so may some answers.
TOLERANCE = 0.05
ROWS, EPOCHS, BATCH, VALIDATION, TEST = 960, 3, 32, 40, 50
ONE = ("-m", "helpers", "train")
TWO = ("-m", "accelerate.commands.launch", "--config_file", "tests/two_cpu_processes.yaml", "-m", "helpers", "train")
COMMANDS = {"one": ONE, "two": TWO}
TRAINS = "training it now"


@dataclass
class Done:
    """What a command left, and what it printed."""

    home: Path
    said: str

    @property
    def results(self) -> dict:
        """What stands in results.json."""
        return read_json(self.home / "results.json")

    @property
    def summary(self) -> dict:
        """What the training left beside its model."""
        return read_json(self.home / "model" / "training.json")

    def weights(self) -> dict:
        """Return the kept model's weights."""
        return load_file(self.home / "model" / "model.safetensors")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder with a tiny model and tiny data."""
    folder = tmp_path_factory.mktemp("commands")
    tiny_model(folder / "tiny")
    tiny_data(folder / "data", train=ROWS)
    return folder


@contextlib.contextmanager
def started(folder, name: str, command: tuple):
    """Start a command that works below `folder / name`; yield the process, its home, and the file of what it prints."""
    values = {"LESSON_EDITION": "pocket", "LESSON_EPOCHS": EPOCHS, "OMP_NUM_THREADS": 1}
    values |= {"LESSON_MODEL": folder / "tiny", "LESSON_DATASET": folder / "data"}
    home, log = folder / name / "lesson_home" / "pocket", folder / f"{name}.log"
    home.mkdir(parents=True, exist_ok=True)
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, *command], stdout=file, stderr=subprocess.STDOUT, cwd=ROOT, text=True,
            env=clean_environ(folder / name, **values),
        )  # fmt: skip
        try:
            yield process, home, log
        finally:
            end(process)


def family(pid: int) -> list[int]:
    """Return the ids of a process and of all that it has started (a launcher's workers are in groups of their own)."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
    members = [pid]
    for member in members:
        members += [child for child, parent in parents.items() if parent == member]
    return members


def end(process) -> None:
    """Kill a command and all that it has started, if it still runs."""
    if process.poll() is None:
        for member in family(process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(member, signal.SIGKILL)
    process.wait()


def until(true, seconds: float = 200) -> None:
    """Wait until true(). Raises TimeoutError."""
    limit = time.monotonic() + seconds
    while not true():
        if time.monotonic() > limit:
            raise TimeoutError(f"{seconds} s have passed")
        time.sleep(0.002)


def finish(started_command) -> Done:
    """Wait for a command's end."""
    process, home, log = started_command
    status = process.wait(timeout=300)
    assert status == 0, log.read_text()[-3000:]
    return Done(home, log.read_text())


def undisturbed(folder, name: str) -> Done:
    """Run a command to its end."""
    with started(folder, f"{name}-calm", COMMANDS[name]) as command:
        return finish(command)


def disturbed(folder, name: str) -> Done:
    """Kill a command when a checkpoint is whole; run it again, while another process holds its checkpoints' folder."""
    with started(folder, f"{name}-killed", COMMANDS[name]) as (process, home, log):
        until(lambda: list(home.glob(f"checkpoints/main-*/checkpoint-*/{MANIFEST}")) or process.poll() is not None)
        end(process)
    assert not (home / "model").exists(), "it was killed before its end: " + log.read_text()[-3000:]
    (run_folder,) = [path for path in (home / "checkpoints").glob("main-*") if path.is_dir()]
    assert list_checkpoints(run_folder)
    with files.locked(run_folder), started(folder, f"{name}-killed", COMMANDS[name]) as (process, home, log):
        until(lambda: "Another notebook or command is making" in log.read_text() or process.poll() is not None)
        held = files.lock(run_folder)
        held.release()
        try:
            return finish((process, home, log))
        finally:
            held.acquire()


@pytest.fixture(scope="module")
def commands(folder):
    """Run both commands undisturbed, and that of two processes killed and run again. Returns all three by name."""
    with ThreadPoolExecutor(2) as pool:
        one, two = (pool.submit(undisturbed, folder, name) for name in COMMANDS)
        killed = pool.submit(disturbed, folder, "two")
        return {"one": one.result(), "two": two.result(), "killed": killed.result()}


def test_two_killed_processes_wait_for_another_one_and_continue(commands):
    calm, killed = commands["two"], commands["killed"]
    assert killed.said.count("Another notebook or command is making 'main-") == 1
    assert killed.said.count("Continuing after step") == 1 and "from checkpoint-" in killed.said
    ours, theirs = killed.weights(), calm.weights()
    assert all(ours[name].equal(theirs[name]) for name in theirs)
    for what in ("accuracy", "validation_accuracy_by_epoch", "f1", "mcnemar_p"):
        assert killed.results[what] == calm.results[what]


def test_one_and_two_processes_take_the_same_steps(commands):
    for done in commands.values():
        assert done.summary["steps"] == EPOCHS * -(-ROWS // BATCH)
        assert len(done.summary["validation_accuracy_by_epoch"]) == EPOCHS


def test_one_and_two_processes_come_to_nearly_the_same_result(commands):
    one, two = commands["one"].results, commands["two"].results
    assert one["rows"] == two["rows"] == {"train": ROWS, "validation": VALIDATION, "test": TEST}
    assert abs(one["accuracy"] - two["accuracy"]) <= TOLERANCE
    pairs = zip(one["validation_accuracy_by_epoch"], two["validation_accuracy_by_epoch"], strict=True)
    assert all(abs(ours - theirs) <= TOLERANCE for ours, theirs in pairs)
    assert one["tfidf_accuracy"] == two["tfidf_accuracy"] and one["precision"] == two["precision"]


def test_accuracies_are_counted_over_every_row_once(commands):
    for done in commands.values():
        for share, rows in (
            (done.results["accuracy"], TEST),
            (done.results["validation_accuracy_by_epoch"][0], VALIDATION),
        ):
            assert share * rows == pytest.approx(round(share * rows), abs=1e-6)


def test_all_leave_complete_files_and_nothing_else(commands, folder, tmp_path):
    settings = make_settings(tmp_path, epochs=EPOCHS, model=folder / "tiny", dataset=folder / "data")
    for done in commands.values():
        for stage in ("data", "tokenized", "model"):
            assert handoff.find(done.home / stage, settings.fingerprint(stage)) == done.home / stage
        left = {path.name for path in done.home.iterdir() if path.suffix != ".lock"}
        assert left == {
            "data", "tokenized", "model", "cache", "machine", "prediction", "results.json", "checkpoints", "version.txt"
        }  # fmt: skip
        assert [path for path in (done.home / "checkpoints").iterdir() if path.suffix != ".lock"] == []


def test_results_are_printed_once(commands):
    for done in commands.values():
        assert done.said.count("Edition: pocket") == done.said.count("McNemar p") == 1
        assert done.said.count(TRAINS) == 1


def test_two_processes_load_a_whole_model_and_train_nothing(commands, folder):
    before = commands["two"].results["accuracy"]
    with started(folder, "two-calm", TWO) as command:
        again = finish(command)
    assert TRAINS not in again.said and "Continuing" not in again.said
    assert again.results["accuracy"] == before
