"""Two trainings at once, on one LESSON_HOME: the second waits, says so, and uses what the first one made."""

import shutil
import signal

import pytest
from soak import outcome

WAITS = "Another notebook or command is making 'main-"
TRAINS = "training it now, as notebook 4 does"


def runs(home):
    """Return the trainings' folders below home, in order."""
    folder = home / "pocket" / "checkpoints"
    return sorted(path for path in folder.glob("main-*") if path.is_dir()) if folder.is_dir() else []


def go_on(child) -> None:
    """Let a child go on."""
    child.signal(signal.SIGCONT)


def paused(nursery, home, at, **what):
    """Start a training, and return it when it stands still at (phase, steps taken)."""
    child = nursery.start(home, pause=at, **what)
    assert child.until(lambda: stands_still(child))
    return child


def stands_still(child) -> bool:
    """Whether a child has been stopped."""
    return open(f"/proc/{child.pid}/stat").read().rpartition(")")[2].split()[0] == "T"


@pytest.fixture(params=["nothing", "prepared"])
def home(calm, tmp_path, request):
    """Return a home with nothing in it, or with data and tokens."""
    if request.param == "prepared":
        shutil.copytree(calm.prepared, tmp_path / "home")
    return tmp_path / "home"


@pytest.fixture
def prepared(calm, tmp_path):
    """Return a home with data and tokens."""
    return shutil.copytree(calm.prepared, tmp_path / "home")


def test_two_notebooks_04_at_once_take_turns(nursery, calm, home):
    first = paused(nursery, home, ("training", 3), **calm.what["fp32"])
    second = nursery.start(home, **calm.what["fp32"])
    assert second.until(lambda: WAITS in second.said()), "it says so"
    assert second.phase == "looking" and len(runs(home)) == 1
    go_on(first)
    assert (first.wait(), second.wait()) == (0, 0), first.said() + second.said()
    assert first.returned() == second.returned() == outcome(home)["weights"]
    assert outcome(home) == calm.wanted["fp32"] and runs(home) == []
    assert "Continuing" not in first.said() + second.said()


def test_notebook_05_waits_for_notebook_04_and_loads_its_model(nursery, calm, prepared):
    first = paused(nursery, prepared, ("training", 3), **calm.what["fp32"])
    second = nursery.start(prepared, call="load_or_train", **calm.what["fp32"])
    assert second.until(lambda: WAITS in second.said())
    go_on(first)
    assert (first.wait(), second.wait()) == (0, 0), first.said() + second.said()
    assert TRAINS not in second.said() and second.slots[2] == 0, "it took no step of its own"
    assert second.returned() == outcome(prepared)["weights"] and outcome(prepared) == calm.wanted["fp32"]
    assert runs(prepared) == []


@pytest.mark.parametrize("call", ["train", "load_or_train"])
def test_the_one_that_waits_continues_the_work_of_a_dead_one(nursery, calm, prepared, call):
    first = paused(nursery, prepared, ("training", 3), **calm.what["fp32"])  # taken, not saved
    second = nursery.start(prepared, call=call, **calm.what["fp32"])
    assert second.until(lambda: WAITS in second.said())
    first.kill()
    assert second.wait() == 0 and "Continuing after step 2 of 10" in second.said(), second.said()
    assert second.returned() == outcome(prepared)["weights"] and outcome(prepared) == calm.wanted["fp32"]
    assert runs(prepared) == []


def test_of_eight_at_once_one_trains(nursery, calm, prepared):
    children = [nursery.start(prepared, call="load_or_train", **calm.what["fp32"]) for _ in range(8)]
    assert [child.wait(120) for child in children] == [0] * 8
    assert sum(TRAINS in child.said() for child in children) == 1
    assert {child.returned() for child in children} == {outcome(prepared)["weights"]}
    assert outcome(prepared) == calm.wanted["fp32"] and runs(prepared) == []


@pytest.mark.parametrize("at", [("training", 3), ("keeping", 10), ("clearing", 10)])
def test_each_gets_the_model_of_its_own_settings(nursery, calm, prepared, at):
    """Two seeds at once on one home: whoever comes last leaves its model there, and nobody takes the other's."""
    alone = nursery.train(shutil.copytree(prepared, prepared.with_name("alone")), **calm.what["fp32"] | {"seed": 7})
    first = paused(nursery, prepared, at, call="load_or_train", **calm.what["fp32"])
    second = nursery.start(prepared, call="load_or_train", **calm.what["fp32"] | {"seed": 7})
    assert second.wait() == 0, second.said()
    go_on(first)
    assert first.wait() == 0, first.said()
    assert first.returned() == calm.wanted["fp32"]["weights"]
    assert second.returned() == alone.returned() != first.returned()
    assert outcome(prepared)["weights"] in (first.returned(), second.returned()) and runs(prepared) == []


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
