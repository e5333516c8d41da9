"""Notebook 06: ways to train, and a stopwatch that tells how fast each of them is."""

import itertools
import statistics
import time
from dataclasses import replace
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

from helpers import gpu, models, tokenization, training
from helpers.durable.errors import LessonError
from helpers.recipe import Recipe
from helpers.settings import Settings

GOLDEN = (5**0.5 - 1) / 2
ORIGINAL = Recipe()
DYNAMIC = Recipe(padding="batch")  # what most courses do


def pad_to_max_length(dataset: Dataset, tokenizer: PreTrainedTokenizerBase, recipe: Recipe) -> Dataset:
    """Return the tokenized rows as the recipe wants them: all padded to max_length where its padding is "fixed"."""
    if recipe.padding != "fixed":
        return dataset
    fill = {"padding": "max_length", "max_length": recipe.max_length}
    return dataset.map(lambda rows: dict(tokenizer.pad(rows, **fill)), batched=True, keep_in_memory=True)


def row_order(lengths: list[int], recipe: Recipe, seed: int) -> list[int]:
    """Return the row numbers in the order in which the recipe's batches are cut from them."""
    if recipe.padding == "grouped":
        return list(tokenization.LengthGroupedSampler(lengths, recipe.batch_size, seed))
    return torch.randperm(len(lengths), generator=torch.Generator().manual_seed(seed)).tolist()


def representative_order(order: list[int], lengths: list[int], batch_size: int) -> list[int]:
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


def timing_arguments(recipe: Recipe, folder: Path, epochs: int = 1000) -> TrainingArguments:
    """Return the recipe's TrainingArguments, and nothing beside the training steps: no evaluation, saving or log."""
    quiet = {name: "no" for name in ("eval_strategy", "save_strategy", "logging_strategy")}
    return replace(recipe, epochs=epochs).arguments(folder, disable_tqdm=True, **quiet)


def make_timed_trainer(
    settings: Settings, recipe: Recipe, dataset: Dataset, watch: Stopwatch, max_rows: int = 8192
) -> Trainer:
    """Return a Trainer that trains by the recipe until the stopwatch ends it.

    Batches are cut from all rows of the tokenized data set, as in real training; a fair sample of at most `max_rows`
    in them is used, again and again. The model has random weights: they cost the same time as pretrained ones, and
    nothing is to be kept.

    Raises:
        LessonError: fewer rows than a batch.
    """
    size, lengths = recipe.batch_size, tokenization.lengths(dataset)
    if len(dataset) < size:
        raise LessonError(f"{len(dataset)} rows do not fill a batch of {size}. Take more rows.", "too-few-rows")
    order = representative_order(row_order(lengths, recipe, settings.seed), lengths, size)
    order = order[: max(1, max_rows // size) * size]
    classes = dataset.features["label"].num_classes
    model = models.untrained_model(settings, classes, gpu.find_device().kind)
    model.set_attn_implementation(recipe.attention)
    trainer = OrderedTrainer(
        model=model,
        args=timing_arguments(recipe, settings.home / "speed"),
        train_dataset=pad_to_max_length(dataset.select(order), watch.collator.tokenizer, recipe),
        data_collator=watch,
        callbacks=[watch],
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def measure_throughput(settings: Settings, recipe: Recipe, dataset: Dataset, tokenizer, seconds: float) -> dict:
    """Train by the recipe for about `seconds` on tokenized rows, not padded; return the stopwatch's result."""
    watch = Stopwatch(DataCollatorWithPadding(tokenizer), seconds)
    make_timed_trainer(settings, recipe, dataset, watch).train()
    return watch.result()


def train(settings: Settings, recipe: Recipe, dataset: Dataset, tokenizer: PreTrainedTokenizerBase):
    """Return the pretrained model after one epoch of the recipe on tokenized rows."""
    set_seed(settings.seed)
    trainer = (training.LengthGroupedTrainer if recipe.padding == "grouped" else Trainer)(
        model=models.load_model(settings, dataset.features["label"].names, recipe.attention),
        args=timing_arguments(recipe, settings.home / "speed", epochs=1),
        train_dataset=pad_to_max_length(dataset, tokenizer, recipe),
        data_collator=DataCollatorWithPadding(tokenizer),
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    return trainer.model


def gains(recipes: dict, measured: dict[str, dict], peaks: dict[str, float]) -> list[str]:
    """Return a sentence on what each recipe gains over the one before it, made from the numbers alone.

    Args:
        recipes: `Recipe`s; each differs from the one before in one field. measured: what `measure_throughput` returns.
        peaks: FLOP/s of a large matrix multiplication in each recipe's precision.
    """
    said, names = [], list(recipes)
    for before, name in itertools.pairwise(names):
        old, new, was, now = recipes[before], recipes[name], measured[before], measured[name]
        gain = now["samples_per_second"] / was["samples_per_second"]
        text = f"{name}: {gain:.2f} times as fast" if abs(gain - 1) > 0.05 else f"{name}: no clear gain ({gain:.2f})"
        if new.padding != old.padding:
            each = [1 / (1 - result["padding_share"]) for result in (was, now)]
            why = f"positions computed for one real token went from {each[0]:.2f} to {each[1]:.2f}"
        elif new.batch_size != old.batch_size:
            why = f"the fixed costs of a step are shared by {new.batch_size} sentences instead of {old.batch_size}"
        elif new.precision != old.precision:
            times = peaks[new.precision] / peaks[old.precision]
            why = f"a large multiplication in {new.precision} is {times:.1f} times as fast as in {old.precision}"
        else:
            why = f"{new.attention} attention instead of {old.attention} computes the same in other pieces"
        said.append(f"{text}. {why[0].upper()}{why[1:]}.")
    return said
