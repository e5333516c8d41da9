"""What one notebook leaves for the next: whole or absent, made once, and never another run's."""

import json
import multiprocessing
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from support import ROOT, make_settings, refused, run

from helpers import course
from helpers.durable import files, handoff
from helpers.durable.files import MANIFEST, find_damage, lock, read_json

ONE, TWO = {"stage": "data", "seed": 1, "pair": (1, 2)}, {"stage": "data", "seed": 2}
TEXT = "text that is long enough to be cut"
PROCESSES = 8
can_fork = pytest.mark.skipif(
    not hasattr(os, "fork"), reason="this system cannot fork: a kill at each step is not tried"
)


def maker(text: str):
    """Return a function that fills a folder with a text, and with another file in a folder inside."""

    def make(folder: Path) -> None:
        (folder / "text").write_text(text)
        (folder / "inside").mkdir()
        (folder / "inside" / "more").write_text(text[::-1])

    return make


def never(_):
    """A maker that must not be called."""
    raise AssertionError("made although it is there")


def read(folder: Path) -> str:
    """Return what `maker` has written, after a look at all of it."""
    text = (folder / "text").read_text()
    assert (folder / "inside" / "more").read_text() == text[::-1]
    return text


def beside(folder: Path) -> list[str]:
    """Return what lies in the same place, but for the lock."""
    return sorted(path.name for path in folder.parent.iterdir() if path.name != f".{folder.name}.lock")


@pytest.fixture
def made(tmp_path) -> Path:
    """Return a folder that was made under ONE."""
    return handoff.save(tmp_path / "made", ONE, maker(TEXT))


def test_it_is_made_once_and_told_once(tmp_path, capsys):
    place = tmp_path / "new" / "made"
    assert handoff.load_or_make(place, ONE, maker("one"), read, "making") == "one"
    assert capsys.readouterr().out == "making\n"
    assert handoff.load_or_make(place, ONE, never, read, "making") == handoff.load(place, ONE, read) == "one"
    assert capsys.readouterr().out == "" and beside(place) == ["made"]


def test_what_is_loaded_is_what_was_checked(made):
    """Loading happens under the lock: nobody can replace the folder between the look at it and the reading of it."""

    def load(folder):
        assert lock(folder).is_locked
        return read(folder)

    assert handoff.load_or_make(made, ONE, never, load) == handoff.load(made, ONE, load) == TEXT
    assert handoff.load_or_make(made, TWO, maker("two"), load) == "two"
    assert not lock(made).is_locked


@pytest.mark.parametrize("other", [ONE | {"seed": 2}, ONE | {"epochs": 2}, {"stage": "data"}, {}])
def test_another_fingerprint_makes_it_again(made, other):
    assert handoff.load(made, other, read) is None
    assert handoff.load_or_make(made, other, maker("other"), read) == "other"
    assert handoff.load(made, ONE, read) is None and beside(made) == ["made"]


@pytest.mark.parametrize("name", ["text", "inside/more"])
@pytest.mark.parametrize("harm", ["missing", "cut", "empty", "longer"])
def test_a_file_that_is_not_as_it_was_makes_it_again_although_the_manifest_is_there(made, name, harm):
    path = made / name
    if harm == "missing":
        path.unlink()
    else:
        path.write_text({"cut": TEXT[:5], "empty": "", "longer": TEXT + "!"}[harm])
    assert (made / MANIFEST).is_file() and name in find_damage(made)
    assert handoff.load(made, ONE, read) is None
    assert handoff.load_or_make(made, ONE, maker(TEXT), read) == TEXT


@pytest.mark.parametrize("content", [None, "", '{"files": {}', "null", "[]", "7", '{"files": 7}', "{}", "\udcff"])
def test_a_torn_or_missing_manifest_makes_it_again(made, content):
    if content is None:
        (made / MANIFEST).unlink()
    else:
        (made / MANIFEST).write_text(content, errors="surrogateescape")
    assert handoff.load(made, ONE, read) is None
    assert handoff.load_or_make(made, ONE, maker("again"), read) == "again"


