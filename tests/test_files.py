"""Files: complete or absent, whatever happens while they are written."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from support import ROOT

from helpers.durable import files
from helpers.durable.errors import LessonError
from helpers.durable.files import fingerprint_folder, lock, read_json, remove_folder, write_json, write_text

TEXT = "old words " * 20_000
WRITE_FOR_EVER = """
import sys
from pathlib import Path
from helpers.durable.files import write_text
path, number = Path(sys.argv[1]), 0
while True:
    write_text(path, f"{number} " * 200_000)
    number += 1
    print(number, flush=True)
"""


def test_what_a_killed_write_leaves_does_not_stay(tmp_path):
    """Killed at any moment: the text is whole, and the next write leaves one file alone, however many kills before."""
    path = tmp_path / "text"
    write_text(path, TEXT)
    for kill in range(6):
        command = [sys.executable, "-c", WRITE_FOR_EVER, str(path)]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        for _ in range(kill + 1):
            child.stdout.readline()
        child.kill()
        child.communicate(timeout=60)
        text = path.read_text()
        assert text == text.split()[0].join(["", " "]) * 200_000, "whole"
        assert len(list(tmp_path.iterdir())) <= 2
    write_text(path, "new")
    assert [p.name for p in tmp_path.iterdir()] == ["text"] and path.read_text() == "new"


def test_a_write_cut_in_the_middle_leaves_the_old_text_and_does_not_stay(tmp_path, monkeypatch):
    write_text(tmp_path / "text", "old")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: os.kill(os.getpid(), signal.SIGKILL))
        if hasattr(os, "fork"):
            child = os.fork()
            if child == 0:
                write_text(tmp_path / "text", "new")
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
            assert len(list(tmp_path.iterdir())) == 2, "it left what it had begun"
    assert (tmp_path / "text").read_text() == "old"
    write_text(tmp_path / "text", "newer")
    assert [p.name for p in tmp_path.iterdir()] == ["text"]


def test_a_folder_is_removed_whole_or_not_at_all(tmp_path, monkeypatch):
    (tmp_path / "made" / "inside").mkdir(parents=True)
    (tmp_path / "made" / "inside" / "text").write_text("x")
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(PermissionError(13, "in use")))
        remove_folder(tmp_path / "made")
    assert (tmp_path / "made" / "inside" / "text").exists()
    remove_folder(tmp_path / "made")
    remove_folder(tmp_path / "made")  # nothing to do
    assert list(tmp_path.iterdir()) == []


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
    kind = "spawn" if sys.platform == "win32" else "fork"
    writer = multiprocessing.get_context(kind).Process(target=write_again_and_again, args=(path, "b"))
    writer.start()
    seen = set()
    while writer.is_alive():
        text = path.read_text()
        seen.add((text[0], len(text), len(set(text))))
    writer.join()
    assert writer.exitcode == 0
    assert {(length, letters) for _, length, letters in seen} <= {(200_000, 1)}
    assert [p.name for p in tmp_path.iterdir()] == ["text"]


def test_write_text_leaves_the_old_text_when_it_fails(tmp_path):
    write_text(tmp_path / "text", "old")
    with pytest.raises(UnicodeEncodeError):
        write_text(tmp_path / "text", "new \ud800")
    assert (tmp_path / "text").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["text"]


@hypothesis_settings(max_examples=30, deadline=None)  # each is flushed to the disk
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


def test_a_folders_fingerprint_changes_with_names_content_and_place(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "a").write_text("one")
    seen = [fingerprint_folder(tmp_path)]
    assert fingerprint_folder(tmp_path) == seen[0] and len(seen[0]) == 16
    changes = (
        lambda: (tmp_path / "a").write_text("two"),
        lambda: (tmp_path / "a").rename(tmp_path / "b"),
        lambda: (tmp_path / "b").rename(tmp_path / "in" / "b"),
        lambda: (tmp_path / "empty").touch(),
        lambda: (tmp_path / "empty").unlink() or (tmp_path / "in" / "b").write_text("three"),
    )
    for change in changes:
        change()
        seen.append(fingerprint_folder(tmp_path))
    assert len(set(seen)) == len(seen)


def test_a_lesson_error_is_shown_in_one_line():
    assert LessonError("Do this.")._render_traceback_() == ["LessonError: Do this."]
