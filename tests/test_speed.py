"""helpers/speed.py: recipes that build the Trainer they name, and a stopwatch that counts right."""

import dataclasses
import time

import numpy as np
import pytest
import torch
from support import make_settings, refused, tiny_data, tiny_model
from transformers import DataCollatorWithPadding, TrainerControl

from helpers import gpu, models, speed, tokenization
from helpers.recipe import Recipe


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """Return (settings, tokenized training rows, tokenizer) of a tiny model and data."""
    folder = tmp_path_factory.mktemp("speed")
    settings = make_settings(folder, model=tiny_model(folder / "model"), dataset=tiny_data(folder / "data"))
    settings = dataclasses.replace(settings, recipe=dataclasses.replace(settings.recipe, batch_size=24))
    splits, tokenizer = tokenization.load_or_make(settings)
    return settings, splits["train"], tokenizer


def watch(tokenizer, seconds=0.05, **options) -> speed.Stopwatch:
    """Return a stopwatch around the collator that pads."""
    return speed.Stopwatch(DataCollatorWithPadding(tokenizer), seconds, **options)


RECIPES = {
    "original": speed.ORIGINAL,
    "dynamic": speed.DYNAMIC,
    "grouped": Recipe(
        batch_size=24, padding="grouped", attention="eager", learning_rate=1e-3, warmup=0.2, weight_decay=0.1
    ),
    "half": Recipe(batch_size=8, padding="grouped", precision="bf16"),
}


@pytest.mark.parametrize("name", RECIPES)
def test_the_trainer_is_the_one_that_the_recipe_names(tiny, name):
    settings, rows, tokenizer = tiny
    recipe, stopwatch = RECIPES[name], watch(tokenizer)
    trainer = speed.make_timed_trainer(settings, recipe, rows, stopwatch)
    args = trainer.args
    assert args.per_device_train_batch_size == recipe.batch_size and args.gradient_accumulation_steps == 1
    assert (args.bf16, args.fp16) == (recipe.precision == "bf16", recipe.precision == "fp16")
    assert (args.learning_rate, args.weight_decay) == (recipe.learning_rate, recipe.weight_decay)
    assert args.warmup_steps == recipe.warmup
    assert trainer.model.config._attn_implementation == recipe.attention
    assert {p.dtype for p in trainer.model.parameters()} == {torch.float32}
    widths = [len(ids) for ids in trainer.train_dataset["input_ids"]]
    expected = [settings.recipe.max_length] * 96 if recipe.padding == "fixed" else sorted(tokenization.lengths(rows))
    assert sorted(widths) == expected
    trainer.train()
    assert not list((settings.home / "speed").glob("checkpoint*")), "nothing is kept"


@pytest.mark.parametrize("name", RECIPES)
def test_rows_tokens_and_positions_are_counted_exactly(tiny, name):
    settings, rows, tokenizer = tiny
    recipe, stopwatch = RECIPES[name], watch(tokenizer)
    trainer = speed.make_timed_trainer(settings, recipe, rows, stopwatch)
    trainer.train()
    found = np.array(tokenization.lengths(rows))
    order = speed.representative_order(speed.row_order(found, recipe, settings.seed), found, recipe.batch_size)
    lengths = found[order].reshape(-1, recipe.batch_size)
    expected = []
    for step in range(stopwatch.taken):
        batch = lengths[step % len(lengths)]
        width = settings.recipe.max_length if recipe.padding == "fixed" else batch.max()
        expected.append((len(batch), batch.sum(), len(batch) * width))
    assert stopwatch.counts[: stopwatch.taken] == expected
    result, counted = stopwatch.result(), expected[stopwatch.warmup :]
    assert result["steps"] == len(counted) == len(stopwatch.steps) >= 1
    assert result["padding_share"] == pytest.approx(1 - sum(c[1] for c in counted) / sum(c[2] for c in counted))


@pytest.mark.parametrize("name", ["dynamic", "half"])
def test_training_for_real_begins_with_the_pretrained_weights(tiny, name, capsys):
    settings, rows, tokenizer = tiny
    model = speed.train(settings, RECIPES[name], rows, tokenizer)
    table = model.distilbert.embeddings.word_embeddings.weight
    pretrained = models.load_model(settings, ["negative", "positive"]).distilbert.embeddings.word_embeddings.weight
    difference = (table - pretrained).abs().max()
    assert 0 < difference < 0.01
    assert "train_runtime" not in capsys.readouterr().out


def test_no_more_rows_are_used_than_asked_for_but_whole_batches(tiny):
    settings, rows, tokenizer = tiny
    for most, expected in ((50, 48), (3, 16), (10_000, 96)):
        trainer = speed.make_timed_trainer(settings, speed.DYNAMIC, rows, watch(tokenizer), most)
        assert len(trainer.train_dataset) == expected


