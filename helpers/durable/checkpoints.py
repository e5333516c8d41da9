"""A training that can be killed at any moment: checkpoints that are whole or never used, and the Trainer for them."""

import hashlib
import json
import shutil
import time
from pathlib import Path

import torch
from safetensors import safe_open
from transformers import Trainer, TrainerCallback
from transformers.trainer import safe_globals  # 5.0 does not have it in trainer_pt_utils
from transformers.trainer_utils import SaveStrategy

from helpers.durable import drive, files
from helpers.durable.errors import LessonError

SAVE_EVERY = 45  # seconds between two checkpoints: the most that a kill costs where saving is quick
MAX_SAVE_SHARE = 1 / 20  # saving may take at most this share of the training time, else it is done less often
FLOATS_PER_PARAMETER = 3  # float32 numbers in a checkpoint: the weight and AdamW's two averages


class CheckpointFolder:
    """The folder of one training's checkpoints, held by one process until `clear` or until that process ends.

    The folder's name is made from the key, so that the checkpoints of another model, data set, seed or recipe are
    never continued. A second process with the same key waits, and says so.

    Args:
        parent: where such folders lie.
        key: all that decides which weights the training ends with; anything that JSON can hold.
        name: tells apart several trainings with one key.
    """

    def __init__(self, parent: Path, key: dict, name: str = "main"):
        mark = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:12]
        self.folder = Path(parent) / f"{name}-{mark}"
        self.lock = files.take(self.folder)
        with files.room_for("a checkpoint", self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)

    def latest(self) -> str | None:
        """Return the latest whole checkpoint, for `trainer.train`, or None; say which, and what was skipped and why.

        What is damaged, or cannot be verified with the libraries at hand, is moved aside, never deleted.
        """
        for step, folder in reversed(list_checkpoints(self.folder)):
            problem = find_damage(folder)
            if problem is None:
                steps = files.read_json(folder / "trainer_state.json")["max_steps"]
                print(f"Continuing after step {step:,} of {steps:,}, from {folder.name}.", flush=True)
                return str(folder)
            aside, number = folder.with_name(f"skipped-{step}"), 1
            while aside.exists():
                number += 1
                aside = folder.with_name(f"skipped-{step}-{number}")
            folder.rename(aside)
            print(f"Skipped {folder.name}: {problem}. It is kept as {aside.name} until training ends.", flush=True)
        return None

    def describe_risk(self) -> str:
        """Return what an interruption would cost here, in a sentence or two."""
        return drive.describe_risk(self.folder, SAVE_EVERY)

    def clear(self) -> None:
        """Remove the checkpoints: the training is finished, and its model is kept elsewhere."""
        files.remove_folder(self.folder)
        self.lock.release(force=True)  # however often this process has taken it


def list_checkpoints(folder: Path) -> list[tuple[int, Path]]:
    """Return (step, folder) of each checkpoint in a training's folder, whole or not, the oldest first."""
    found = [path for path in Path(folder).glob("checkpoint-*") if path.is_dir() and path.name[11:].isdecimal()]
    return sorted((int(path.name[11:]), path) for path in found)


def find_damage(folder: Path) -> str | None:
    """Return what is wrong with a checkpoint, in words, or None when it is whole and its best checkpoint is, too.

    Its files are opened as well, in ways that can run no code.
    """
    problem = files.find_damage(folder)
    if problem:
        return problem
    path = folder / "trainer_state.json"
    try:
        state = files.read_json(path)
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
        problem = find_damage(folder.with_name(f"checkpoint-{best}"))
        return problem and f"the best one before it, checkpoint-{best}, is damaged ({problem})"
    return None


