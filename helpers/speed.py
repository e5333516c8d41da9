"""Notebook 06: ways to train, and a stopwatch that tells how fast each of them is."""

import statistics
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from transformers import (
    DataCollatorWithPadding,
    PreTrainedTokenizerBase,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)

from helpers import gpu, tokenization, training
from helpers.files import LessonError
from helpers.settings import Settings

GOLDEN = (5**0.5 - 1) / 2
PADDINGS = ("fixed", "batch", "grouped")


@dataclass(frozen=True)
class Recipe:
    """A way to train. The defaults are the recipe that this course grew from: everything padded to one length."""

    batch_size: int = 16  # sentences a step
    padding: str = "fixed"  # to max_length; "batch": to a batch's longest row; "grouped": so, and alike in length
    precision: str = "fp32"  # or "fp16", "bf16"
    attention: str = "sdpa"  # transformers' default; or "eager"
    learning_rate: float = 2e-5
    warmup: float = 0.0
    weight_decay: float = 0.0

    def __post_init__(self):
        if self.padding not in PADDINGS:
            raise LessonError(f"There is no padding {self.padding!r}. Choose one of: {', '.join(PADDINGS)}.")


ORIGINAL = Recipe()
DYNAMIC = Recipe(padding="batch")  # what most courses do


def ours(settings: Settings, precision: str) -> Recipe:
    """Return what notebook 04 does under these settings, on a machine with this precision."""
    return Recipe(
        settings.batch_size, "grouped", precision, gpu.attention(settings.batch_size),
        settings.learning_rate, settings.warmup, settings.weight_decay,
    )  # fmt: skip


def padded(dataset: Dataset, tokenizer: PreTrainedTokenizerBase, recipe: Recipe, settings: Settings) -> Dataset:
    """Return the tokenized rows as the recipe wants them: all padded to max_length where its padding is "fixed"."""
    if recipe.padding != "fixed":
        return dataset
    fill = {"padding": "max_length", "max_length": settings.max_length}
    return dataset.map(lambda rows: dict(tokenizer.pad(rows, **fill)), batched=True, keep_in_memory=True)


def row_order(lengths: list[int], recipe: Recipe, seed: int) -> list[int]:
    """Return the row numbers in the order in which the recipe's batches are cut from them."""
    if recipe.padding == "grouped":
        return list(tokenization.LengthGroupedSampler(lengths, recipe.batch_size, seed))
    return torch.randperm(len(lengths), generator=torch.Generator().manual_seed(seed)).tolist()


def spread(order: list[int], lengths: list[int], batch_size: int) -> list[int]:
    """Return the same batches in an order in which every stretch of them is a fair sample of all lengths.

    A few seconds of length-grouped batches could else be all long, or all short. The batches are sorted by their
    longest row, and taken in steps of the golden ratio (a Kronecker sequence: Niederreiter 1992, Random Number
    Generation and Quasi-Monte Carlo Methods, chapter 3). Rows that do not fill a batch are left out.
    """
    count = len(order) // batch_size
    batches = np.array(order[: count * batch_size]).reshape(count, batch_size)
    batches = batches[np.argsort(np.array(lengths)[batches].max(axis=1), kind="stable")]
    return batches[np.argsort(np.arange(count) * GOLDEN % 1)].ravel().tolist()


class OrderedTrainer(Trainer):
    """A Trainer that takes the rows as they stand, in every epoch."""

    def _get_train_sampler(self, train_dataset=None):
        return torch.utils.data.SequentialSampler(self.train_dataset)


