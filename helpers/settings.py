"""The settings of a run: which edition, which model and data, where everything is written.

Each notebook calls `read` with the values of its form; the environment variables LESSON_... win over the form, so
that scripts and classrooms can steer without editing a notebook.
"""

import difflib
import os
from dataclasses import dataclass
from pathlib import Path

from helpers import colab, hub
from helpers.files import ROOT, LessonError, digest, readable_path, show_path
from helpers.hub import locate

POCKET = Path(__file__).resolve().parent / "pocket"
SHIPPED = {str(POCKET / "model"): "pocket-distilbert", str(POCKET / "data"): "pocket reviews"}
MAX_LENGTH = 128  # tokens; longer sentences are cut
EDITIONS = {
    "full": {
        "dataset": "stanfordnlp/sst2@8d51e7e4887a4caaa95b3fbebbf53c0490b58bbb",
        "model": "distilbert/distilbert-base-uncased@12040accade4e8a0f71eabdb258fecc2e7e948be",
        "epochs": 2,
        "batch_size": 128,
    },
    "pocket": {"dataset": str(POCKET / "data"), "model": str(POCKET / "model"), "epochs": 2, "batch_size": 32},
}
NAMES = ("edition", "home", "keep_on_drive", "model", "dataset", "train_rows", "epochs", "seed")


@dataclass(frozen=True)
class Settings:
    """What one run of the course uses. Made by `read`; never changed afterwards."""

    edition: str  # "pocket" or "full"
    why: str  # why this edition runs
    home: Path  # LESSON_HOME/<edition>: everything is written below it
    model: str  # Hub id or local folder
    model_revision: str | None  # commit on the Hub; None for a folder
    dataset: str  # Hub id or local folder
    dataset_revision: str | None
    train_rows: int | None  # rows to train on; None: all
    epochs: int
    seed: int
    learning_rate: float
    batch_size: int  # sentences per optimizer step, over all processes
    weight_decay: float = 0.01
    warmup: float = 0.1  # share of the steps in which the learning rate rises
    max_length: int = MAX_LENGTH
    dataset_digest: str | None = None  # of a local folder, so that a changed file is noticed
    model_digest: str | None = None

    def identity(self, stage: str) -> dict:
        """Return what the files of a stage ("data", "tokenized" or "model") depend on.

        Raises KeyError for another stage.
        """
        data = ("dataset_name", "dataset_revision", "dataset_digest", "train_rows", "seed")
        tokenized = (*data, "model_name", "model_revision", "model_digest", "max_length")
        model = (*tokenized, "epochs", "learning_rate", "batch_size", "weight_decay", "warmup")
        names = {"data": data, "tokenized": tokenized, "model": model}[stage]
        return {"stage": stage} | {name: getattr(self, name) for name in names}

    @property
    def model_name(self) -> str:
        """The model's Hub id, or the last part of a folder's path ("pocket-distilbert" for the shipped one)."""
        return short_name(self.model)

    @property
    def dataset_name(self) -> str:
        """The data set's Hub id, or the last part of a folder's path ("pocket reviews" for the shipped one)."""
        return short_name(self.dataset)

    @property
    def cache(self) -> str | None:
        """Where `load_dataset` keeps its copy of a local folder; None (its own place) for a Hub id.

        The folder's digest is part of the path, because `load_dataset` does not notice when a local file changes.
        """
        return str(self.home / "cache" / self.dataset_digest) if self.dataset_digest else None

    def __str__(self) -> str:
        rows = "all rows" if self.train_rows is None else f"{self.train_rows:,} rows"
        return (
            f"Edition: {self.edition} ({self.why})\n"
            f"  model    {self.model_name}\n"
            f"  data     {self.dataset_name}, {rows}, {self.epochs} epoch{'s' * (self.epochs > 1)}, seed {self.seed}\n"
            f"  results  {show_path(self.home)}\n"
            "To change it: set edition in the cell above (or LESSON_EDITION) to auto, pocket or full, and run again."
        )


def short_name(source: str) -> str:
    """Return what is shipped by its own name, another folder by the last part of its path, and a Hub id as it is."""
    return SHIPPED.get(source) or (Path(source).name if Path(source).is_absolute() else source)


