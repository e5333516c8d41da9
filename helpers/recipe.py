"""The recipe of a training: every hyperparameter has its place here. (The values of a run: settings.py.)"""

import os
from dataclasses import asdict, dataclass
from pathlib import Path

from helpers.durable.errors import LessonError

PADDINGS = ("fixed", "batch", "grouped")


@dataclass(frozen=True)
class Recipe:
    """A way to train. It makes the Trainer's arguments, can be timed, and tells checkpoints apart.

    The defaults are the recipe that this course grew from: small batches, everything padded to one length.
    """

    epochs: int = 2  # how often each row is read
    batch_size: int = 16  # sentences per optimizer step, over all processes
    learning_rate: float = 2e-5  # the highest one
    warmup: float = 0.0  # share of the steps in which the learning rate rises; then it falls to 0
    weight_decay: float = 0.0
    max_length: int = 128  # tokens; longer sentences are cut
    padding: str = "fixed"  # to max_length; "batch": to a batch's longest row; "grouped": so, and alike in length
    precision: str = "fp32"  # of the multiplications, or "fp16", "bf16"; the weights are float32
    attention: str = "sdpa"  # transformers' default; or "eager"
    seed: int = 42

    def __post_init__(self):
        if self.padding not in PADDINGS:
            raise LessonError(
                f"There is no padding {self.padding!r}. Choose one of: {', '.join(PADDINGS)}.", "no-such-padding"
            )

    def key(self) -> dict:
        """Return what decides, besides model and data, which weights a training ends with (for `CheckpointFolder`)."""
        import torch

        return asdict(self) | {"cuda": torch.cuda.is_available(), "processes": processes()}

    def arguments(self, folder: Path, **others):
        """Return the Trainer's TrainingArguments; `batch_size` is shared out among the processes of one run.

        Args:
            folder: where checkpoints go.
            others: arguments that replace or join those of the recipe.
        """
        import torch  # here, so that the settings can be read without waiting for it
        from transformers import TrainingArguments

        on_gpu = torch.cuda.is_available()
        values = dict(
            output_dir=str(folder),
            num_train_epochs=self.epochs,
            per_device_train_batch_size=max(1, self.batch_size // processes()),
            per_device_eval_batch_size=128,
            learning_rate=self.learning_rate,
            warmup_steps=self.warmup,
            weight_decay=self.weight_decay,
            optim="adamw_torch_fused",
            bf16=self.precision == "bf16",
            fp16=self.precision == "fp16",
            eval_strategy="epoch",
            save_strategy="epoch",
            metric_for_best_model="accuracy",
            logging_steps=0.05,
            seed=self.seed,
            report_to="none",
            use_cpu=not on_gpu,
            dataloader_pin_memory=on_gpu,
        )
        return TrainingArguments(**(values | others))


def processes() -> int:
    """Return how many processes train together: 1, or more under `accelerate launch`."""
    return int(os.environ.get("WORLD_SIZE", 1))
