"""Tokenization: the same ids as plain calls, batches of similar length, and sentences that nobody expected."""

import random

import numpy as np
import pytest
import torch
from datasets import Dataset, DatasetDict
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from support import make_settings, refused, tiny_data, tiny_model
from transformers import AutoTokenizer

from helpers import data, models, tokenization
from helpers.recipe import Recipe
from helpers.tokenization import LengthGroupedSampler, padding_share

ODD = {
    "empty": "",
    "blank": " \t\r\n ",
    "emoji": "🎬👍🏽 a family of one: 👩‍👩‍👧‍👦",
    "right to left": "פילם נפלא وفيلم رائع \u202e backwards",
    "Chinese": "这部电影很好看",
    "combining": "Z̸a̷l̶g̵o̴ e\u0301",
    "control": "bell\x07 escape\x1b[31m delete\x7f",
    "null": "before\0after",
    "noncharacter": "\ufffe\uffff\U0010ffff",
    "one long word": "x" * 20_000,
    "ten thousand words": "word " * 10_000,
    "special tokens": "[SEP] [PAD] [CLS] [MASK] [UNK]",
}
MAX_LENGTH = Recipe().max_length
LENGTHS = st.lists(st.integers(1, 40), min_size=1, max_size=300)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    """Return the tokenizer of the shipped model."""
    return models.load_tokenizer(make_settings(tmp_path_factory.mktemp("home")))


def as_splits(sentences: list[str]) -> DatasetDict:
    """Return a data set of one split."""
    return DatasetDict(
        train=Dataset.from_dict({"sentence": sentences, "label": [0] * len(sentences), "tag": sentences})
    )


def test_tokenize_equals_plain_calls(tmp_path, tokenizer):
    settings = make_settings(tmp_path, dataset=tiny_data(tmp_path / "data"))
    splits = data.load_or_make(settings)
    tokenized = tokenization.tokenize(splits, tokenizer, settings.recipe.max_length)
    assert tokenized.num_rows == splits.num_rows
    for name, part in splits.items():
        plain = [tokenizer(s, truncation=True, max_length=settings.recipe.max_length) for s in part["sentence"]]
        assert tokenized[name]["input_ids"][:] == [row["input_ids"] for row in plain]
        assert tokenized[name]["attention_mask"][:] == [row["attention_mask"] for row in plain]
        assert tokenized[name]["label"][:] == part["label"][:]
        assert set(tokenized[name].column_names) == {"label", *plain[0]}


def test_the_token_ids_are_made_once(tmp_path, capsys):
    settings = make_settings(tmp_path, dataset=tiny_data(tmp_path / "data"), model=tiny_model(tmp_path / "model"))
    first, _ = tokenization.load_or_make(settings)
    assert "tokenizing now" in capsys.readouterr().out
    second, tokenizer = tokenization.load_or_make(settings)
    assert capsys.readouterr().out == ""
    assert second["train"].to_list() == first["train"].to_list()
    text = tokenizer.decode(second["train"][0]["input_ids"], skip_special_tokens=True)
    assert text == data.load_or_make(settings)["train"][0]["sentence"]


def test_what_is_saved_is_loaded(tmp_path, capsys):
    settings = make_settings(tmp_path, dataset=tiny_data(tmp_path / "data"), model=tiny_model(tmp_path / "model"))
    splits, tokenizer = data.load_or_make(settings), models.load_tokenizer(settings)
    kept = tokenization.tokenize(splits, tokenizer, settings.recipe.max_length)
    tokenization.save(settings, kept)
    capsys.readouterr()
    assert tokenization.load_or_make(settings)[0]["test"].to_list() == kept["test"].to_list()
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("name", ODD)
def test_odd_sentences_become_at_most_max_length_tokens(tokenizer, name):
    tokenized = tokenization.tokenize(as_splits(["plain", ODD[name]]), tokenizer, MAX_LENGTH)
    plain, odd = tokenization.lengths(tokenized["train"])
    assert plain >= 3 and 2 <= odd <= MAX_LENGTH
    assert all(0 <= token < len(tokenizer) for token in tokenized["train"][1]["input_ids"])
    assert tokenized["train"].column_names == ["label", "input_ids", "attention_mask"]