class Stopwatch(TrainerCallback):
    """Times a Trainer's steps, and counts what is in them: a callback and, around another one, its data collator.

    `steps` holds (seconds, rows, real tokens, computed positions) of each step after the first `warmup` ones, which
    are slower (memory is claimed, code is chosen). After `seconds` of measured steps the training is stopped.
    """

    def __init__(self, collator, seconds: float, warmup: int = 2):
        self.collator, self.seconds, self.warmup = collator, seconds, warmup
        self.counts, self.steps, self.begin, self.taken = [], [], 0.0, 0

    def __call__(self, rows):
        batch = self.collator(rows)
        self.counts.append((len(rows), int(batch["attention_mask"].sum()), batch["input_ids"].numel()))
        return batch

    def on_step_end(self, args, state, control, **kwargs):
        """Note a step. The Trainer fetches batches ahead, so that `counts` may be longer than the steps taken."""
        over = sum(step[0] for step in self.steps) + time.perf_counter() - self.begin >= self.seconds
        last = self.taken >= self.warmup and over
        if (last or self.taken == self.warmup - 1) and torch.cuda.is_available():
            torch.cuda.synchronize()  # a GPU may still be computing
        now = time.perf_counter()
        if self.taken >= self.warmup:
            self.steps.append((now - self.begin, *self.counts[self.taken]))
        self.taken, self.begin = self.taken + 1, now
        if last:
            self.time_is_up(control)

    def time_is_up(self, control) -> None:
        """End the training."""
        control.should_training_stop = True

    def result(self) -> dict:
        """Return {"steps", "samples_per_second", "tokens_per_second", "step_seconds", "padding_share"}.

        step_seconds is a median; tokens are real ones; padding_share is that of all computed positions (0 to 1).
        """
        seconds, rows, tokens, positions = map(sum, zip(*self.steps, strict=True))
        return {
            "steps": len(self.steps),
            "samples_per_second": rows / seconds,
            "tokens_per_second": tokens / seconds,
            "step_seconds": statistics.median(step[0] for step in self.steps),
            "padding_share": 1 - tokens / positions,
        }


def arguments(settings: Settings, recipe: Recipe, folder: Path) -> TrainingArguments:
    """Return notebook 04's TrainingArguments with the recipe's values, and nothing beside the training steps."""
    values = {name: getattr(recipe, name) for name in ("batch_size", "learning_rate", "warmup", "weight_decay")}
    made = training.arguments(replace(settings, epochs=1000, **values), folder, recipe.precision)
    made.eval_strategy = made.save_strategy = made.logging_strategy = "no"
    made.disable_tqdm = True
    return made


def build(settings: Settings, recipe: Recipe, dataset: Dataset, watch: Stopwatch, most_rows: int = 8192) -> Trainer:
    """Return a Trainer that trains by the recipe until the stopwatch ends it.

    Batches are cut from all rows of the tokenized data set, as in real training; a fair sample of at most `most_rows`
    in them is used, again and again. The model has random weights: they cost the same time as pretrained ones, and
    nothing is to be kept.

    Raises:
        LessonError: fewer rows than a batch.
    """
    size, lengths = recipe.batch_size, tokenization.lengths(dataset)
    if len(dataset) < size:
        raise LessonError(f"{len(dataset)} rows do not fill a batch of {size}. Take more rows.")
    order = spread(row_order(lengths, recipe, settings.seed), lengths, size)[: max(1, most_rows // size) * size]
    model = gpu.untrained_model(settings, gpu.find_device().kind)
    model.set_attn_implementation(recipe.attention)
    trainer = OrderedTrainer(
        model=model,
        args=arguments(settings, recipe, settings.home / "speed"),
        train_dataset=padded(dataset.select(order), watch.collator.tokenizer, recipe, settings),
        data_collator=watch,
        callbacks=[watch],
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def measure(settings: Settings, recipe: Recipe, dataset: Dataset, tokenizer, seconds: float) -> dict:
    """Train by the recipe for about `seconds` on tokenized rows, not padded; return the stopwatch's result."""
    watch = Stopwatch(DataCollatorWithPadding(tokenizer), seconds)
    build(settings, recipe, dataset, watch).train()
    return watch.result()


def train(settings: Settings, recipe: Recipe, dataset: Dataset, tokenizer: PreTrainedTokenizerBase):
    """Return the pretrained model after one epoch of the recipe on tokenized rows."""
    set_seed(settings.seed)
    args = arguments(settings, recipe, settings.home / "speed")
    args.num_train_epochs = 1
    trainer = (training.LengthGroupedTrainer if recipe.padding == "grouped" else Trainer)(
        model=training.load_model(settings, dataset.features["label"].names),
        args=args,
        train_dataset=padded(dataset, tokenizer, recipe, settings),
        data_collator=DataCollatorWithPadding(tokenizer),
    )
    trainer.model.set_attn_implementation(recipe.attention)
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    return trainer.model
