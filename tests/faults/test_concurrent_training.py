"""Two trainings at once, with the same settings, on one LESSON_HOME."""

import shutil
import signal

import pytest
from soak import outcome

from helpers import checkpoints


def runs(home):
    """Return the runs' folders below home, in order."""
    folder = home / "pocket" / "checkpoints"
    return sorted(path for path in folder.glob("main-*") if path.is_dir()) if folder.is_dir() else []


def go_on(child) -> None:
    """Let a child go on."""
    child.signal(signal.SIGCONT)


@pytest.mark.parametrize("start", ["nothing", "prepared"])
def test_two_at_once_both_finish_with_the_same_model(nursery, calm, tmp_path, start):
    home = tmp_path / "home"
    if start == "prepared":
        shutil.copytree(calm.prepared, home)
    first = nursery.start(home, stop=3, **calm.what["fp32"])  # so that they certainly overlap
    second = nursery.start(home, **calm.what["fp32"])
    assert second.wait() == 0, second.said()
    assert first.until(lambda: first.slots[2] == 3)
    assert outcome(home) == calm.wanted["fp32"]
    (left,) = runs(home)
    assert checkpoints.saved(left), "the first one's checkpoints are still there"
    go_on(first)
    assert first.wait() == 0, first.said()
    assert outcome(home) == calm.wanted["fp32"] and runs(home) == []
    assert "Continuing" not in first.said() + second.said(), "neither uses the other's checkpoints"


def test_a_third_continues_the_work_of_a_dead_one(nursery, calm, tmp_path):
    home = shutil.copytree(calm.prepared, tmp_path / "home")
    first = nursery.start(home, stop=3, **calm.what["fp32"])
    assert first.until(lambda: first.slots[2] == 3)
    second = nursery.train(home, kill=calm.tick("training", 7, last=True), **calm.what["fp32"])
    assert second.status == -9 and len(runs(home)) == 2
    third = nursery.train(home, **calm.what["fp32"])
    assert third.status == 0 and "Continuing after step 7 of 10" in third.said()
    assert outcome(home) == calm.wanted["fp32"]
    go_on(first)
    assert first.wait() == 0 and "Continuing" not in first.said()
    assert outcome(home) == calm.wanted["fp32"] and runs(home) == []


def test_a_killed_one_whose_folder_is_not_the_first_is_continued(nursery, calm, tmp_path):
    """The first one finishes and clears away; the second one's work lies in a folder with a higher number."""
    home = shutil.copytree(calm.prepared, tmp_path / "home")
    first = nursery.start(home, stop=3, **calm.what["fp32"])
    assert first.until(lambda: first.slots[2] == 3)
    second = nursery.train(home, kill=calm.tick("training", 7, last=True), **calm.what["fp32"])
    assert second.status == -9
    go_on(first)
    assert first.wait() == 0
    third = nursery.train(home, **calm.what["fp32"])
    assert third.status == 0 and "Continuing after step 7 of 10" in third.said()
    assert outcome(home) == calm.wanted["fp32"] and runs(home) == []


def test_a_killed_holder_blocks_nobody(nursery, calm, tmp_path):
    """Killed while it holds the lock of the data and the other one waits for it."""
    first = nursery.start(tmp_path, **calm.what["fp32"])
    assert first.until(lambda: first.phase == "preparing" and (tmp_path / "pocket" / ".data.lock").exists())
    first.signal(signal.SIGSTOP)
    second = nursery.start(tmp_path, **calm.what["fp32"])
    assert second.until(lambda: second.phase == "preparing")
    first.kill()
    assert second.wait() == 0, second.said()
    assert outcome(tmp_path) == calm.wanted["fp32"]
