"""Files that are complete or absent: written in one step, locked while they are made, judged by what they hold."""

import errno
import hashlib
import json
import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from helpers.durable.drive import DRIVE
from helpers.durable.errors import LessonError

CARD = "README.md"  # words about a folder: they may be written anew, and do not count for its being whole
MANIFEST = "complete.json"  # inside a folder, written last: the size of each of its files, and what they belong to
PATIENCE = 2  # seconds that a lock may take before we say what we are waiting for


def show_path(path: Path) -> str:
    """Return path for people: without what leads to the current folder, to the one around it, or to the user's."""
    around = Path.cwd().parent
    if Path.home().is_relative_to(around):  # else it would tell whose home it is
        around = Path.cwd()
    for base, sign in ((Path.cwd(), ""), (around, ""), (Path.home(), "~/")):
        if base != Path(base.anchor) and path.is_relative_to(base):
            return sign + path.relative_to(base).as_posix()
    return path.as_posix()


def readable_path(name: str, text: str, base: Path | None = None) -> Path:
    """Return text as an absolute path (from `base`, default: here).

    Raises:
        LessonError: the system cannot read it as a path.
    """
    try:
        path = ((base or Path.cwd()) / Path(text).expanduser()).resolve()
        path.is_dir()
        return path
    except (OSError, ValueError, RuntimeError) as error:
        raise LessonError(
            f"{name} = {text!r} is no path ({error}). Give the path of a folder, or leave it out.", "no-path"
        ) from error


def write_text(path: Path, text: str) -> None:
    """Write text to path in one step: a reader sees the old file or the new one, never a part.

    Where several processes may write the same file, the caller holds its lock.

    Raises:
        LessonError: the disk is full, or the place cannot be written.
    """
    path = Path(path)
    with room_for(path.name, path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(f".{path.name}-new")  # always the same name: what a kill leaves is written over
        try:
            with aside.open("w", encoding="utf-8", newline="\n") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.replace(aside, path)
        finally:
            aside.unlink(missing_ok=True)  # what did not fit takes no room


def write_json(path: Path, value) -> None:
    """Write value as indented JSON, in one step."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path):
    """Return what a JSON file holds, or None when it is missing or no JSON."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def fingerprint_folder(folder: Path) -> str:
    """Return 16 hex digits that change whenever a file in folder changes.

    Raises:
        LessonError: a file in it cannot be read.
    """
    total = hashlib.sha256()
    try:
        for path in sorted(p for p in Path(folder).rglob("*") if p.is_file()):
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
            total.update(f"{path.relative_to(folder).as_posix()} {content}\n".encode())
    except OSError as error:
        raise LessonError(
            f"A file of {show_path(Path(folder))} cannot be read ({error}). Give yourself the right to read it, or "
            "choose another folder.",
            "file-unreadable",
        ) from error
    return total.hexdigest()[:16]


def write_manifest(folder: Path, facts: dict) -> None:
    """Declare a folder whole: note facts about it, and how large each of its files is (all are on the disk by then)."""
    sizes = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.name not in (MANIFEST, CARD)):
        with path.open("rb+") as file:
            os.fsync(file.fileno())
        sizes[path.relative_to(folder).as_posix()] = path.stat().st_size
    write_json(folder / MANIFEST, facts | {"files": sizes})


def find_damage(folder: Path) -> str | None:
    """Return what is wrong with a folder that `write_manifest` declared whole, in words, or None."""
    manifest = read_json(folder / MANIFEST)
    if not isinstance(manifest, dict) or not isinstance(manifest.get("files"), dict):
        return "saving it was interrupted"
    for name, size in manifest["files"].items():
        found = (folder / name).stat().st_size if (folder / name).is_file() else None
        if found != size:
            return f"{name} is " + ("missing" if found is None else "empty" if found == 0 else "cut short or changed")
    return None


def remove_folder(folder: Path) -> None:
    """Remove a folder whole, or not at all: where it cannot be moved (Windows, and a program uses it), it stays."""
    aside = folder.with_name(f".{folder.name}-gone")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        os.replace(folder, aside)
    except OSError:
        return
    shutil.rmtree(aside, ignore_errors=True)


def lock(folder: Path) -> FileLock:
    """Return the lock of whoever makes folder. The operating system lets it go when its holder dies.

    A process that holds it may take it again. For a folder on Google Drive, which has no locks, it lies on the machine
    itself: one machine at a time has that Drive.
    """
    folder = Path(folder)
    path = folder.with_name(f".{folder.name}.lock")
    if folder.is_relative_to(DRIVE):
        path = Path(tempfile.gettempdir()) / f"lesson-{hashlib.sha256(str(folder).encode()).hexdigest()[:16]}.lock"
    return FileLock(path, is_singleton=True)


@contextmanager
def locked(folder: Path):
    """Hold `lock(folder)` inside this block; say so when another notebook or command has it for long."""
    held = take(folder)
    try:
        yield
    finally:
        held.release()


def take(folder: Path) -> FileLock:
    """Acquire the lock of a folder, however long it takes; say what we are waiting for. Returns the lock.

    Raises:
        LessonError: the place cannot be written.
    """
    folder = Path(folder)
    held = lock(folder)
    with room_for(folder.name, folder.parent):
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            return held.acquire(timeout=PATIENCE).lock
        except Timeout:
            print(
                f"Another notebook or command is making {folder.name!r} in the same place. Waiting until it is ready "
                "(or until you shut that one down: Kernel or Runtime, Shut down).",
                flush=True,
            )
            return held.acquire().lock


def is_disk_full(error: BaseException | None) -> bool:
    """True when an error, or one that caused it, says that a file could not be written for want of room.

    PyTorch's writer ("unexpected pos 576 vs 534"), safetensors and tokenizers have words of their own and no errno.
    """
    full = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
    signs = ("No space left", "quota exceeded", "File too large", "PytorchStreamWriter failed", "unexpected pos")
    seen = []
    while error is not None and error not in seen:
        if getattr(error, "errno", None) in full or any(sign in str(error) for sign in signs):
            return True
        seen.append(error)
        error = error.__cause__
    return False


@contextmanager
def room_for(what: str, folder: Path, kept: str = ""):
    """Say what cannot be written, where, and why, when writing it inside this block fails.

    Args:
        kept: a sentence on what is not lost.

    Raises:
        LessonError: the disk is full, or the place cannot be written. Of nested blocks the outermost says so.
    """
    try:
        yield
    except Exception as error:  # tokenizers raises no other kind
        kept = f"{kept} " if kept else ""
        place = show_path(Path(folder))
        if is_disk_full(error):
            near = next(path for path in (folder, *folder.parents) if path.exists())
            raise LessonError(
                f"There is no room for {what} in {place} ({shutil.disk_usage(near).free / 1e6:,.0f} MB are free). "
                f"{kept}Make room there, or set LESSON_HOME to another disk; then run this again.",
                "disk-full",
            ) from error
        refused = isinstance(error, (PermissionError, FileExistsError, NotADirectoryError))
        # A disk that is not there (a drive's letter), or a place where no folder can be made (/proc).
        refused = refused or (isinstance(error, FileNotFoundError) and not Path(folder).exists())
        if refused or getattr(error, "errno", None) == errno.EROFS:
            raise LessonError(
                f"{what} cannot be written in {place} ({error}). {kept}Set home (LESSON_HOME) to a folder of your own "
                "that you may write to; then run this again.",
                "not-writable",
            ) from error
        raise
