"""Machines that are taken away: Google Colab with the student's Drive, which outlives them, and Kaggle."""

import importlib.util
import os
from pathlib import Path

from helpers.durable.errors import LessonError

DRIVE = Path("/content/drive/MyDrive")  # where Colab shows a student's Google Drive
KAGGLE = Path("/kaggle/working")  # the folder that Kaggle keeps when a session ends


def in_kaggle() -> bool:
    """True on a machine of Kaggle, whose image is built on Colab's."""
    return "KAGGLE_KERNEL_RUN_TYPE" in os.environ


def in_colab() -> bool:
    """True on a machine of Google Colab."""
    try:
        return not in_kaggle() and importlib.util.find_spec("google.colab") is not None
    except ModuleNotFoundError:
        return False


def on_drive(home: str) -> Path:
    """Return the folder `home` on the student's Google Drive.

    Raises:
        LessonError: this is not Colab, or `home` leads away from the Drive.
    """
    if not in_colab():
        raise LessonError(
            "keep_on_drive works in Google Colab only. Here, set home (LESSON_HOME) to a safe folder.", "not-colab"
        )
    path = Path(os.path.normpath(DRIVE / home))
    if not path.is_relative_to(DRIVE) or path == DRIVE:
        raise LessonError(
            f"home = {home!r} does not lie on your Google Drive, and keep_on_drive asks for it. Give a folder's name "
            f'without a slash in front, such as "lesson_home", or set keep_on_drive to False.',
            "not-on-drive",
        )
    return path


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
            "then everything stays on this machine, and is lost when Colab takes it away.",
            "no-drive",
        ) from error


def describe_risk(folder: Path, seconds: float) -> str:
    """Return what an interruption would cost a training that saves into folder every so many seconds."""
    if in_colab() and not folder.is_relative_to(DRIVE):
        return (
            "If Colab takes this machine away, everything on it is lost, and training has to begin again. "
            "To keep it on your Google Drive, set keep_on_drive in the settings and run the notebook again."
        )
    if in_kaggle() and not folder.is_relative_to(KAGGLE):
        return "If Kaggle takes this machine away, everything outside /kaggle/working is lost."
    return (
        "If training is interrupted, run the notebook again: it continues. What is lost is the training since the "
        f"last checkpoint: about {seconds} seconds (more where saving is slow), or one epoch if that is shorter."
    )
