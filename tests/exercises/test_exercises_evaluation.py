"""The exercises of notebook 05."""

import math
import random
import tempfile
from pathlib import Path

import numpy as np
import pytest
from cases import Case, exercise_tests
from support import make_settings

from helpers import evaluation
from helpers.exercises.check import Check
from helpers.exercises.evaluation import _best
from helpers.exercises.judging import RIGHT

settings = make_settings(Path(tempfile.mkdtemp(prefix="lesson-")))
generator = np.random.default_rng(5)
ROWS = 600
positive = generator.beta(0.4, 0.4, ROWS)
probabilities = np.stack([1 - positive, positive], axis=1)
labels = (generator.random(ROWS) < 0.15 + 0.7 * positive).astype(int)
right = probabilities.argmax(axis=1) == labels
low, high = evaluation.wilson_interval(right.sum(), ROWS)
NAMES = {
    "settings": settings,
    "probabilities": probabilities,
    "labels": labels,
    "right": right,
    "low": low,
    "high": high,
    "baselines": {"TF-IDF": np.where(generator.random(ROWS) < 0.25, ~right, right)},
}
WIDTH = high - low


def sure_mistakes(probabilities, labels, least):
    sure = probabilities.max(axis=1) >= least
    return (probabilities.argmax(axis=1) != labels)[sure].mean()


def sure_mistakes_row_by_row(probabilities, labels, least):
    mistakes = sure = 0
    for row, label in zip(probabilities.tolist(), labels, strict=True):
        if max(row) >= least:
            sure += 1
            mistakes += row.index(max(row)) != label
    return mistakes / sure


def variant(keep=None, made=None):
    """Return a function like sure_mistakes that makes one mistake: in what it keeps, or in what it makes of it."""

    def function(probabilities, labels, least):
        sure = probabilities.max(axis=1) >= least if keep is None else keep(probabilities, least)
        wrong = probabilities.argmax(axis=1) != labels
        return wrong[sure].mean() if made is None else made(wrong, sure)

    return function


dice = np.random.default_rng(0)


def played(choose=max, share=True, games=2000):
    """Return a function that plays best_of with numpy; choose: what is reported of the models."""

    def function(models, accuracy, rows):
        found = [choose(dice.binomial(rows, accuracy, models).tolist()) for _ in range(games)]
        return sum(found) / games / (rows if share else 1)

    return function


def played_with_coins(models, accuracy, rows, games=200):
    """Play best_of with nothing but Python's random numbers."""
    coin = random.Random(3).random
    best = [max(sum(coin() < accuracy for _ in range(rows)) for _ in range(models)) for _ in range(games)]
    return sum(best) / games / rows


