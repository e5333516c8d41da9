"""The Trainer of notebook 04: it can be killed at any moment, and it fits its batches into the memory there is."""

import shutil
import time
from pathlib import Path

import torch
from transformers import Trainer, TrainerCallback
from transformers.trainer_utils import SaveStrategy

from helpers import checkpoints
from helpers.errors import too_little_memory
from helpers.files import LessonError, read_json, room_for

MOST_OF_THE_TIME = 1 / 20  # saving may take at most this share of the training time, else it is done less often
RECIPE = (
    "learning_rate", "weight_decay", "warmup_steps", "num_train_epochs", "max_steps", "per_device_train_batch_size",
    "gradient_accumulation_steps", "optim", "lr_scheduler_type", "max_grad_norm", "label_smoothing_factor", "seed",
)  # fmt: skip
NUMBERS = 3  # float32 numbers that a checkpoint holds for each parameter: the weight and AdamW's two averages


class SaveByTheClock(TrainerCallback):
    """Asks for a checkpoint when SAVE_EVERY seconds have passed since the last one, and rarely enough to stay cheap."""

    def __init__(self):
        self.every, self.cost, self.last = checkpoints.SAVE_EVERY, 0.0, 0.0

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
        known = read_json(Path(resume_from_checkpoint) / checkpoints.MANIFEST) if resume_from_checkpoint else {}
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
            raise too_little_memory(self.model, self.parts) from error

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
                    checkpoints.seal(folder, times | {"recipe": self.recipe()})
        except LessonError:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        if self.args.should_save:
            keep = {step for step, _ in checkpoints.saved(folder.parent)[-2:]} | {self.state.best_global_step}
            for step, old in checkpoints.saved(folder.parent):
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
