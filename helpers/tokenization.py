"""Notebook 03: from sentences to token ids, and how little padding a batch needs."""

from pathlib import Path

import numpy as np
import torch
from datasets import DatasetDict, load_from_disk
from transformers import AutoTokenizer, PreTrainedTokenizerBase
from transformers.trainer_pt_utils import get_length_grouped_indices

from helpers import data
from helpers.files import is_complete, lock, replace_folder, room_for
from helpers.pretrained import check_tokenizer
from helpers.settings import Settings


def load_tokenizer(settings: Settings) -> PreTrainedTokenizerBase:
    """Return the tokenizer that belongs to the model.

    Raises:
        LessonError: it has no padding token, so that sentences of different length cannot share a batch, or no words.
    """
    tokenizer = AutoTokenizer.from_pretrained(settings.model, revision=settings.model_revision)
    check_tokenizer(settings, tokenizer)
    return tokenizer


def tokenize(splits: DatasetDict, tokenizer: PreTrainedTokenizerBase, settings: Settings) -> DatasetDict:
    """Return the splits with input_ids and attention_mask, not padded, cut at max_length tokens; text removed."""

    def cut(rows):
        return tokenizer(rows["sentence"], truncation=True, max_length=settings.max_length)

    spare = {name: [c for c in part.column_names if c != "label"] for name, part in splits.items()}
    return DatasetDict({name: part.map(cut, batched=True, remove_columns=spare[name]) for name, part in splits.items()})


def lengths(dataset) -> list[int]:
    """Return the number of tokens of each row of a tokenized data set."""
    return [len(ids) for ids in dataset["input_ids"]]


CHUNK = 50  # batches that are sorted by length together; transformers takes fewer where there are few rows


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


def keep(settings: Settings, tokenized: DatasetDict) -> Path:
    """Leave the tokenized splits for the next notebooks, complete or not at all. Returns their folder."""
    folder = settings.home / "tokenized"
    with lock(folder), replace_folder(folder, settings.identity("tokenized")) as aside:
        tokenized.save_to_disk(str(aside))
    return folder


def prepare(settings: Settings) -> tuple[DatasetDict, PreTrainedTokenizerBase]:
    """Return the tokenized splits that notebook 03 left (made when they are not there) and the tokenizer."""
    folder, tokenizer = settings.home / "tokenized", load_tokenizer(settings)
    splits = data.prepare(settings)
    with lock(folder), room_for("the token ids", settings.home):
        if not is_complete(folder, settings.identity("tokenized")):
            print("Notebook 03 has left no token ids for these settings: tokenizing now.")
            keep(settings, tokenize(splits, tokenizer, settings))
        return load_from_disk(str(folder)), tokenizer