CASES = {
    "interval_width": Case(
        right=[100 * WIDTH, round(100 * WIDTH, 2), np.float32(100 * WIDTH)],
        wrong=[
            (50 * WIDTH, "half width"),
            (WIDTH, "multiply by 100"),
            (WIDTH / 2, "half width, as a share"),
            (100 * low, "lower end"),
            (100 * high, "upper end"),
            (95, "upper end minus the lower end"),
        ],
    ),
    "half_as_wide": Case(
        right=[2400, 2380, np.int64(2500)],
        wrong=[
            (1200, "with twice the sentences it is still 0.71"),
            (1800, "have to be added"),
            (849, "has the square root 2"),
            (300, "becomes wider"),
            (150, "turned round"),
            (600, "there are now"),
            (4, "that is the factor"),
            (10**6, "evaluation.wilson_interval"),
            (10**400, "evaluation.wilson_interval"),
        ],
    ),
    "more_agreement": Case(
        right=["the same", " The same "],
        wrong=[("smaller", "not won one sentence more"), ("larger", "come closer"), ("same", '"the same"')],
    ),
    "mistakes_when_sure": Case(
        right=[sure_mistakes, sure_mistakes_row_by_row],
        wrong=[
            (variant(made=lambda wrong, sure: 1 - wrong[sure].mean()), "The mistakes are the rest"),
            (variant(made=lambda wrong, sure: wrong[sure].sum()), "how many mistakes"),
            (variant(made=lambda wrong, sure: 100 * wrong[sure].mean()), "percentage"),
            (variant(made=lambda wrong, sure: (wrong & sure).mean()), "you divide by all answers"),
            (variant(made=lambda wrong, sure: sure[wrong].mean()), "share of the mistakes that is sure"),
            (variant(made=lambda wrong, sure: wrong.mean()), "Keep the sure ones first"),
            (variant(keep=lambda found, least: found.max(axis=1) < least), "less sure"),
            (variant(keep=lambda found, least: found[:, 1] >= least), "one column only"),
            (lambda probabilities, labels, least: 0.5, "would be right. How sure"),
            (lambda probabilities, labels, least: labels, "a number is asked for"),
            (lambda probabilities, labels: 0.5, "TypeError"),
            (lambda probabilities, labels, least: probabilities > labels, "ValueError"),
            (sure_mistakes(probabilities, labels, 0.9), "without brackets"),
        ],
    ),
    "best_of": Case(
        right=[played(), played_with_coins, _best],
        wrong=[
            (lambda models, accuracy, rows: accuracy, "mean of all models"),
            (played(choose=lambda found: sum(found) / len(found)), "mean of all models"),
            (played(choose=min), "the worst"),
            (played(share=False), "Divide by `rows`"),
            (lambda *asked: 100 * _best(*asked), "percentage"),
            (lambda models, accuracy, rows: _best(models, accuracy, rows) - accuracy, "that is too low"),
            (lambda models, accuracy, rows: played(games=500)(500 * models, accuracy, rows), "that is too high"),
            (lambda models, accuracy, rows: dice.binomial(rows, accuracy, models) / rows, "a number is asked for"),
            (0.85, "without brackets"),
        ],
    ),
}
TestExercises = exercise_tests("evaluation", NAMES, CASES)


@pytest.mark.parametrize("accuracy, times", [(0.5, 4), (0.9, 4), (0.0, 2), (1.0, 2)])
@pytest.mark.parametrize("rows", [100, 872, 20_000])
def test_near_0_and_1_half_the_width_costs_only_twice_the_sentences(accuracy, times, rows):
    right = np.arange(rows) < round(accuracy * rows)
    low, high = evaluation.wilson_interval(right.sum(), rows)
    check = Check("evaluation", NAMES | {"right": right, "low": low, "high": high}, remember=False)
    assert [check.half_as_wide(n * rows).state == RIGHT for n in range(1, 8)] == [n == times for n in range(1, 8)]


@pytest.mark.parametrize("models, accuracy, rows", [(1, 0.7, 50), (10, 0.8, 600), (50, 0.95, 80), (3, 1.0, 20)])
def test_the_best_of_many_is_computed_exactly(models, accuracy, rows):
    shares = np.random.default_rng(1).binomial(rows, accuracy, (40_000, models)).max(axis=1) / rows
    assert math.isclose(_best(models, accuracy, rows), shares.mean(), abs_tol=4 * shares.std() / 200 + 1e-12)


def test_a_model_that_is_never_sure_is_answered_too():
    names = NAMES | {"probabilities": np.full((ROWS, 2), 0.5)}
    assert "never 90% sure" in Check("evaluation", names, remember=False).mistakes_when_sure(sure_mistakes).text


def test_three_labels_are_judged_like_two():
    three = generator.dirichlet([0.4, 0.4, 0.4], ROWS)
    truth = np.where(generator.random(ROWS) < 0.7, three.argmax(axis=1), 1)
    names = NAMES | {"probabilities": three, "labels": truth, "right": three.argmax(axis=1) == truth}
    names["low"], names["high"] = evaluation.wilson_interval(names["right"].sum(), ROWS)
    check = Check("evaluation", names, remember=False)
    for name, case in CASES.items():
        answers = {"interval_width": [100 * (names["high"] - names["low"])], "half_as_wide": [2400]}
        assert [getattr(check, name)(answer).state for answer in answers.get(name, case.right)].count(RIGHT) >= 1
