"""The exercises of notebook 04."""

import math
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from cases import Case, exercise_tests
from support import make_settings
from transformers import Qwen2Config, Qwen2ForSequenceClassification

from helpers.exercises.check import Check
from helpers.exercises.judging import OPEN, RIGHT, WRONG

settings = make_settings(Path(tempfile.mkdtemp(prefix="lesson-")))
LOSSES, ACCURACIES = [0.495, 0.569], [0.785, 0.7925]


def which(losses, accuracies):
    return accuracies.index(max(accuracies)) + 1, losses.index(min(losses)) + 1


def last_of_equals(losses, accuracies):
    return len(accuracies) - accuracies[::-1].index(max(accuracies)), which(losses, accuracies)[1]


def rate(step, steps, highest, warm=0.1):
    warm = math.ceil(warm * steps)
    return highest * min(step / warm, (steps - step) / (steps - warm))


def one_later(step, steps, highest):
    return rate(min(step + 1, steps), steps, highest)


STEPS = 382
LOG = [{"step": step, "learning_rate": rate(step - 1, STEPS, settings.recipe.learning_rate)} for step in (19, 38, 200)]
NAMES = {
    "settings": settings,
    "model": SimpleNamespace(num_parameters=lambda: 3_728_898),
    "head": 66_306,
    "guess": torch.tensor([[0.4989, 0.5011], [0.5167, 0.4833]]),
    "splits": {"train": range(6100)},  # in batches of 32, so 64: 95.3 batches
    "summary": {"steps": STEPS, "log_history": LOG},
    "checks": [{"eval_loss": a, "eval_accuracy": b} for a, b in zip(LOSSES, ACCURACIES, strict=True)],
}
CASES = {
    "new_share": Case(
        right=[66_306 / 3_728_898, 0.0178, np.float32(0.0178)],
        wrong=[(1.78, "from 0 to 1"), (0.982, "share that is pretrained"), (98.2, "as a share"),
               (66306, "so many parameters are new"), (3728898, "all the parameters"), (56.2, "the part by the whole"),
               (0.3, "printed above"), (0.02, "rounded too much"), ("1.8%", "without quotation")],
    ),
    "first_loss": Case(
        right=[0.6931, math.log(2), 0.7, torch.tensor(0.69)],
        wrong=[(-0.693, "minus sign"), (0.5, "probability of the right label"), (0, "quite sure"), (1, "base 2"),
               (0.301, "base 10"), (5, "math.log(")],
    ),
    "steps_needed": Case(
        right=[288, 288.0],
        wrong=[(285, "rounded down"), (3 * 6100 / 64, "no part of a step"), (286, "rounded at the end"),
               (96, "one epoch"), (573, "twice as large"), (1146, "not more"), (192, "2 epochs"),
               (18300, "whole batch"), (286.5, "have halved the steps"), (289, "How many batches")],
    ),
    "which_epochs": Case(
        right=[which, lambda *table: [np.int64(number) for number in which(*table)]],
        wrong=[
            (lambda losses, accuracies: [n - 1 for n in which(losses, accuracies)], "counts from 0"),
            (lambda losses, accuracies: which(losses, accuracies)[::-1], "wrong order"),
            (lambda losses, accuracies: (max(accuracies), min(losses)), "numbers of their epochs"),
            (lambda losses, accuracies: (which(losses, accuracies)[1],) * 2, "you keep the lowest loss"),
            (lambda losses, accuracies: (accuracies.index(min(accuracies)) + 1, 2), "high is good"),
            (lambda losses, accuracies: (len(losses), which(losses, accuracies)[1]), "the last epoch"),
            (lambda losses, accuracies: (3, which(losses, accuracies)[1]), "epoch 5 has the highest accuracy"),
            (lambda *table: (which(*table)[0] - 1, which(*table)[1]), "one too low"),
            (lambda *table: (which(*table)[0], which(*table)[1] - 1), "one too low"),
            (last_of_equals, "keeps the first"),
            (lambda losses, accuracies: (which(losses, accuracies)[0], losses.index(max(losses)) + 1), "low is good"),
            (lambda losses, accuracies: (which(losses, accuracies)[0], which(losses, accuracies)[1] + 1), "has risen"),
            (lambda losses, accuracies: (which(losses, accuracies)[0], 5), "lowest after epoch 2"),
            (lambda losses, accuracies: which(losses, accuracies)[0], "return two numbers"),
            (lambda losses, accuracies: (5, 2) if len(losses) == 6 else (2, 1), "the losses [0.6,"),
            (lambda losses: 1, "TypeError"),
            ((2, 1), "a function is asked for"),
        ],
    ),
    "schedule": Case(
        right=[rate, one_later, lambda *given: torch.tensor(rate(*given)), lambda *given: np.float32(rate(*given))],
        wrong=[
            (lambda step, steps, highest: highest, "begin with the highest"),
            (lambda step, steps, highest: highest * (1 - step / steps), "begin with the highest"),
            (lambda step, steps, highest: highest * step / steps, "rises all the time"),
            (lambda step, steps, highest: min(step / (0.1 * steps), 1) * highest, "stays at the highest"),
            (lambda step, steps, highest: highest * min(step / (0.1 * steps), 1 - step / steps), "after the warm-up"),
            (lambda step, steps, highest: rate(step, steps, 1), "Multiply it by `highest`"),
            (lambda step, steps, highest: rate(step, 1000, highest), "with 40 steps"),
            (lambda step, steps, highest: rate(step, steps, highest, 0.3), "it should be 0.0002 at step 100"),
            (lambda step, steps, highest: min(step / 100, 1 - 2 * (step - 100) / 900) * highest, "never below 0"),
            (lambda *given: [rate(*given)], "return one number"),
            (lambda step, steps, highest: step / 0, "ZeroDivisionError"),
            (0.0003, "a function is asked for"),
        ],
    ),
}  # fmt: skip
TestExercises = exercise_tests("training", NAMES, CASES)


