"""The front door of every notebook and command: read the settings, prepare this process, say what runs."""

import os

from helpers import __version__, settings, threads
from helpers.durable import drive, files, hub
from helpers.recipe import processes
from helpers.settings import Settings

show_path = files.show_path


def start(**form) -> Settings:
    """Begin a run: read its settings, print them, and leave progress bars only where there is waiting to do.

    Args:
        form: the values of the notebook's form (see `settings.read`).

    Raises:
        LessonError: a setting will not do; the place for the results cannot be written; or the model is not one for
            this course.
    """
    import datasets
    import evaluate
    import transformers

    from helpers import models

    hub.install_retries()
    chosen = settings.read(**form)
    if chosen.home.is_relative_to(drive.DRIVE):
        drive.mount_drive()
    with files.room_for("a result", chosen.home), files.locked(chosen.home):  # several may begin at once
        chosen.home.mkdir(parents=True, exist_ok=True)
        files.write_text(chosen.home / "version.txt", f"{__version__}\n")
    # evaluate copies the metric's script before it runs it: into this run's home, not into the user's.
    evaluate.config.HF_MODULES_CACHE = str(chosen.home / "cache" / "modules")
    evaluate.config.HF_METRICS_CACHE = chosen.home / "cache" / "metrics"
    show_progress_of_downloads(datasets, transformers, wanted=bool(chosen.model_revision or chosen.dataset_revision))
    if int(os.environ.get("RANK", 0)) == 0:  # of several processes under `accelerate launch`, the first one
        print(chosen, flush=True)
        for remark in remarks(chosen):
            print(remark, flush=True)
    models.check(chosen)
    return chosen


def show_progress_of_downloads(datasets, transformers, wanted: bool) -> None:
    """Leave a progress bar where there is waiting to do: at downloads, if any are wanted."""
    import huggingface_hub.utils

    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()  # huggingface_hub's, too
    if wanted:
        huggingface_hub.utils.enable_progress_bars()


def remarks(chosen: Settings) -> list[str]:
    """Return what a student should know about this machine before the lesson begins, a sentence or two each."""
    import torch

    said = []
    if drive.in_colab() and chosen.edition == "full" and not torch.cuda.is_available():
        said.append(
            "This machine has no GPU: reading data is quick here, training is not. For notebooks 1, 4, 5 and 6 choose "
            "Runtime, Change runtime type, T4 GPU; or set edition to pocket in every notebook."
        )
    if drive.in_colab() and not chosen.home.is_relative_to(drive.DRIVE):
        said.append(
            "Each notebook in Colab has a machine of its own. What this one leaves is made again in the next, unless "
            "you set keep_on_drive."
        )
    if threads.count_gpus() > 1 and torch.cuda.device_count() == 1 and processes() == 1:
        said.append(
            f"Of the {threads.count_gpus()} GPUs here one is used. To train on all of them, in a clone of the course: "
            "accelerate launch -m helpers train"
        )
    return said


def start_command(values: dict) -> Settings:
    """Begin a command with its options; what is given there wins over the environment.

    Raises:
        LessonError: as `start` does.
    """
    for name, value in values.items():
        if value is not None:
            os.environ[f"LESSON_{name.upper()}"] = str(value)
    return start()
