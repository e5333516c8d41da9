"""A training that is killed at any moment, and run again, ends with the very same model."""

import shutil
import signal

import pytest
from soak import EPOCHS, ROWS, SOAK, outcome, soak

KILLS, SEED = 24, 4
HALF = 5  # steps in an epoch


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


MOMENTS = [
    ("training", 2, False, 1, "fp32"),  # the middle of epoch 1: a step is done, nothing of it saved
    ("training", 2, True, 2, "fp32"),  # the next one is computed, but not taken yet
    ("saving", 3, True, 2, "bf16"),
    ("evaluating", HALF, False, HALF - 1, "fp32"),  # all steps of epoch 1 done; not yet measured
    ("evaluating", HALF, True, HALF - 1, "fp32"),
    ("sealing", HALF, True, HALF, "fp32"),  # the checkpoint of the epoch is whole, the old ones are still there
    ("rotating", HALF, True, HALF, "fp32"),
    ("training", HALF + 3, False, HALF + 2, "bf16"),  # the middle of epoch 2
    ("evaluating", 2 * HALF, True, 2 * HALF - 1, "fp32"),
    ("best", 2 * HALF, False, 2 * HALF, "fp32"),
    ("keeping", 2 * HALF, True, 2 * HALF, "fp32"),
]
if SOAK:
    MOMENTS += [(*moment, {"fp32": "bf16", "bf16": "fp32"}[precision]) for *moment, precision in MOMENTS]


@pytest.mark.parametrize(("phase", "steps", "last", "goes_on_after", "precision"), MOMENTS)
def test_killed_here_it_continues_there(nursery, calm, tmp_path, phase, steps, last, goes_on_after, precision):
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
    assert child.status == 2 and "LessonError (trainer-has-begun)" in child.said()
    assert "Traceback" not in child.said()
    child = nursery.train(home, **calm.what["fp32"])
    assert child.status == 0 and outcome(home) == calm.wanted["fp32"]


def test_the_courses_own_clock_saves_once_an_epoch_when_epochs_are_short(nursery, calm, tmp_path):
    home = shutil.copytree(calm.prepared, tmp_path / "home")
    what = calm.what["fp32"] | {"every": None}
    assert nursery.train(home, kill=("training", HALF + 2, 1), **what).status == -signal.SIGKILL
    assert nursery.train(home, **what).said().count(f"Continuing after step {HALF} of") == 1
    assert outcome(home) == calm.wanted["fp32"]


def test_the_command_is_killed_and_run_again(nursery, calm, tmp_path):
    home = shutil.copytree(calm.prepared, tmp_path / "home")
    child = nursery.train(home, call="command", kill=("training", HALF + 2, 1), **calm.what["fp32"])
    assert child.status == -signal.SIGKILL and not (home / "pocket" / "model").exists()
    child = nursery.train(home, call="command", **calm.what["fp32"])
    assert child.status == 0 and child.said().count("Continuing after step 6 of 10") == 1, child.said()
    assert outcome(home) == calm.wanted["fp32"]
    assert child.said().count("McNemar p") == 1 and (home / "pocket" / "results.json").exists()