def test_a_failing_maker_leaves_the_old_one_whole(made):
    def fail(folder):
        maker("two")(folder)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        handoff.load_or_make(made, TWO, fail, read)
    assert handoff.load(made, ONE, read) == TEXT and beside(made) == ["made"]


def test_a_failing_maker_leaves_nothing_where_nothing_was(tmp_path):
    with pytest.raises(AssertionError):
        handoff.save(tmp_path / "made", ONE, never)
    assert beside(tmp_path / "made") == []


def test_a_failing_load_is_told_and_frees_the_lock(made):
    def fail(folder):
        raise KeyError("x")

    with pytest.raises(KeyError):
        handoff.load_or_make(made, ONE, never, fail)
    assert not lock(made).is_locked and handoff.load(made, ONE, read) == TEXT


def test_a_made_folder_can_be_read_by_others(made):
    if os.name == "posix":
        assert made.stat().st_mode & 0o777 == 0o755
        assert (made / MANIFEST).stat().st_mode & 0o777 == 0o644
    assert read_json(made / MANIFEST)["fingerprint"] == json.loads(json.dumps(ONE))


KILLED_INSIDE = """
import sys, time
from pathlib import Path
from helpers.durable import handoff
def make(folder):
    (folder / "text").write_text("half")
    print("inside", flush=True)
    time.sleep(600)
handoff.save(Path(sys.argv[1]), {"seed": 2}, make)
"""


