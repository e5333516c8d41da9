"""Google Colab: is this one of its machines, and the student's Google Drive, which outlives them."""

import importlib.util
from pathlib import Path

from helpers.files import DRIVE, LessonError, readable_path


def in_colab() -> bool:
    """True on a machine of Google Colab."""
    try:
        return importlib.util.find_spec("google.colab") is not None
    except ModuleNotFoundError:
        return False


def on_drive(home: str) -> Path:
    """Return the folder `home` on the student's Google Drive.

    Raises:
        LessonError: this is not Colab.
    """
    if not in_colab():
        raise LessonError("keep_on_drive works in Google Colab only. Here, set home (LESSON_HOME) to a safe folder.")
    return readable_path("LESSON_HOME", home, DRIVE)


def mount_drive() -> None:
    """Show the student's Google Drive as a folder; Colab asks for permission.

    Raises:
        LessonError: it was not given.
    """
    if DRIVE.is_dir():
        return
    from google.colab import drive

    try:
        drive.mount(str(DRIVE.parent))
    except Exception as error:
        raise LessonError(
            f"Google Drive did not open ({error}). Run this cell again and allow it, or set keep_on_drive to False: "
            "then everything stays on this machine, and is lost when Colab takes it away."
        ) from error