def test_long_sentences_are_cut_at_the_limit_and_keep_their_end_token(tokenizer):
    tokenized = tokenization.tokenize(as_splits([ODD["ten thousand words"]]), tokenizer, MAX_LENGTH)
    (ids,) = tokenized["train"]["input_ids"][:]
    assert len(ids) == MAX_LENGTH and ids[-1] == tokenizer.sep_token_id


def test_a_tokenizer_without_padding_token_is_refused(tmp_path):
    folder = tiny_model(tmp_path / "padless")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.pad_token = None
    tokenizer.save_pretrained(folder)
    with refused("no-padding", "padless"):
        models.load_tokenizer(make_settings(tmp_path, model=folder))


@given(LENGTHS, st.integers(1, 64), st.integers(0, 2**31))
@hypothesis_settings(deadline=None, max_examples=50)
def test_the_sampler_gives_every_row_once(lengths, batch_size, seed):
    sampler = LengthGroupedSampler(lengths, batch_size, seed)
    assert sorted(sampler) == list(range(len(lengths))) and len(sampler) == len(lengths)


def test_the_samplers_order_depends_on_seed_and_epoch_alone():
    lengths = random.Random(0).choices(range(5, 60), k=500)
    torch.manual_seed(1)
    sampler = LengthGroupedSampler(lengths, 16, seed=3)
    first = list(sampler)
    state = torch.get_rng_state()
    assert list(sampler) == first, "the same epoch, the same order"
    assert torch.equal(torch.get_rng_state(), state), "torch's own generator is left alone"
    torch.manual_seed(2)
    assert list(LengthGroupedSampler(lengths, 16, seed=3)) == first
    assert list(LengthGroupedSampler(lengths, 16, seed=4)) != first
    sampler.set_epoch(1)
    second = list(sampler)
    assert second != first
    sampler.set_epoch(0)
    assert list(sampler) == first


def test_two_seeds_do_not_share_their_epochs():
    lengths = random.Random(0).choices(range(5, 60), k=500)
    later = LengthGroupedSampler(lengths, 16, seed=42)
    later.set_epoch(1)
    assert list(later) != list(LengthGroupedSampler(lengths, 16, seed=43)), "seed 43 is no repetition of seed 42"


def test_grouping_puts_like_lengths_together():
    lengths = random.Random(0).choices(range(5, 60), k=2000)
    order = list(LengthGroupedSampler(lengths, 16, 1))
    spread = [np.ptp([lengths[i] for i in order[b : b + 16]]) for b in range(0, 2000, 16)]
    assert np.mean(spread) < 10
    assert padding_share(lengths, order, 16) < 0.5 * padding_share(lengths, list(range(2000)), 16)


@given(LENGTHS, st.integers(1, 64), st.randoms(use_true_random=False), st.none() | st.just(64))
@hypothesis_settings(deadline=None)
def test_padding_share_equals_counting_the_zeros_of_padded_batches(lengths, batch_size, generator, fixed):
    order = generator.sample(range(len(lengths)), len(lengths))
    computed = real = 0
    for begin in range(0, len(order), batch_size):
        rows = [lengths[i] for i in order[begin : begin + batch_size]]
        width = fixed or max(rows)
        mask = np.array([[1] * row + [0] * (width - row) for row in rows])
        computed, real = computed + mask.size, real + mask.sum()
    assert padding_share(lengths, order, batch_size, fixed) == pytest.approx(1 - real / computed)


def test_padding_share_of_equal_lengths_is_zero():
    assert padding_share([7] * 10, list(range(10)), 4) == 0
    assert padding_share([32] * 10, list(range(10)), 4, fixed=128) == 0.75