class TimedSaveCallback(TrainerCallback):
    """Asks for a checkpoint when SAVE_EVERY seconds have passed since the last one, and rarely enough to stay cheap."""

    def __init__(self):
        self.cost, self.last = 0.0, 0.0

    def on_train_begin(self, args, state, control, **_):
        """Start the clock."""
        self.last = time.perf_counter()

    def on_step_end(self, args, state, control, **_):
        """Ask for a checkpoint when it is time. At the end of an epoch one is saved anyway, after the evaluation.

        Several processes would have to agree on the time, so that they save at the end of each epoch only.
        """
        due = time.perf_counter() - self.last > max(SAVE_EVERY, self.cost / MAX_SAVE_SHARE)
        epoch_ends = state.global_step % (state.max_steps // state.num_train_epochs) == 0
        if due and not epoch_ends and args.world_size == 1 and args.save_strategy != SaveStrategy.NO:
            control.should_save = True


def mean_loss(outputs, labels, num_items_in_batch=None):
    """Return the share of these rows in the mean loss over their whole batch (a Trainer's compute_loss_func).

    A classifier returns the mean over the rows that it is shown. Where a batch is computed in parts, of which the last
    one is smaller, or by several processes, the sum of such means would give its rows too much weight.

    Args:
        outputs: of a classifier; logits of shape (rows, classes). labels: shape (rows,).
        num_items_in_batch: rows in the whole batch; None: just these.
    """
    logits = outputs["logits"] if isinstance(outputs, dict) else outputs[0]
    total = torch.nn.functional.cross_entropy(logits, labels, reduction="sum")
    return total / (len(labels) if num_items_in_batch is None else num_items_in_batch)


class ResumableTrainer(Trainer):
    """A Trainer that can be killed at any moment, and that fits its batches into the memory there is.

    Attributes:
        seconds_before: seconds of training up to the checkpoint that was continued; 0 from the start.
        saving_seconds: seconds that went into saving checkpoints.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **{"compute_loss_func": mean_loss} | kwargs)
        self.seconds_before, self.saving_seconds, self.began = 0.0, 0.0, 0.0
        self.has_started = False
        self.timed_save = TimedSaveCallback()
        self.add_callback(self.timed_save)

    def train(self, resume_from_checkpoint: str | None = None, **options):
        """Train, from the start or from a checkpoint that `CheckpointFolder.latest` returned.

        Where a GPU's memory is too small for a batch, it is computed in parts whose gradients are added up, so that
        the batch stays what it was; training goes on from its last checkpoint, or begins anew.

        Raises:
            LessonError: a single row does not fit into the GPU's memory, or a checkpoint onto the disk; or this
                trainer has begun before and there is no checkpoint, so that its model is neither new nor known.
        """
        if self.has_started and not resume_from_checkpoint:
            raise LessonError(
                "This trainer has already begun, and there is no checkpoint to continue from: it was interrupted "
                "before the first one was saved, or they were cleared. Its model has changed. Load the model again and "
                "make a new trainer: in notebook 4, run all cells from Step 11 on.",
                "trainer-has-begun",
            )
        new = {name: value.detach().cpu().clone() for name, value in self.model.state_dict().items()}
        while True:
            known = resume_from_checkpoint and files.read_json(Path(resume_from_checkpoint) / files.MANIFEST) or {}
            self.seconds_before, self.began = known.get("seconds", 0.0), time.perf_counter()
            self.saving_seconds = known.get("saving_seconds", 0.0)
            try:
                return super().train(resume_from_checkpoint=resume_from_checkpoint, **options)
            except torch.OutOfMemoryError as error:
                self.split_batch(error)
            # Outside the except block nothing holds the failed attempt's memory any more.
            self.optimizer = self.lr_scheduler = None  # made anew
            self.model.zero_grad()
            torch.cuda.empty_cache()
            whole = [str(folder) for _, folder in list_checkpoints(self.args.output_dir) if not find_damage(folder)]
            resume_from_checkpoint = whole[-1] if whole else None
            self.model.load_state_dict(new)

    def training_step(self, *args, **kwargs):
        """Do one training step, and remember that the model is no longer the one that was handed in."""
        self.has_started = True
        return super().training_step(*args, **kwargs)

    def split_batch(self, error: torch.OutOfMemoryError) -> None:
        """Let each batch be computed in smaller parts, at most half as large and equally large, and say so.

        Raises:
            LessonError: a part is a single row already, or several processes are training.
        """
        rows, parts = self.args.per_device_train_batch_size, self.args.gradient_accumulation_steps
        if rows == 1 or self.args.world_size > 1:
            raise LessonError(
                f"The GPU's memory is too small for this model ({self.model.num_parameters():,} parameters)"
                f"{', even with one sentence at a time' * (rows == 1)}. End other programs that use the GPU, or choose "
                "a smaller model (LESSON_MODEL).",
                "out-of-memory",
            ) from error
        fewer = next(n for n in range(rows // 2, 0, -1) if rows % n == 0)
        self.args.per_device_train_batch_size, self.args.gradient_accumulation_steps = fewer, parts * rows // fewer
        self._train_batch_size = self.args.train_batch_size  # the Trainer has read it when it was made
        self.args.per_device_eval_batch_size = max(1, self.args.per_device_eval_batch_size // 2)
        print(
            f"The GPU's memory is too small for {rows} sentences at once. From here on {fewer} are computed at a time, "
            f"and the gradients of {self.args.gradient_accumulation_steps} such parts are added up: the batch stays "
            "what it was.",
            flush=True,
        )

    def _save_checkpoint(self, model, trial):
        """Save a checkpoint, declare it whole, and remove those that are not needed any more."""
        begin, folder = time.perf_counter(), Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
        if self.args.should_save:
            shutil.rmtree(folder, ignore_errors=True)  # left by a kill in the middle of saving
        self.accelerator.wait_for_everyone()
        size = 4 * FLOATS_PER_PARAMETER * self.model.num_parameters() / 1e6
        what = f"a checkpoint of about {size:,.0f} MB"
        try:
            with files.room_for(what, folder.parent, "The checkpoint before it is whole."):
                super()._save_checkpoint(model, trial)
                self.accelerator.wait_for_everyone()
                if self.args.should_save:
                    now = time.perf_counter()
                    times = {"seconds": self.seconds_before + now - self.began}
                    times["saving_seconds"] = self.saving_seconds + now - begin
                    files.write_manifest(folder, times)
        except LessonError:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        if self.args.should_save:
            saved = list_checkpoints(folder.parent)
            keep = {step for step, _ in saved[-2:]} | {self.state.best_global_step}
            for step, old in saved:
                if step not in keep:
                    files.remove_folder(old)
        self.timed_save.cost, self.timed_save.last = time.perf_counter() - begin, time.perf_counter()
        self.saving_seconds += self.timed_save.cost
