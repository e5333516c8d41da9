"""Notebook 03: from sentences to token ids, and how little padding a batch needs."""

from pathlib import Path

import numpy as np
import torch
from datasets import DatasetDict, load_from_disk
from transformers import PreTrainedTokenizerBase
from transformers.trainer_pt_utils import get_length_grouped_indices

from helpers import data, models
from helpers.durable import handoff
from helpers.settings import Settings

CHUNK = 50  # batches that are sorted by length together


def tokenize(splits: DatasetDict, tokenizer: PreTrainedTokenizerBase, max_length: int) -> DatasetDict:
    """Return the splits with input_ids and attention_mask, not padded, cut at max_length tokens; text removed."""

    def cut(rows):
        return tokenizer(rows["sentence"], truncation=True, max_length=max_length)

    spare = {name: [c for c in part.column_names if c != "label"] for name, part in splits.items()}
    return DatasetDict({name: part.map(cut, batched=True, remove_columns=spare[name]) for name, part in splits.items()})


def lengths(dataset) -> list[int]:
    """Return the number of tokens of each row of a tokenized data set."""
    return [len(ids) for ids in dataset["input_ids"]]


class LengthGroupedSampler(torch.utils.data.Sampler):
    """Row numbers in an order that puts sentences of similar length into the same batch.

    The grouping is that of transformers (`get_length_grouped_indices`: shuffle, cut into chunks of 50 batches, sort
    each chunk by length). Then the batches are shuffled: else training would see all long sentences of a chunk, then
    all short ones, and with large batches it can fail to learn (benchmarks/README.md). The order depends on seed and
    epoch alone, so that a resumed run and each of several processes see the same batches.
    """

    def __init__(self, lengths: list[int], batch_size: int, seed: int):
        self.lengths, self.batch_size, self.seed, self.epoch = lengths, batch_size, seed, 0

    def __len__(self) -> int:
        return len(self.lengths)

    def set_epoch(self, epoch: int) -> None:
        """Called by the Trainer when an epoch begins: another epoch, another order."""
        self.epoch = epoch

    def __iter__(self):
        generator = torch.Generator().manual_seed(1000 * self.seed + self.epoch)  # no two runs share an order
        rows = get_length_grouped_indices(self.lengths, self.batch_size, CHUNK, generator=generator)
        batches = [rows[i : i + self.batch_size] for i in range(0, len(rows), self.batch_size)]
        full = len(rows) // self.batch_size  # a last batch that is not full stays the last one
        order = torch.randperm(full, generator=generator).tolist() + list(range(full, len(batches)))
        return iter([row for number in order for row in batches[number]])


def padding_share(lengths: list[int], order: list[int], batch_size: int, fixed: int | None = None) -> float:
    """Return the share (0 to 1) of computed positions that are padding.

    Args:
        order: row numbers in the order in which batches are cut from them.
        fixed: pad every row to this many tokens; None: to the longest row of its batch.
    """
    taken = np.array([lengths[i] for i in order])
    batches = [taken[i : i + batch_size] for i in range(0, len(taken), batch_size)]
    computed = sum(len(batch) * (fixed or batch.max()) for batch in batches)
    return float(1 - taken.sum() / computed)


def save(settings: Settings, tokenized: DatasetDict) -> Path:
    """Leave the tokenized splits for the next notebooks, complete or not at all. Returns their folder."""
    folder, fingerprint = settings.home / "tokenized", settings.fingerprint("tokenized")
    return handoff.save(folder, fingerprint, lambda aside: tokenized.save_to_disk(str(aside)))


def load_or_make(settings: Settings) -> tuple[DatasetDict, PreTrainedTokenizerBase]:
    """Return the tokenized splits that notebook 03 left (made when they are not there) and the tokenizer."""
    tokenizer = models.load_tokenizer(settings)

    def make(folder: Path) -> None:
        tokenize(data.load_or_make(settings), tokenizer, settings.recipe.max_length).save_to_disk(str(folder))

    tokenized = handoff.load_or_make(
        settings.home / "tokenized",
        settings.fingerprint("tokenized"),
        make,
        load=lambda folder: load_from_disk(str(folder)),
        told="The token ids are not ready yet for these settings: tokenizing now, as notebook 3 does.",
    )
    return tokenized, tokenizer
