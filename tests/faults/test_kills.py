"""A training that is killed at any moment, and run again, ends with the very same model."""

import contextlib
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from soak import EPOCHS, ROWS, outcome, soak
from support import ROOT, clean_environ, run, tiny_data, tiny_model

from helpers.checkpoints import MANIFEST
from helpers.files import read_json, write_json

KILLS, SEED = 24, 4
HALF = 5  # steps in an epoch
TWO = ("-m", "accelerate.commands.launch", "--config_file", "tests/two_cpu_processes.yaml", "-m", "helpers", "train")
ONE = ("-m", "helpers", "train")


def test_the_undisturbed_training_is_what_the_kills_need(calm):
    assert calm.wanted["fp32"]["steps"] == EPOCHS * HALF == EPOCHS * -(-ROWS // 32)
    assert calm.wanted["fp32"]["weights"] != calm.wanted["bf16"]["weights"]
    assert [ready["precision"] for ready in calm.wanted.values()] == ["fp32", "bf16"]
    phases = {phase for phase, _ in calm.ticks["nothing"]}
    assert phases >= {"preparing", "looking", "training", "saving", "sealing", "rotating", "keeping", "clearing"}


def test_kills_at_random_moments_lose_nothing(nursery, calm, capsys):
    said = []
    count = soak(nursery, calm, KILLS, SEED, said.append)
    with capsys.disabled():
        print(f"\n{count}")
    assert (count.lost, count.differing, count.hung) == (0, 0, 0), "\n".join(said)
    assert count.total() >= KILLS and len(count.kills) >= 5 and count.resumed > 5 and count.skipped > 0
    assert max(count.steps_lost) <= 1, "a checkpoint was saved after each step"


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(
    ("phase", "steps", "last", "goes_on_after"),
    [
        ("training", 2, False, 1),  # the middle of epoch 1: a step is done, nothing of it saved
        ("training", 2, True, 2),  # the next one is computed, but not taken yet
        ("saving", 3, True, 2),
        ("evaluating", HALF, False, HALF - 1),  # all steps of epoch 1 done; not yet measured
        ("evaluating", HALF, True, HALF - 1),
        ("sealing", HALF, True, HALF),  # the checkpoint of the epoch is whole, the old ones are still there
        ("rotating", HALF, True, HALF),
        ("training", HALF + 3, False, HALF + 2),  # the middle of epoch 2
        ("evaluating", 2 * HALF, True, 2 * HALF - 1),
        ("best", 2 * HALF, False, 2 * HALF),
        ("keeping", 2 * HALF, True, 2 * HALF),
    ],
)
def test_killed_here_it_continues_there(nursery, calm, tmp_path, precision, phase, steps, last, goes_on_after):
    home = shutil.copytree(calm.prepared, tmp_path / "home")
    child = nursery.train(home, kill=calm.tick(phase, steps, last), **calm.what[precision])
    assert (child.status, child.phase, child.slots[2]) == (-signal.SIGKILL, phase, steps)
    child = nursery.train(home, **calm.what[precision])
    assert child.status == 0, child.said()
    assert f"Continuing after step {goes_on_after} of {2 * HALF}, from checkpoint-{goes_on_after}." in child.said()
    assert outcome(home) == calm.wanted[precision]
    assert not [path for path in (home / "pocket" / "checkpoints").iterdir() if path.is_dir()]


@pytest.mark.parametrize("steps", [3, HALF, HALF + 2])
def test_the_stop_button_and_the_same_cell_again(nursery, calm, tmp_path, steps):
    home = shutil.copytree(calm.prepared, tmp_path / "home")
    child = nursery.train(home, interrupt=steps, again=True, **calm.what["fp32"])
    assert child.status == 0 and "interrupted\n" in child.said() and "Continuing after step" in child.said()
    assert outcome(home) == calm.wanted["fp32"]


def test_the_stop_button_before_the_first_checkpoint(nursery, calm, tmp_path):
    home = shutil.copytree(calm.prepared, tmp_path / "home")
    child = nursery.train(home, interrupt=2, again=True, **calm.what["fp32"] | {"every": 1000})
    assert child.status == 2 and "LessonError: This trainer has already begun" in child.said()
    assert "Traceback" not in child.said()
    child = nursery.train(home, **calm.what["fp32"])
    assert child.status == 0 and outcome(home) == calm.wanted["fp32"]


def test_the_courses_own_clock_saves_once_an_epoch_when_epochs_are_short(nursery, calm, tmp_path):
    home = shutil.copytree(calm.prepared, tmp_path / "home")
    what = calm.what["fp32"] | {"every": None}
    assert nursery.train(home, kill=("training", HALF + 2, 1), **what).status == -signal.SIGKILL
    assert nursery.train(home, **what).said().count(f"Continuing after step {HALF} of") == 1
    assert outcome(home) == calm.wanted["fp32"]


@pytest.fixture(scope="module")
def commands(tmp_path_factory):
    """Run `python -m helpers train` and `accelerate launch -m helpers train`: undisturbed, and killed and run again.

    Returns {"one" or "two": (what the undisturbed one left, what the killed one left, what its second run printed)}.
    """
    folder = tmp_path_factory.mktemp("commands")
    source = tiny_model(folder / "tiny"), tiny_data(folder / "data", train=960)
    values = {"LESSON_EDITION": "pocket", "LESSON_EPOCHS": 4, "OMP_NUM_THREADS": 1}
    values |= dict(zip(("LESSON_MODEL", "LESSON_DATASET"), source, strict=True))
    machine = {"device": f"CPU ({platform.machine()}), 1 threads", "torch": torch.__version__, "threads": 1}

    def home(name: str):
        home = folder / name
        write_json(home / "lesson_home" / "pocket" / "machine.json", machine | {"precision": "fp32", "why": "a test"})
        return home, clean_environ(home, **values)

    def undisturbed(name: str, command: tuple):
        place, environ = home(f"{name}-calm")
        done = run(*command, cwd=ROOT, env=environ, timeout=200)
        assert done.returncode == 0, done.stderr[-3000:]
        return left(place)

    def disturbed(name: str, command: tuple):
        place, environ = home(f"{name}-killed")
        options = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": ROOT, "env": environ}
        with subprocess.Popen([sys.executable, *command], **options) as process:
            kill_after_a_checkpoint(process.pid, place / "lesson_home" / "pocket" / "checkpoints")
        assert not (place / "lesson_home" / "pocket" / "model").exists(), "it was killed before its end"
        again = run(*command, cwd=ROOT, env=environ, timeout=200)
        assert again.returncode == 0, again.stderr[-3000:]
        return left(place), again.stdout

    def left(place):
        results = read_json(place / "lesson_home" / "pocket" / "results.json")
        return outcome(place / "lesson_home") | {"accuracy": results["accuracy"]}

    found = {}
    for name, command in (("one", ONE), ("two", TWO)):
        with ThreadPoolExecutor(2) as pool:
            calm, killed = pool.submit(undisturbed, name, command), pool.submit(disturbed, name, command)
        found[name] = calm.result(), *killed.result()
    return found


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


def kill_after_a_checkpoint(pid: int, folder: Path) -> None:
    """Kill a command and all that it has started, as soon as a checkpoint is whole."""
    limit = time.monotonic() + 150
    while not list(folder.glob(f"main-*/checkpoint-*/{MANIFEST}")) and time.monotonic() < limit:
        time.sleep(0.002)
    for member in family(pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(member, signal.SIGKILL)


@pytest.mark.parametrize("name", ["one", "two"])
def test_the_command_continues_on_one_and_on_two_processes(commands, name):
    calm, killed, said = commands[name]
    assert said.count("Continuing after step") == 1 and "from checkpoint-" in said
    assert killed == calm and len(killed["development_accuracy_by_epoch"]) == 4
