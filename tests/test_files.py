"""Files: complete or absent, whatever happens while they are written."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import ROOT

from helpers import files
from helpers.files import (
    MARK,
    LessonError,
    digest,
    is_complete,
    lock,
    read_json,
    replace_folder,
    write_json,
    write_text,
)

IDENTITY = {"stage": "data", "seed": 1, "digests": ("a",)}
PROCESSES = 8
KILLED_INSIDE = """
import sys, time
from pathlib import Path
from helpers.files import lock, replace_folder
folder = Path(sys.argv[1])
with lock(folder), replace_folder(folder, {"seed": 2}) as aside:
    (aside / "part").write_text("half")
    print("inside", flush=True)
    time.sleep(600)
"""


def fill(folder, text: str, identity=IDENTITY) -> None:
    """Make a folder with one file in it."""
    with replace_folder(folder, identity) as aside:
        (aside / "text").write_text(text)


def test_replace_folder_makes_and_replaces(tmp_path):
    fill(tmp_path / "made", "one")
    fill(tmp_path / "made", "two")
    assert (tmp_path / "made" / "text").read_text() == "two"
    assert [path.name for path in tmp_path.iterdir()] == ["made"], "nothing else is left"


def test_replace_folder_leaves_the_old_folder_when_the_block_raises(tmp_path):
    fill(tmp_path / "made", "one")
    with pytest.raises(ZeroDivisionError), replace_folder(tmp_path / "made", {"seed": 2}) as aside:
        (aside / "text").write_text("two")
        raise ZeroDivisionError
    assert (tmp_path / "made" / "text").read_text() == "one"
    assert is_complete(tmp_path / "made", IDENTITY)
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


def test_replace_folder_leaves_nothing_when_the_first_block_raises(tmp_path):
    with pytest.raises(KeyError), replace_folder(tmp_path / "made", IDENTITY):
        raise KeyError
    assert list(tmp_path.iterdir()) == []


def test_a_made_folder_can_be_read_by_others(tmp_path):
    fill(tmp_path / "made", "one")
    assert (tmp_path / "made").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "made" / MARK).stat().st_mode & 0o777 == 0o644


def test_is_complete_only_under_the_same_identity(tmp_path):
    fill(tmp_path / "made", "one")
    assert is_complete(tmp_path / "made", IDENTITY)
    assert not is_complete(tmp_path / "made", IDENTITY | {"seed": 2})
    assert not is_complete(tmp_path / "made", IDENTITY | {"epochs": 2})


@pytest.mark.parametrize("content", ["", '{"stage": "da', "null", "[]", "\udcff"])
def test_a_torn_or_missing_mark_is_not_complete(tmp_path, content):
    assert not is_complete(tmp_path / "never", IDENTITY)
    fill(tmp_path / "made", "one")
    (tmp_path / "made" / MARK).write_text(content, errors="surrogateescape")
    assert not is_complete(tmp_path / "made", IDENTITY)
    (tmp_path / "made" / MARK).unlink()
    assert not is_complete(tmp_path / "made", IDENTITY)


def test_a_killed_process_leaves_the_old_folder_and_frees_the_lock(tmp_path):
    folder = tmp_path / "made"
    fill(folder, "one")
    command = [sys.executable, "-c", KILLED_INSIDE, str(folder)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert child.stdout.readline() == "inside\n"
    assert not try_lock(folder), "the child holds the lock"
    os.kill(child.pid, signal.SIGKILL)
    child.communicate(timeout=60)
    assert (folder / "text").read_text() == "one" and is_complete(folder, IDENTITY)
    with lock(folder).acquire(timeout=30):
        fill(folder, "three")
    assert (folder / "text").read_text() == "three"


def try_lock(folder) -> bool:
    """Return whether the lock of folder is free."""
    from filelock import Timeout

    try:
        with lock(folder).acquire(timeout=0.2):
            return True
    except Timeout:
        return False


def prepare(folder) -> str:
    """Do as the stages do: make the folder under its lock if it is not complete, then read it."""
    with lock(folder):
        if not is_complete(folder, IDENTITY):
            with (folder.parent / "made-by").open("a") as file:
                file.write(f"{os.getpid()}\n")
            with replace_folder(folder, IDENTITY) as aside:
                for number in range(20):
                    (aside / str(number)).write_text(str(os.getpid()))
                    time.sleep(0.005)
        return "".join(path.read_text() for path in sorted(folder.iterdir()) if path.name != MARK)


def test_many_processes_prepare_once_and_read_the_same(tmp_path):
    context = multiprocessing.get_context("spawn" if sys.platform == "win32" else "fork")
    with context.Pool(PROCESSES) as pool:
        read = pool.map(prepare, [tmp_path / "made"] * PROCESSES, chunksize=1)
    maker = (tmp_path / "made-by").read_text().strip()
    assert read == [maker * 20] * PROCESSES, "one process made it, all of them read that"


def write_again_and_again(path, letter: str) -> None:
    """Write one long line of the same letter many times."""
    for _ in range(60):
        write_text(path, letter * 200_000)


def test_a_holder_may_take_its_lock_again(tmp_path):
    with lock(tmp_path / "made"):
        with lock(tmp_path / "made").acquire(timeout=1):
            assert lock(tmp_path / "made").is_locked
        assert lock(tmp_path / "made").is_locked, "the outer one still holds"
    assert not lock(tmp_path / "made").is_locked


def test_the_lock_of_a_folder_on_drive_lies_on_the_machine(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "DRIVE", tmp_path / "drive")
    with lock(tmp_path / "drive" / "home" / "made") as held:
        assert not Path(held.lock_file).is_relative_to(tmp_path / "drive")
        assert lock(tmp_path / "drive" / "home" / "made").is_locked
        assert not lock(tmp_path / "drive" / "home" / "other").is_locked


def test_readers_never_see_a_part_of_a_text(tmp_path):
    path = tmp_path / "text"
    write_text(path, "a" * 200_000)
    writers = [multiprocessing.get_context("fork").Process(target=write_again_and_again, args=(path, w)) for w in "bc"]
    for writer in writers:
        writer.start()
    seen = set()
    while any(writer.is_alive() for writer in writers):
        text = path.read_text()
        seen.add((text[0], len(text), len(set(text))))
    for writer in writers:
        writer.join()
    assert {(length, letters) for _, length, letters in seen} <= {(200_000, 1)}
    assert [p.name for p in tmp_path.iterdir()] == ["text"]


def test_write_text_leaves_the_old_text_when_it_fails(tmp_path):
    write_text(tmp_path / "text", "old")
    with pytest.raises(UnicodeEncodeError):
        write_text(tmp_path / "text", "new \ud800")
    assert (tmp_path / "text").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["text"]


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(st.characters(codec="utf-8")), st.lists))
def test_json_comes_back_as_it_was(tmp_path_factory, value):
    path = tmp_path_factory.getbasetemp() / "value.json"
    write_json(path, value)
    assert read_json(path) == value == json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("content", [None, b"", b"{", b"\xff\xfe"])
def test_read_json_of_no_json_is_none(tmp_path, content):
    if content is not None:
        (tmp_path / "x.json").write_bytes(content)
    assert read_json(tmp_path / "x.json") is None


def test_digest_changes_with_names_content_and_place(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "a").write_text("one")
    seen = [digest(tmp_path)]
    assert digest(tmp_path) == seen[0] and len(seen[0]) == 16
    changes = (
        lambda: (tmp_path / "a").write_text("two"),
        lambda: (tmp_path / "a").rename(tmp_path / "b"),
        lambda: (tmp_path / "b").rename(tmp_path / "in" / "b"),
        lambda: (tmp_path / "empty").touch(),
        lambda: (tmp_path / "empty").unlink() or (tmp_path / "in" / "b").write_text("three"),
    )
    for change in changes:
        change()
        seen.append(digest(tmp_path))
    assert len(set(seen)) == len(seen)


def test_a_lesson_error_is_shown_in_one_line():
    assert LessonError("Do this.")._render_traceback_() == ["LessonError: Do this."]