def test_a_killed_process_leaves_the_old_one_frees_the_lock_and_its_remains_are_cleaned(made):
    command = [sys.executable, "-c", KILLED_INSIDE, str(made)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert child.stdout.readline() == "inside\n"
    assert not try_lock(made), "the child holds the lock"
    child.kill()
    child.communicate(timeout=60)
    assert len(beside(made)) == 2, "it left something"
    assert handoff.load(made, ONE, read) == TEXT
    assert handoff.load_or_make(made, TWO, maker("two"), read) == "two"
    assert beside(made) == ["made"]


def try_lock(folder) -> bool:
    """Return whether the lock of folder is free."""
    from filelock import Timeout

    try:
        with lock(folder).acquire(timeout=0.2):
            return True
    except Timeout:
        return False


# Fork a child for each of its file system's events, and let it kill itself there; tell what is left each time.
KILL_EVERYWHERE = """
import json, os, shutil, signal, sys
from pathlib import Path
from helpers.durable import handoff
home, text = Path(sys.argv[1]), sys.argv[2]
place, watched = home / "made", ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.chmod")
def make(words):
    return lambda folder: (folder / "text").write_text(words)
def killed_at(number):
    child = os.fork()
    if child == 0:
        seen = 0
        def audit(event, arguments):
            nonlocal seen
            wanted = event in watched and str(home) in str(arguments[0]) and ".lock" not in str(arguments[0])
            seen += wanted
            if wanted and seen == number:
                os.kill(os.getpid(), signal.SIGKILL)
        sys.addaudithook(audit)
        handoff.save(place, {"seed": 2}, make("two"))
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
found, number, status = [], 0, -9
while status != 0:
    shutil.rmtree(home, ignore_errors=True)
    handoff.save(place, {"seed": 1}, make(text))
    number += 1
    status = killed_at(number)
    left = [handoff.load(place, {"seed": seed}, lambda folder: (folder / "text").read_text()) for seed in (1, 2)]
    after = handoff.load_or_make(place, {"seed": 3}, make("three"), lambda folder: (folder / "text").read_text())
    beside = sorted(path.name for path in home.iterdir() if not path.name.endswith(".lock"))
    found.append([status, left, after, beside])
print(json.dumps(found))
"""


@can_fork
def test_killed_at_any_step_it_leaves_the_old_one_or_the_new_one(tmp_path):
    done = run("-c", KILL_EVERYWHERE, tmp_path / "home", TEXT, cwd=ROOT, timeout=120)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert len(found) > 10 and found[-1][0] == 0 and {status for status, *_ in found[:-1]} == {-9}
    for number, (_, left, after, names) in enumerate(found, 1):
        assert left in ([TEXT, None], [None, "two"], [TEXT, "two"]), f"killed at event {number}"
        assert (after, names) == ("three", ["made"]), f"killed at event {number}"
    assert found[-1][1] == [None, "two"]


@contextmanager
def held_by_windows(folder, monkeypatch):
    """Refuse to move this folder, as Windows does while a program has a file of it open."""
    replace = os.replace

    def refuse(old, new):
        if Path(old) == folder:
            raise PermissionError(13, "The process cannot access the file because it is being used", str(old))
        return replace(old, new)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", refuse)
        yield


def may_mount() -> bool:
    """Return whether this process may mount a disk: as root on Linux, outside most containers."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return False
    return subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode == 0


@contextmanager
def mounted(folder, *options):
    """Mount an empty disk over a folder."""
    subprocess.run(["mount", "-t", "tmpfs", *options, "tmpfs", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@contextmanager
def held_by_a_mount(folder, monkeypatch):
    """Keep this folder where it is, for real: nobody can move a place where a disk is mounted."""
    if not may_mount():
        pytest.skip("to keep a folder in its place for real, one must be root and allowed to mount")
    with mounted(folder):
        yield


@pytest.mark.parametrize("held", [held_by_windows, held_by_a_mount])
def test_where_the_old_one_cannot_be_moved_the_new_one_takes_the_next_name(made, monkeypatch, held):
    with held(made, monkeypatch):
        for text, name in (("two", "made-2"), ("three", "made-2"), ("four", "made-2")):
            fingerprint = TWO | {"text": text}
            assert handoff.load_or_make(made, fingerprint, maker(text), read) == text
            assert handoff.load_or_make(made, fingerprint, never, read) == text, "found beside it"
            assert name in beside(made) or "made-3" in beside(made)
            assert len(beside(made)) == 2, "what is out of date goes as soon as it can"
    assert handoff.load_or_make(made, TWO | {"text": "four"}, never, read) == "four"
    assert handoff.load_or_make(made, ONE, never, read) == TEXT, "the one that could not be moved is still whole"
    assert handoff.load_or_make(made, TWO, maker("five"), read) == "five"
    assert beside(made) == ["made"]


def test_many_processes_make_it_once_and_read_the_same(tmp_path):
    context = multiprocessing.get_context("spawn" if sys.platform == "win32" else "fork")
    with context.Pool(PROCESSES) as pool:
        texts = pool.map(make_slowly, [tmp_path / "made"] * PROCESSES, chunksize=1)
    maker_id = (tmp_path / "made-by").read_text().strip()
    assert texts == [maker_id * 20] * PROCESSES, "one process made it, all of them read that"


def make_slowly(place: Path) -> str:
    """Make a folder of 20 files slowly, noting who makes it, unless it is there; return what is in it."""

    def make(folder: Path) -> None:
        with (place.parent / "made-by").open("a") as file:
            file.write(f"{os.getpid()}\n")
        for number in range(20):
            (folder / f"{number:02}").write_text(str(os.getpid()))
            time.sleep(0.005)

    def load(folder: Path) -> str:
        return "".join(path.read_text() for path in sorted(folder.iterdir()) if path.name != MANIFEST)

    return handoff.load_or_make(place, ONE, make, load)


WAITING = """
import sys, time
from pathlib import Path
from helpers.durable import files, handoff
files.PATIENCE = 0.1
print(handoff.load_or_make(Path(sys.argv[1]), {"seed": 1}, lambda folder: None, lambda folder: "loaded"), flush=True)
"""


def test_a_process_that_waits_for_another_says_so_and_then_goes_on(tmp_path):
    place = tmp_path / "made"
    with lock(place):
        command = [sys.executable, "-c", WAITING, str(place)]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        told = child.stdout.readline()
        assert "'made'" in told and "Waiting" in told and child.poll() is None
    assert child.communicate(timeout=60)[0] == "loaded\n" and child.returncode == 0


def test_a_short_wait_is_not_told(made, capsys, monkeypatch):
    monkeypatch.setattr(files, "PATIENCE", 5)
    handoff.load(made, ONE, read)
    assert capsys.readouterr().out == ""


def test_a_measurement_is_made_once(tmp_path):
    place, values = tmp_path / "machine", iter([{"speed": 1.5}, {"speed": 2.5}])
    assert handoff.cached_json(place, ONE, lambda: next(values)) == {"speed": 1.5}
    assert handoff.cached_json(place, ONE, lambda: next(values)) == {"speed": 1.5}
    assert handoff.cached_json(place, TWO, lambda: next(values)) == {"speed": 2.5}
    assert read_json(place / "value.json") == {"speed": 2.5}


def test_a_measurement_that_is_not_believed_is_made_again(tmp_path):
    place, values = tmp_path / "prediction", iter([{"busy": 0.9}, {"busy": 0.5}, {"busy": 0.1}])

    def ask() -> dict:
        return handoff.cached_json(place, ONE, lambda: next(values), believable=lambda known: known["busy"] < 0.25)

    assert [ask()["busy"] for _ in range(5)] == [0.9, 0.5, 0.1, 0.1, 0.1]


@pytest.mark.parametrize("content", ["", "{", "null"])
def test_a_torn_measurement_is_made_again(tmp_path, content):
    place = tmp_path / "machine"
    handoff.cached_json(place, ONE, lambda: {"speed": 1.5})
    (place / "value.json").write_text(content)
    assert handoff.cached_json(place, ONE, lambda: {"speed": 2.5}) == {"speed": 2.5}


@contextmanager
def a_file(folder):
    """Put a file where a folder should be."""
    folder.write_text("not a folder")
    yield folder


@contextmanager
def below_a_file(folder):
    """Put a file where a folder above should be."""
    folder.write_text("not a folder")
    yield folder / "below"


@contextmanager
def read_only(folder):
    """Make a folder that can only be read, for this user."""
    folder.mkdir()
    if os.name == "posix" and os.geteuid() != 0:
        folder.chmod(0o555)
        yield folder / "home"
        folder.chmod(0o755)
    elif may_mount():
        with mounted(folder, "-o", "ro"):
            yield folder / "home"
    else:
        pytest.skip("this user may write everywhere and may not mount a disk: no read-only folder can be made")


@contextmanager
def systems(_):
    """A place where the system itself lets nobody write."""
    if not Path("/proc/1").exists():
        pytest.skip("this system has no /proc")
    yield Path("/proc/lesson")


PLACES = [a_file, below_a_file, read_only, systems]
every_place = pytest.mark.parametrize("place", PLACES)


@every_place
def test_a_home_that_cannot_be_written_is_told(tmp_path, monkeypatch, place):
    with place(tmp_path / "place") as home:
        monkeypatch.setenv("LESSON_HOME", str(home))
        monkeypatch.setenv("LESSON_EDITION", "pocket")
        with refused("not-writable"):
            course.start()


@every_place
def test_a_handoff_into_a_place_that_cannot_be_written_is_told(tmp_path, place):
    with place(tmp_path / "place") as home:
        with refused("not-writable"):
            handoff.load_or_make(home / "made", ONE, never, read)
        with refused("not-writable"):
            handoff.load(home / "made", ONE, read)
        with refused("not-writable"):
            files.write_text(home / "text", "words")


def test_old_hand_offs_of_the_course_are_made_again(tmp_path):
    """A LESSON_HOME of an earlier version holds lesson.json, which says nothing about sizes."""
    settings = make_settings(tmp_path)
    old = settings.home / "data"
    old.mkdir(parents=True)
    files.write_json(old / "lesson.json", settings.fingerprint("data"))
    assert handoff.load(old, settings.fingerprint("data"), read) is None
    assert handoff.load_or_make(old, settings.fingerprint("data"), maker("new"), read) == "new"
