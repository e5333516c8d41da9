"""What notebook 04 saves while it trains: checkpoints that are whole or never used, and belong to their settings."""

import hashlib
import itertools
import json
import os
import re
import shutil
import time
from pathlib import Path

import torch
from filelock import Timeout
from safetensors import safe_open
from transformers import Trainer, TrainerCallback
from transformers.trainer_pt_utils import safe_globals
from transformers.trainer_utils import SaveStrategy

from helpers import colab
from helpers.files import DRIVE, LessonError, lock, read_json, room_for, write_json
from helpers.settings import Settings

MANIFEST = "complete.json"  # inside a checkpoint, written last: the size of each of its files
SAVE_EVERY = 45  # seconds between two checkpoints: the most that a kill costs where saving is quick
MOST_OF_THE_TIME = 1 / 20  # saving may take at most this share of the training time, else it is done less often
RECIPE = (
    "learning_rate", "weight_decay", "warmup_steps", "num_train_epochs", "max_steps", "per_device_train_batch_size",
    "gradient_accumulation_steps", "optim", "lr_scheduler_type", "max_grad_norm", "label_smoothing_factor", "seed",
)  # fmt: skip
NUMBERS = 3  # float32 numbers that a checkpoint holds for each parameter: the weight and AdamW's two averages


class Run:
    """The folder of one training's checkpoints, held by one process until `clear` or until that process ends.

    The folder's name is made from the settings, so that the checkpoints of another model, data set, seed or recipe are
    never continued. A second process with the same settings gets a folder of its own. Of the folders that nobody
    holds, the one whose training came furthest is taken.
    """

    def __init__(self, settings: Settings, precision: str, name: str = "main"):
        identity = settings.identity("model") | {"precision": precision, "cuda": torch.cuda.is_available()}
        identity |= {"processes": int(os.environ.get("WORLD_SIZE", 1))}
        key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:12]
        folder = settings.home / "checkpoints"
        known = [path for path in folder.glob(f"{name}-{key}-*") if path.is_dir()]
        known.sort(key=lambda path: max((step for step, _ in saved(path)), default=0), reverse=True)
        for self.folder in itertools.chain(known, (folder / f"{name}-{key}-{n}" for n in itertools.count(1))):
            self.lock = lock(self.folder)
            try:
                self.lock.acquire(blocking=False)
                break
            except Timeout:  # another process is training with these settings right now
                continue
        self.folder.mkdir(parents=True, exist_ok=True)

    def newest(self) -> str | None:
        """Return the newest whole checkpoint, for `trainer.train`, or None; say which, and what was skipped and why.

        What is damaged is removed, so that it takes no room.
        """
        for step, folder in reversed(saved(self.folder)):
            problem = damage(folder)
            if problem is None:
                steps = read_json(folder / "trainer_state.json")["max_steps"]
                print(f"Continuing after step {step:,} of {steps:,}, from {folder.name}.", flush=True)
                return str(folder)
            print(f"Skipped {folder.name}: {problem}.", flush=True)
            shutil.rmtree(folder)
        return None

    def at_risk(self) -> str:
        """Return what an interruption would cost here, in a sentence or two."""
        if colab.in_colab() and not self.folder.is_relative_to(DRIVE):
            return (
                "If Colab takes this machine away, everything on it is lost, and training has to begin again. "
                "To keep it on your Google Drive, set keep_on_drive in the settings and run the notebook again."
            )
        return (
            f"If training is interrupted, run the notebook again: it continues. What is lost is the training since the "
            f"last checkpoint: about {SAVE_EVERY} seconds at most, more where saving is slow."
        )

    def clear(self) -> None:
        """Remove the checkpoints: the training is finished, and its model is kept elsewhere."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.lock.release(force=True)  # however often this process has taken it


def saved(folder: Path) -> list[tuple[int, Path]]:
    """Return (step, folder) of each checkpoint in a run's folder, whole or not, the oldest first."""
    found = [path for path in Path(folder).glob("checkpoint-*") if path.is_dir()]
    return sorted((int(path.name[11:]), path) for path in found if re.fullmatch("checkpoint-[0-9]+", path.name))