def test_the_courses_recipe_is_the_settings_with_what_this_machine_does_best(tiny, no_stopwatch, tmp_path):
    settings = dataclasses.replace(tiny[0], home=tmp_path)
    recipe = gpu.choose_recipe(settings)
    assert recipe.precision == gpu.measure_machine(settings)["precision"]
    assert recipe.attention == models.attention(settings.recipe.batch_size)
    usual = dataclasses.replace(recipe, precision=settings.recipe.precision, attention=settings.recipe.attention)
    assert usual == settings.recipe and recipe.padding == "grouped"


def test_the_stopwatch_leaves_the_warm_up_out_and_stops_in_time(monkeypatch):
    batch = {"attention_mask": torch.tensor([[1, 1, 1], [1, 0, 0]]), "input_ids": torch.zeros(2, 3)}
    stopwatch, control = speed.Stopwatch(lambda rows: batch, seconds=2.5, warmup=2), TrainerControl()
    clock = 100.0
    monkeypatch.setattr(time, "perf_counter", lambda: clock)
    for seconds in (50, 9, 1, 1, 1):
        assert not control.should_training_stop
        stopwatch(["a", "b"])
        clock += seconds
        stopwatch.on_step_end(None, None, control)
    assert control.should_training_stop
    assert stopwatch.steps == [(1.0, 2, 4, 6)] * 3
    assert stopwatch.result() == {
        "steps": 3,
        "samples_per_second": 2.0,
        "tokens_per_second": 4.0,
        "step_seconds": 1.0,
        "padding_share": pytest.approx(1 / 3),
    }


def test_one_step_longer_than_the_time_is_enough(monkeypatch):
    batch = {"attention_mask": torch.ones(1, 1), "input_ids": torch.zeros(1, 1)}
    stopwatch, control = speed.Stopwatch(lambda rows: batch, seconds=1, warmup=2), TrainerControl()
    clock = 0.0
    monkeypatch.setattr(time, "perf_counter", lambda: clock)
    for _ in range(3):
        stopwatch(["a"])
        clock += 30
        stopwatch.on_step_end(None, None, control)
    assert control.should_training_stop and stopwatch.steps == [(30.0, 1, 1, 1)]


@pytest.mark.parametrize("batch_size", [1, 8, 16])
def test_every_stretch_of_representative_batches_is_a_fair_sample(batch_size):
    lengths = np.random.default_rng(0).gamma(2, 7, 4003).astype(int).clip(3, 128).tolist()
    order = list(tokenization.LengthGroupedSampler(lengths, batch_size, seed=1))
    spread = speed.representative_order(order, lengths, batch_size)
    cut = [sorted(order[i : i + batch_size]) for i in range(0, len(spread), batch_size)]
    batches = [spread[i : i + batch_size] for i in range(0, len(spread), batch_size)]
    assert sorted(map(sorted, batches)) == sorted(cut), "the same batches, each once"
    longest = np.array([max(lengths[i] for i in batch) for batch in batches])
    for begin in range(0, len(longest) - 60, 7):
        assert abs(longest[begin : begin + 60].mean() / longest.mean() - 1) < 0.15


def test_an_unknown_padding_is_refused():
    with refused("no-such-padding", "none", "fixed", "batch", "grouped"):
        Recipe(padding="none")


def test_too_few_rows_are_refused(tiny):
    settings, rows, tokenizer = tiny
    with refused("too-few-rows", "10", "16"):
        speed.measure_throughput(settings, speed.ORIGINAL, rows.select(range(10)), tokenizer, 1)


def test_each_gain_is_explained_by_what_was_changed():
    steps = {
        "original": {},
        "pad": {"padding": "batch"},
        "wide": {"batch_size": 64},
        "bf16": {"precision": "bf16"},
        "eager": {"attention": "eager"},
    }
    recipes, recipe = {}, speed.ORIGINAL
    for name, change in steps.items():
        recipes[name] = recipe = dataclasses.replace(recipe, **change)
    speeds, shares = (10, 40, 60, 90, 91), (0.9, 0.6, 0.6, 0.6, 0.6)
    measured = {
        name: {"samples_per_second": value, "padding_share": share}
        for name, value, share in zip(steps, speeds, shares, strict=True)
    }
    said = speed.gains(recipes, measured, {"fp32": 2e9, "bf16": 5e9})
    assert len(said) == 4
    assert said[0].startswith("pad: 4.00 times as fast") and "from 10.00 to 2.50" in said[0]
    assert said[1].startswith("wide: 1.50 times as fast") and "64 sentences instead of 16" in said[1]
    assert said[2].startswith("bf16: 1.50 times as fast") and "2.5 times as fast as in fp32" in said[2]
    assert said[3].startswith("eager: no clear gain (1.01)")