def read(environ=None, **form) -> Settings:
    """Return the settings from a notebook's form, overridden by LESSON_... environment variables.

    An empty string, 0 or None in the form means "the default".

    Raises:
        LessonError: an unknown setting, or a value that is not valid; the message lists the valid ones.
    """
    environ = os.environ if environ is None else environ
    for name in [n for n in environ if n.startswith("LESSON_")] + list(form):
        plain = name.removeprefix("LESSON_").lower()
        if plain not in NAMES:
            near = difflib.get_close_matches(plain, NAMES, n=1)
            valid = ", ".join(f"LESSON_{n.upper()}" for n in NAMES)
            hint = f" Did you mean LESSON_{near[0].upper()}?" if near else ""
            raise LessonError(f"There is no setting {name}.{hint} The settings are {valid}.")
    asked = {name: environ.get(f"LESSON_{name.upper()}") or form.get(name) or None for name in NAMES}
    edition, why = choose_edition(str(asked["edition"] or "auto"))
    defaults = EDITIONS[edition]
    # A built-in source is pinned; one that the user names may carry its own pin, as ORG/NAME@COMMIT.
    model, model_revision = locate("model", str(asked["model"] or defaults["model"]))
    if model_revision is None and not Path(model, "config.json").is_file():
        raise LessonError(
            f"The folder {show_path(Path(model))} is no model: it has no config.json. Give the folder that "
            "save_pretrained wrote, or leave LESSON_MODEL out."
        )
    dataset, dataset_revision = locate("dataset", str(asked["dataset"] or defaults["dataset"]))
    # In the clone of the course, or in the current folder when only the package is installed.
    home = (ROOT if (ROOT / "notebooks").is_dir() else Path.cwd()) / "lesson_home"
    if asked["home"]:
        home = readable_path("LESSON_HOME", str(asked["home"]))
    if str(asked["keep_on_drive"]).lower() not in ("none", "false", "0"):
        home = colab.on_drive(str(asked["home"] or "lesson_home"))
    # Batch and learning rate were chosen by measuring speed and accuracy together (benchmarks/README.md). Few rows need
    # small batches, or there are too few steps; a smaller batch needs smaller steps (with the square root); and the
    # smaller a model, the larger the steps that it stands: the shipped one has 1/18 of DistilBERT's weights.
    batch_size = defaults["batch_size"]
    learning_rate = 3e-4 if Path(model).is_relative_to(POCKET) else 1e-4 * (batch_size / 128) ** 0.5
    return Settings(
        edition, why, home / edition, model, model_revision, dataset, dataset_revision,
        train_rows=whole_number("train_rows", asked["train_rows"], None, 16, 10**9),
        epochs=whole_number("epochs", asked["epochs"], defaults["epochs"], 1, 100),
        seed=whole_number("seed", asked["seed"], 42, 1, 2**31 - 1),
        learning_rate=learning_rate,
        batch_size=batch_size,
        dataset_digest=digest(dataset) if dataset_revision is None else None,
        model_digest=digest(model) if model_revision is None else None,
    )  # fmt: skip


def start(**form) -> Settings:
    """Begin a run: read its settings, print them, and leave progress bars only where there is waiting to do.

    Raises:
        LessonError: a setting will not do, or the model that it names is not one for this course.
    """
    import datasets
    import huggingface_hub.utils
    import transformers

    from helpers import pretrained

    hub.patient()
    settings = read(**form)
    if settings.home.is_relative_to(colab.DRIVE):
        colab.mount_drive()
    if int(os.environ.get("RANK", 0)) == 0:  # of several processes under `accelerate launch`, the first one
        print(settings, flush=True)
    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
    if settings.edition == "pocket":  # nothing is downloaded
        huggingface_hub.utils.disable_progress_bars()
    if f"{settings.model}@{settings.model_revision}" != EDITIONS["full"]["model"] and settings.model not in SHIPPED:
        pretrained.check(settings)
    return settings


def choose_edition(asked: str) -> tuple[str, str]:
    """Return the edition that runs and why. "auto" is "full" where a CUDA GPU is present, else "pocket"."""
    if asked in EDITIONS:
        return asked, "you asked for it"
    if asked != "auto":
        raise LessonError(f"There is no edition {asked!r}. Choose auto, pocket or full.")
    import torch

    if torch.cuda.is_available():
        return "full", "a CUDA GPU is present"
    return "pocket", "no CUDA GPU was found, so the small one runs, which needs no network"


def whole_number(name: str, value, default, low: int, high: int):
    """Return value as an int between low and high, or the default when it is None."""
    if value is None:
        return default
    try:
        number = int(str(value).replace("_", ""))
    except ValueError:
        number = low - 1
    if not low <= number <= high:
        raise LessonError(
            f"{name} = {value!r} will not do. Give a whole number from {low:,} to {high:,}, or leave it out."
        )
    return number