def seal(folder: Path, facts: dict) -> None:
    """Declare a checkpoint whole: write down the facts about its training, and how large each of its files is."""
    files = {path.relative_to(folder).as_posix(): path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    write_json(folder / MANIFEST, facts | {"files": files})


def damage(folder: Path) -> str | None:
    """Return what is wrong with a checkpoint, in words, or None when it is whole and its best checkpoint is, too.

    Its files are opened as well, in ways that can run no code.
    """
    manifest, state = read_json(folder / MANIFEST), read_json(folder / "trainer_state.json")
    if not isinstance(manifest, dict) or not isinstance(manifest.get("files"), dict):
        return "saving it was interrupted"
    for name, size in manifest["files"].items():
        found = (folder / name).stat().st_size if (folder / name).is_file() else None
        if found != size:
            return f"{name} is " + ("missing" if found is None else "empty" if found == 0 else "cut short or changed")
    try:
        path = folder / "trainer_state.json"
        best = int(state["best_global_step"] or state["global_step"])
        earlier = best < state["global_step"]
        for path in sorted(folder.glob("*.safetensors")):
            with safe_open(path, "pt"):
                pass
        for path in sorted(folder.glob("*.pt*")):
            with safe_globals():
                torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except Exception as error:  # what a file that was tampered with can raise is beyond any list
        return f"{path.name} holds something else than it should ({type(error).__name__})"
    if earlier:
        problem = damage(folder.with_name(f"checkpoint-{best}"))
        return problem and f"the best one before it, checkpoint-{best}, is damaged ({problem})"
    return None


class SaveByTheClock(TrainerCallback):
    """Asks for a checkpoint when SAVE_EVERY seconds have passed since the last one, and rarely enough to stay cheap."""

    def __init__(self):
        self.every, self.cost, self.last = SAVE_EVERY, 0.0, 0.0

    def on_train_begin(self, args, state, control, **_):
        """Start the clock."""
        self.last = time.perf_counter()

    def on_step_end(self, args, state, control, **_):
        """Ask for a checkpoint when it is time. At the end of an epoch one is saved anyway, after the evaluation.

        Several processes would have to agree on the time, so that they save at the end of each epoch only.
        """
        due = time.perf_counter() - self.last > max(self.every, self.cost / MOST_OF_THE_TIME)
        epoch_ends = state.global_step % (state.max_steps // state.num_train_epochs) == 0
        if due and not epoch_ends and args.world_size == 1 and args.save_strategy != SaveStrategy.NO:
            control.should_save = True


class ResumableTrainer(Trainer):
    """A Trainer that can be killed at any moment, and that fits its batches into the memory there is.

    Attributes:
        seconds_before: seconds of training up to the checkpoint that was continued; 0 from the start.
        saving_seconds: seconds that went into saving checkpoints.
        parts: in how many parts each batch is computed; 1 unless a GPU's memory was too small.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        # A classifier's loss is a mean over its batch already. Without this line the Trainer takes it for a sum that
        # was divided by the number of tokens, and multiplies it by the number of processes.
        self.model_accepts_loss_kwargs = False
        self.seconds_before, self.saving_seconds, self.began = 0.0, 0.0, 0.0
        self.parts, self.share, self.touched = 1, 1.0, False
        self.clock = SaveByTheClock()
        self.add_callback(self.clock)

    def recipe(self) -> dict:
        """Return what decides, besides the Run's settings, which weights this training ends with."""
        known = self.args.to_dict()
        return {name: known[name] for name in RECIPE} | {"rows": len(self.train_dataset)}

    def train(self, resume_from_checkpoint: str | None = None, **options):
        """Train, from the start or from a checkpoint that `Run.newest` returned.

        Raises:
            LessonError: the checkpoint belongs to another recipe; the GPU's memory is too small, or the disk for a
                checkpoint; or this trainer has begun before and there is no checkpoint, so that its model is neither
                new nor known.
        """
        if self.touched and not resume_from_checkpoint:
            raise LessonError(
                "This trainer has already begun, and there is no checkpoint to continue from: it was interrupted "
                "before the first one was saved, or they were cleared. Its model has changed. Load the model again and "
                "make a new trainer: in notebook 4, run all cells from Step 11 on."
            )
        known = read_json(Path(resume_from_checkpoint) / MANIFEST) if resume_from_checkpoint else {}
        now, before = self.recipe(), known.get("recipe", {})
        other = [name for name in now if known and before.get(name) != now[name]]
        if other:
            changes = ", ".join(f"{name} {now[name]} instead of {before.get(name)}" for name in other)
            raise LessonError(
                f"{Path(resume_from_checkpoint).name} belongs to another recipe: this one has {changes}. To finish the "
                "old one, set its values again. To begin anew with the new ones, write run.clear() into a new "
                "cell and run it; then, in notebook 4, run all cells from Step 11 on."
            )
        self.seconds_before, self.began = known.get("seconds", 0.0), time.perf_counter()
        self.saving_seconds = known.get("saving_seconds", 0.0)
        try:
            return super().train(resume_from_checkpoint=resume_from_checkpoint, **options)
        except torch.OutOfMemoryError as error:
            raise LessonError(
                f"The GPU's memory is too small for this model ({self.model.num_parameters():,} parameters)"
                f"{', even with one sentence at a time' * (self.parts > 1)}. "
                "End other programs that use the GPU, or choose a smaller model (LESSON_MODEL)."
            ) from error

    def _save_checkpoint(self, model, trial):
        """Save a checkpoint, declare it whole, and remove those that are not needed any more."""
        begin, folder = time.perf_counter(), Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
        if self.args.should_save:
            shutil.rmtree(folder, ignore_errors=True)  # left by a kill in the middle of saving
        self.accelerator.wait_for_everyone()
        size = 4 * NUMBERS * self.model.num_parameters() / 1e6
        try:
            with room_for(f"a checkpoint of about {size:,.0f} MB", folder.parent, "The checkpoint before it is whole."):
                super()._save_checkpoint(model, trial)
                self.accelerator.wait_for_everyone()
                if self.args.should_save:
                    now = time.perf_counter()
                    times = {"seconds": self.seconds_before + now - self.began}
                    times["saving_seconds"] = self.saving_seconds + now - begin
                    seal(folder, times | {"recipe": self.recipe()})
        except LessonError:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        if self.args.should_save:
            keep = {step for step, _ in saved(folder.parent)[-2:]} | {self.state.best_global_step}
            for step, old in saved(folder.parent):
                if step not in keep:
                    shutil.rmtree(old, ignore_errors=True)
        self.clock.cost, self.clock.last = time.perf_counter() - begin, time.perf_counter()
        self.saving_seconds += self.clock.cost

    def compute_loss(self, model, inputs, return_outputs=False, **options):
        """Return the loss as the Trainer does; of a part of a batch, as much of it as the part is of the batch."""
        found = super().compute_loss(model, inputs, return_outputs=return_outputs, **options)
        return (found[0] * self.share, found[1]) if return_outputs else found * self.share

    def training_step(self, model, inputs, num_items_in_batch=None):
        """Do one training step; when the GPU's memory is too small, in more parts, with the same sum of gradients.

        Raises torch.OutOfMemoryError when a single sentence does not fit.
        """
        rows, self.touched = len(inputs["labels"]), True
        while True:
            try:
                losses = []
                for labels in torch.tensor_split(torch.arange(rows), min(self.parts, rows)):
                    self.share = len(labels) / rows
                    part = {name: value[labels[0] : labels[-1] + 1] for name, value in inputs.items()}
                    losses.append(super().training_step(model, part, num_items_in_batch))
                return torch.stack(losses).sum()
            except torch.OutOfMemoryError:
                if self.parts >= rows or self.args.gradient_accumulation_steps * self.args.world_size > 1:
                    raise
            finally:
                self.share = 1.0
            # Outside the except block nothing holds the failed attempt's memory any more.
            self.parts *= 2
            model.zero_grad()
            torch.cuda.empty_cache()
            print(
                f"The GPU's memory is too small for {rows} sentences at once. From here on each batch is computed in "
                f"{min(self.parts, rows)} parts, and their gradients are added up: the batch stays what it was.",
                flush=True,
            )
