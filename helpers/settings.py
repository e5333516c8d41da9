"""The settings of a run: which edition, which model and data, where everything is written.

Each notebook hands in the values of its form; the environment variables LESSON_... win over the form, so that scripts
and classrooms can steer without editing a notebook. Nothing is printed here.
"""

import difflib
import os
from dataclasses import dataclass
from pathlib import Path

from helpers.durable import drive
from helpers.durable.errors import LessonError
from helpers.durable.files import fingerprint_folder, readable_path, show_path
from helpers.durable.hub import resolve_source
from helpers.recipe import Recipe

SHIPPED = Path(__file__).resolve().parent / "pocket"  # the pocket edition's model and data
SHIPPED_NAMES = {str(SHIPPED / "model"): "pocket-distilbert", str(SHIPPED / "data"): "pocket reviews"}
EDITIONS = {
    "full": {
        "dataset": "stanfordnlp/sst2@8d51e7e4887a4caaa95b3fbebbf53c0490b58bbb",
        "model": "distilbert/distilbert-base-uncased@12040accade4e8a0f71eabdb258fecc2e7e948be",
        "epochs": 2,
        "batch_size": 128,
    },
    "pocket": {"dataset": str(SHIPPED / "data"), "model": str(SHIPPED / "model"), "epochs": 2, "batch_size": 32},
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
    recipe: Recipe  # the hyperparameters; `gpu.choose_recipe` adds this machine's precision and attention
    dataset_fingerprint: str | None = None  # of a local folder, so that a changed file is noticed
    model_fingerprint: str | None = None

    def fingerprint(self, stage: str) -> dict:
        """Return what the files of a stage ("data", "tokenized" or "model") depend on.

        Raises KeyError for another stage.
        """
        data = {
            "dataset": self.dataset_name,
            "dataset_revision": self.dataset_revision,
            "dataset_fingerprint": self.dataset_fingerprint,
            "train_rows": self.train_rows,
            "seed": self.seed,
        }
        tokenized = data | {
            "model": self.model_name,
            "model_revision": self.model_revision,
            "model_fingerprint": self.model_fingerprint,
            "max_length": self.recipe.max_length,
        }
        names = ("epochs", "learning_rate", "batch_size", "weight_decay", "warmup")
        model = tokenized | {name: getattr(self.recipe, name) for name in names}
        return {"stage": stage} | {"data": data, "tokenized": tokenized, "model": model}[stage]

    @property
    def seed(self) -> int:
        """The seed of every random choice: of the split, and of the training."""
        return self.recipe.seed

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

        The folder's fingerprint is part of the path, because `load_dataset` does not notice when a local file changes.
        """
        return str(self.home / "cache" / self.dataset_fingerprint) if self.dataset_fingerprint else None

    def __str__(self) -> str:
        rows = "all rows" if self.train_rows is None else f"{self.train_rows:,} rows"
        epochs = f"{self.recipe.epochs} epoch{'s' * (self.recipe.epochs > 1)}"
        return (
            f"Edition: {self.edition} ({self.why})\n"
            f"  model    {self.model_name}\n"
            f"  data     {self.dataset_name}, {rows}, {epochs}, seed {self.seed}\n"
            f"  results  {show_path(self.home)}\n"
            "To change it: set edition in the cell above (or LESSON_EDITION) to auto, pocket or full, and run again."
        )


def clone_root() -> Path | None:
    """Return the folder of the clone that this package stands in, or None where it was installed without one."""
    root = Path(__file__).resolve().parents[1]
    return root if (root / "notebooks").is_dir() else None


def short_name(source: str) -> str:
    """Return what is shipped by its own name, another folder by the last part of its path, and a Hub id as it is."""
    return SHIPPED_NAMES.get(source) or (Path(source).name if Path(source).is_absolute() else source)


def read(environ=None, **form) -> Settings:
    """Return the settings from a notebook's form, overridden by LESSON_... environment variables.

    An empty string or None in the form means "the default", and so does 0, except for the seed.

    Raises:
        LessonError: an unknown setting, or a value that is not valid; the message lists the valid ones.
    """
    environ = os.environ if environ is None else environ
    check_names([name for name in environ if name.startswith("LESSON_")] + list(form))
    asked = {name: environ.get(f"LESSON_{name.upper()}") or form.get(name) for name in NAMES}
    edition, why = choose_edition(str(asked["edition"] or "auto"))
    defaults = EDITIONS[edition]
    # A built-in source is pinned; one that the user names may carry its own pin, as ORG/NAME@COMMIT.
    bases = [Path.cwd()] + [root for root in [clone_root()] if root]
    model, model_revision = resolve_source("model", str(asked["model"] or defaults["model"]), bases)
    if model_revision is None and not Path(model, "config.json").is_file():
        raise LessonError(
            f"The folder {show_path(Path(model))} is no model: it has no config.json. Give the folder that "
            "save_pretrained wrote, or leave LESSON_MODEL out.",
            "no-model",
        )
    dataset, dataset_revision = resolve_source("dataset", str(asked["dataset"] or defaults["dataset"]), bases)
    # Batch and learning rate were chosen by measuring speed and accuracy together (benchmarks/README.md). Few rows need
    # small batches, or there are too few steps; a smaller batch needs smaller steps (with the square root); and the
    # smaller a model, the larger the steps that it stands: the shipped one has 1/18 of DistilBERT's weights.
    batch_size = defaults["batch_size"]
    shipped = Path(model).is_relative_to(SHIPPED)
    recipe = Recipe(
        epochs=whole_number("epochs", asked["epochs"] or None, defaults["epochs"], 1, 100),
        batch_size=batch_size,
        learning_rate=3e-4 if shipped else 1e-4 * (batch_size / 128) ** 0.5,
        warmup=0.1,
        weight_decay=0.01,
        padding="grouped",
        seed=whole_number("seed", asked["seed"], 42, 0, 2**31 - 1),
    )
    return Settings(
        edition,
        why,
        choose_home(asked["home"] or "", is_yes("keep_on_drive", asked["keep_on_drive"])) / edition,
        model,
        model_revision,
        dataset,
        dataset_revision,
        train_rows=whole_number("train_rows", asked["train_rows"] or None, None, 16, 10**9),
        recipe=recipe,
        dataset_fingerprint=fingerprint_folder(dataset) if dataset_revision is None else None,
        model_fingerprint=fingerprint_folder(model) if model_revision is None else None,
    )


def check_names(names: list[str]) -> None:
    """Make sure that every setting asked for exists, so that a misspelt one is not silently without effect.

    Raises:
        LessonError: one does not.
    """
    for name in names:
        plain = name.removeprefix("LESSON_").lower()
        if plain not in NAMES:
            near = difflib.get_close_matches(plain, NAMES, n=1)
            valid = ", ".join(f"LESSON_{n.upper()}" for n in NAMES)
            hint = f" Did you mean LESSON_{near[0].upper()}?" if near else ""
            raise LessonError(f"There is no setting {name}.{hint} The settings are {valid}.", "no-such-setting")


def choose_home(asked: str, on_drive: bool) -> Path:
    """Return LESSON_HOME: what was asked for, or lesson_home in the clone (else on Kaggle's disk, else here)."""
    if on_drive:
        return drive.on_drive(asked or "lesson_home")
    if asked:
        return readable_path("LESSON_HOME", asked)
    base = clone_root() or (drive.KAGGLE if drive.in_kaggle() else Path.cwd())
    return base / "lesson_home"


def choose_edition(asked: str) -> tuple[str, str]:
    """Return the edition that runs and why.

    "auto" is "full" where a CUDA GPU is present, else "pocket". In Colab it is always "full": there each notebook has
    a machine of its own, some with a GPU and some without, and all of them must tell of the same data.
    """
    if asked in EDITIONS:
        return asked, "you asked for it"
    if asked != "auto":
        raise LessonError(f"There is no edition {asked!r}. Choose auto, pocket or full.", "no-such-edition")
    if drive.in_colab():
        return "full", "in Colab all notebooks use the real data"
    import torch

    if torch.cuda.is_available():
        return "full", "a CUDA GPU is present"
    return "pocket", "no CUDA GPU was found, so the small one runs, which needs no network"


def is_yes(name: str, value) -> bool:
    """Return a yes or no as a bool; None and the empty string mean no.

    Raises:
        LessonError: it is neither.
    """
    words = {"yes": True, "true": True, "on": True, "1": True, "no": False, "false": False, "off": False, "0": False}
    text = str(value or "no").strip().lower()
    if text not in words:
        raise LessonError(f"{name} = {value!r} will not do. Give yes or no, or leave it out.", "no-yes-or-no")
    return words[text]


def whole_number(name: str, value, default, low: int, high: int):
    """Return value as an int between low and high, or the default when it is None or empty."""
    if value is None or value == "":
        return default
    try:
        number = int(str(value).replace("_", ""))
    except ValueError:
        number = low - 1
    if not low <= number <= high:
        raise LessonError(
            f"{name} = {value!r} will not do. Give a whole number from {low:,} to {high:,}, or leave it out.",
            "no-number",
        )
    return number
