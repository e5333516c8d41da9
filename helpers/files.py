"""Files that are complete or absent, and belong to the settings that made them."""

import errno
import hashlib
import json
import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

ROOT = Path(__file__).resolve().parent.parent  # the clone of the course, or where the package is installed
DRIVE = Path("/content/drive/MyDrive")  # where Colab shows a student's Google Drive
MARK = "lesson.json"  # names, inside a folder, the settings that made it; written last


class LessonError(Exception):
    """Something a student or teacher can mend. The message says what happened, why, and the next thing to try."""

    def _render_traceback_(self):
        """In a notebook IPython prints these lines instead of a long traceback (IPython's documented hook)."""
        return [f"LessonError: {self}"]


def show_path(path: Path) -> str:
    """Return path for people: relative to the course or the home folder where it lies inside one."""
    for base, sign in ((ROOT, ""), (Path.cwd(), ""), (Path.home(), "~/")):
        if path.is_relative_to(base):
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
            f"{name} = {text!r} is no path ({error}). Give the path of a folder, or leave it out."
        ) from error


def write_text(path: Path, text: str) -> None:
    """Write text to path in one step: a reader sees the old file or the new one, never a part.

    Raises:
        LessonError: the disk is full.
    """
    path = Path(path)
    with room_for(path.name, path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, aside = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(aside, 0o644)
            os.replace(aside, path)
        finally:
            Path(aside).unlink(missing_ok=True)


def write_json(path: Path, value) -> None:
    """Write value as indented JSON, in one step."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path):
    """Return what a JSON file holds, or None when it is missing or no JSON."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def digest(folder: Path) -> str:
    """Return 16 hex digits that change whenever a file in folder changes."""
    total = hashlib.sha256()
    for path in sorted(p for p in Path(folder).rglob("*") if p.is_file()):
        with path.open("rb") as file:
            total.update(
                f"{path.relative_to(folder).as_posix()} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode()
            )
    return total.hexdigest()[:16]


def is_complete(folder: Path, identity: dict) -> bool:
    """True when folder was finished by `replace_folder` under exactly this identity."""
    return read_json(Path(folder) / MARK) == json.loads(json.dumps(identity))


def lock(folder: Path) -> FileLock:
    """A lock for whoever makes folder. The operating system lets it go when its holder dies.

    A process that holds it may take it again. For a folder on Google Drive, which has no locks, it lies on the machine
    itself: one machine at a time has that Drive.
    """
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    path = folder.with_name(f".{folder.name}.lock")
    if folder.is_relative_to(DRIVE):
        path = Path(tempfile.gettempdir()) / f"lesson-{hashlib.sha256(str(folder).encode()).hexdigest()[:16]}.lock"
    return FileLock(path, is_singleton=True)


def is_disk_full(error: BaseException | None) -> bool:
    """True when an error, or the one that caused it, says that a file could not be written for want of room.

    Python, PyTorch (whose writer says "unexpected pos 576 vs 534"), safetensors and tokenizers each have words of
    their own; datasets hides the error behind one of its own.
    """
    full = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
    signs = ("No space left", "quota exceeded", "File too large", "PytorchStreamWriter failed", "unexpected pos")
    while error is not None:
        if getattr(error, "errno", None) in full or any(sign in str(error) for sign in signs):
            return True
        error = error.__cause__
    return False


@contextmanager
def room_for(what: str, folder: Path, kept: str = ""):
    """Say what there is no room for, and where, when writing it inside this block fails because the disk is full.

    Args:
        kept: a sentence on what is not lost.

    Raises:
        LessonError: the disk is full. Of nested blocks the outermost says so.
    """
    try:
        yield
    except Exception as error:  # tokenizers raises no other kind
        if not is_disk_full(error):
            raise
        near = next(place for place in (folder, *folder.parents) if place.exists())
        raise LessonError(
            f"There is no room for {what} in {show_path(folder)} "
            f"({shutil.disk_usage(near).free / 1e6:,.0f} MB are free). {kept}{' ' * bool(kept)}"
            "Make room there, or set LESSON_HOME to another disk; then run this again."
        ) from error


@contextmanager
def replace_folder(folder: Path, identity: dict):
    """Yield an empty folder to fill; when the block ends well, it takes the place of `folder`, whole.

    A process killed in between leaves `folder` as it was (or, for an instant, absent), never half-written. The caller
    holds `lock(folder)`.

    Raises:
        LessonError: the disk is full.
    """
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    for left in folder.parent.glob(f".{folder.name}-*"):  # by a process that was killed; the caller holds the lock
        shutil.rmtree(left, ignore_errors=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    old = aside.with_name(aside.name + "-old")
    try:
        with room_for(folder.name, folder.parent, "What was there before is whole."):
            os.chmod(aside, 0o755)
            yield aside
            write_json(aside / MARK, identity)
            if folder.exists():
                os.replace(folder, old)
            try:
                os.replace(aside, folder)
            except OSError:
                if old.exists():
                    os.replace(old, folder)  # what was there before comes back
                raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
