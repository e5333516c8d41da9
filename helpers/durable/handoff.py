"""What one notebook leaves for the next: a folder that is whole or absent, and belongs to the settings that made it."""

import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from helpers.durable import files


def load_or_make(folder: Path, fingerprint: dict, make: Callable, load: Callable, told: str = ""):
    """Return load(folder) of what was made under this fingerprint; make it first where it is not there, or not whole.

    Two processes never make it at once, and what is loaded is what was checked: both happen under one lock.

    Args:
        folder: where it lies.
        fingerprint: what it depends on; anything that JSON can hold. Made under another one, it is made again.
        make: called with an empty folder that it fills.
        load: called with a whole folder, returns its content.
        told: printed before it is made.

    Raises:
        LessonError: the disk is full, or the place cannot be written; and whatever make and load raise.
    """
    with files.locked(folder):
        whole = find(folder, fingerprint)
        if whole is None:
            if told:
                print(told, flush=True)
            whole = _replace(folder, fingerprint, make)
        return load(whole)


def save(folder: Path, fingerprint: dict, make: Callable) -> Path:
    """Let make fill an empty folder, and put it in the place of `folder`, whole or not at all. Returns where it lies.

    Raises:
        LessonError: the disk is full, or the place cannot be written. What was there before is whole then.
    """
    with files.locked(folder):
        return _replace(folder, fingerprint, make)


def load(folder: Path, fingerprint: dict, read: Callable):
    """Return read(folder) of what was made under this fingerprint, or None where it is not there, or not whole."""
    with files.locked(folder):
        whole = find(folder, fingerprint)
        return None if whole is None else read(whole)


def write_card(folder: Path, fingerprint: dict, text: str) -> None:
    """Write the words about what was made under this fingerprint anew, where it is there and whole."""
    with files.locked(folder):
        whole = find(folder, fingerprint)
        if whole:
            files.write_text(whole / files.CARD, text)


def cached_json(folder: Path, fingerprint: dict, measure: Callable, believable: Callable = lambda value: True):
    """Return what measure() returned under this fingerprint; measure where that is not known, or not believable."""
    with files.locked(folder):
        whole = find(folder, fingerprint)
        value = files.read_json(whole / "value.json") if whole else None
        if value is None or not believable(value):
            value = measure()
            _replace(folder, fingerprint, lambda aside: files.write_json(aside / "value.json", value))
        return value


def find(folder: Path, fingerprint: dict) -> Path | None:
    """Return the newest whole folder that was made under this fingerprint, or None. The caller holds the lock."""
    wanted = json.loads(json.dumps(fingerprint))
    found = []
    for path in _places(folder):
        manifest = files.read_json(path / files.MANIFEST)
        if isinstance(manifest, dict) and manifest.get("fingerprint") == wanted and files.find_damage(path) is None:
            found.append((manifest.get("made", 0), path))
    return max(found)[1] if found else None


def _places(folder: Path) -> list[Path]:
    """Return where a whole one may lie.

    That is the folder itself; NAME-2, NAME-3, ... that took its place while it could not be moved; and .NAME-..., left
    by a process that was killed between moving the old one away and the new one in.
    """
    beside = [path for path in folder.parent.glob(f"{folder.name}-*") if path.name[len(folder.name) + 1 :].isdecimal()]
    return [folder, *sorted(beside), *_leftovers(folder)]


def _leftovers(folder: Path) -> list[Path]:
    """Return what killed processes left while they replaced the folder. The caller holds the lock: nobody is at it."""
    return [path for path in folder.parent.glob(f".{folder.name}-*") if path.is_dir()]


def _replace(folder: Path, fingerprint: dict, make: Callable) -> Path:
    """Fill a folder aside, declare it whole, and move it to its place. The caller holds the lock.

    A process that is killed in between leaves what was there before, or what it has made. Where the old folder cannot
    be moved (Windows lets no folder go of which a program has a file open), the new one takes the next free name
    beside it.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    for left in _leftovers(folder):
        if files.find_damage(left):
            shutil.rmtree(left, ignore_errors=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    old = aside.with_name(f"{aside.name}-old")
    try:
        with files.room_for(folder.name, folder.parent, "What was there before is whole."):
            os.chmod(aside, 0o755)
            make(aside)
            files.write_manifest(aside, {"fingerprint": fingerprint, "made": time.time()})
        place = folder
        if folder.exists():
            try:
                os.replace(folder, old)
            except OSError:
                place = next(p for n in range(2, 1000) if not (p := folder.with_name(f"{folder.name}-{n}")).exists())
        os.replace(aside, place)
    finally:
        if old.exists() and not folder.exists():
            os.replace(old, folder)  # the new one did not get there: what was there before comes back
        shutil.rmtree(aside, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
    for left in _leftovers(folder):
        shutil.rmtree(left, ignore_errors=True)
    for other in _places(folder):
        if other != place:
            files.remove_folder(other)
    return place