def checks(**names) -> Check:
    """Return the checks of a notebook with some other variables."""
    return Check("training", NAMES | names, remember=False)


@pytest.mark.parametrize("name", ["which_epochs", "schedule"])
def test_a_function_may_return_anything(name):
    results = ["ab", {}, {"a": 1}, object(), np.ndarray, [], [[], []], [None, None], "12", (True, True), len]
    results += [torch.ones(2, 2), float("nan"), float("inf"), (10**400, 1), 10**400, np.array(["x"]), (float("nan"), 1)]
    for result in results:
        reply = getattr(checks(), name)(lambda *given, result=result: result)
        assert reply.state == WRONG and len(reply.text) > 15, (result, reply)


def test_before_the_model_is_loaded_the_name_in_the_form_is_not_taken_for_it():
    assert checks(model="").new_share(0.0178).state == OPEN


def test_the_head_of_a_decoder_is_found_whatever_it_is_called():
    """A notebook that looks for "classifier" in the names counts 0: this head is called "score"."""
    layers = {"vocab_size": 20, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1}
    config = Qwen2Config(num_attention_heads=2, num_key_value_heads=2, num_labels=3, **layers)
    model = Qwen2ForSequenceClassification(config)
    assert checks(model=model, head=0).new_share(24 / model.num_parameters()).state == RIGHT
    assert checks(model=model, head=0).new_share(0.9).state == WRONG


def test_a_training_without_a_warm_up_is_answered_too():
    recipe = SimpleNamespace(warmup=0, learning_rate=2e-4)
    here = checks(settings=SimpleNamespace(recipe=recipe), summary={"steps": 10, "log_history": []})
    assert here.schedule(lambda step, steps, highest: highest * (1 - step / steps)).state == RIGHT
    assert here.schedule(lambda step, steps, highest: highest).state == WRONG


def test_the_schedule_is_compared_with_the_rates_of_the_run():
    assert "at most 0.0% of the highest" in checks().schedule(rate).text


def test_three_labels_have_a_higher_first_loss():
    three = checks(guess=torch.full((2, 3), 1 / 3))
    assert three.first_loss(math.log(3)).state == RIGHT
    assert three.first_loss(math.log(2)).state == WRONG


@pytest.mark.parametrize("rows", [16, 64, 640])
def test_whole_batches_need_no_rounding(rows):
    few = checks(splits={"train": range(rows)})
    assert few.steps_needed(3 * max(1, rows // 64)).state == RIGHT


def test_one_epoch_is_enough_for_the_checks():
    one = checks(checks=NAMES["checks"][:1], summary=NAMES["summary"] | {"log_history": []})
    assert one.which_epochs(which).state == one.schedule(rate).state == RIGHT
