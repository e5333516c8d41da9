"""The exercises of notebook 05, in the order in which they come. `run` holds the notebook's variables."""

import bisect

import numpy as np
from scipy.stats import binom

from helpers import evaluation
from helpers.exercises.judging import (
    NotebookVariables,
    Reply,
    check_cases,
    check_numbers,
    choice,
    number,
    right,
    to_float,
)

SURE, MODELS = 0.9, 10


def interval_width(answer, run: NotebookVariables) -> Reply:
    """Read the output: how wide is the interval, from end to end, in percentage points?"""
    width = 100 * (run.high - run.low)
    return number(
        answer,
        width,
        yes=f"On {len(run.right):,} sentences the true accuracy may lie anywhere in a range of {width:.1f} points. "
        "Whoever reports four digits without it claims more than was measured.",
        mistakes=[
            (width / 2, "that is the half width: from the middle to one end. Take it from end to end."),
            (width / 100, "that is a share. A percentage point is one hundredth: multiply by 100."),
            (width / 200, "that is the half width, as a share. Take it from end to end, in points (times 100)."),
            (100 * run.low, "that is the lower end. The width is the distance between the two ends."),
            (100 * run.high, "that is the upper end. The width is the distance between the two ends."),
        ],
        hint="that is another number. Take the upper end minus the lower end, and multiply by 100 to get points. Keep "
        "two digits.",
    )


def half_as_wide(answer, run: NotebookVariables) -> Reply:
    """Predict: how many test sentences would make the interval half as wide, at the same accuracy?"""
    rows = len(run.right)

    def width(count: int) -> float:
        low, high = evaluation.wilson_interval(round(run.right.mean() * count), count)
        return (high - low) / (run.high - run.low)

    counts = range(rows, 20 * rows)
    need = counts[bisect.bisect_left(counts, -0.5, key=lambda count: -width(count))]
    return number(
        answer,
        need,
        yes=f"Twice as sure costs about {need / rows:.0f} times the sentences: the width goes with the square root of "
        "their number. That is why a small difference between two models is so hard to prove.",
        mistakes=[
            (2 * rows, f"with twice the sentences it is still {width(2 * rows):.2f} times as wide: the width goes with "
             "the square root of their number."),
            (need - rows, "so many have to be added. How many are there then in all?"),
            (2**0.5 * rows, "the square root is in it, but turned round: which number has the square root 2?"),
            (rows / 2, "with fewer sentences the interval becomes wider."),
            (rows / 4, "that is the right factor turned round: with fewer sentences the interval becomes wider."),
            (rows, "so many there are now."),
            (round(need / rows), "that is the factor. How many sentences are there then?"),
        ],
        hint="the interval is not half as wide then. Try `evaluation.wilson_interval(times * right.sum(), times * "
        "len(right))` with times = 2, 3, ... and look at the distance between the ends.",
        tolerance=0.1,
    )  # fmt: skip


def more_agreement(answer, run: NotebookVariables) -> Reply:
    """Predict: what becomes of McNemar's p-value when sentences are added that both models answer rightly?"""
    both, easy = (run.right, run.baselines["TF-IDF"]), np.ones(len(run.right), dtype=bool)
    more = [np.concatenate([one, easy]) for one in both]
    before, after = (100 * abs(first.mean() - second.mean()) for first, second in (both, more))
    ours, theirs, p = evaluation.mcnemar_test(*more)
    return choice(
        answer,
        "the same",
        yes=f"p stays {p:.2g}: only the {ours + theirs:,} sentences count on which the two disagree. (The difference "
        f"of the accuracies falls from {before:.1f} to {after:.1f} points: easy sentences hide it, not from the test.)",
        hints={
            "smaller": "the model has not won one sentence more against TF-IDF. What does the test count?",
            "larger": "the accuracies do come closer, but the test does not compare them. What does it count?",
        },
    )


def mistakes_when_sure(answer, run: NotebookVariables) -> Reply:
    """Build it: a function that returns the share of mistakes among the answers that are at least so sure."""

    def case(seed: int, least: float) -> tuple:
        probabilities, labels = _made_up(seed)
        sure, wrong = probabilities.max(axis=1) >= least, probabilities.argmax(axis=1) != labels
        share, positive = wrong[sure].mean(), probabilities[:, 1] >= least
        mistakes = [
            (1 - share, "that is the share of right answers. The mistakes are the rest."),
            (wrong[sure].sum(), "that is how many mistakes there are. Divide by the number of sure answers."),
            (100 * share, "that is a percentage. A share is a number from 0 to 1."),
            ((wrong & sure).mean(), "you divide by all answers. Divide by the sure ones only."),
            (sure[wrong].mean(), "that is the share of the mistakes that is sure. Turn it round: which share of the "
             "sure answers is a mistake?"),
            (wrong.mean(), "you count the mistakes of all answers. Keep the sure ones first."),
            (wrong[~sure].mean(), "you keep the answers that are less sure. Keep those with at least `least`."),
            (wrong[positive].mean(), "you look at one column only. How sure an answer is, is the largest number of its "
             "row."),
        ]  # fmt: skip
        hint = f"{share:.4f} would be right. How sure an answer is, is the largest probability of its row; the answer "
        hint += "is the column where it stands (`argmax`)."
        return (probabilities, labels, least), share, mistakes, hint

    reply = check_numbers(answer, (case(1, 0.8), case(2, 0.9), case(3, 0.7)))
    if reply:
        return reply
    confidence, mistakes = run.probabilities.max(axis=1), ~run.right
    sure = confidence >= SURE
    if not sure.any():
        return right(f"Here the model is never {SURE:.0%} sure.")
    return right(
        f"Here {sure.sum():,} answers are at least {SURE:.0%} sure, and {mistakes[sure].mean():.1%} of them are wrong. "
        f"By the model's own word it would be {1 - confidence[sure].mean():.1%}. Check before you trust such a number."
    )


def _made_up(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities of 400 rows for 2 labels, and labels that are wrong more often than the model thinks."""
    generator = np.random.default_rng(seed)
    positive = generator.beta(0.5, 0.4, 400)
    labels = (generator.random(400) < 0.2 + 0.6 * positive).astype(int)
    return np.stack([1 - positive, positive], axis=1), labels


def best_of(answer, run: NotebookVariables) -> Reply:
    """Challenge: a function that plays how high the best of some equally good models comes out on one test set."""

    def case(models: int, accuracy: float, rows: int) -> tuple:
        expected, spread = _best(models, accuracy, rows), (accuracy * (1 - accuracy) / rows) ** 0.5
        mistakes = [
            (accuracy, "that is the mean of all models. But only the best one is reported."),
            (rows * expected, "that is how many sentences are right. Divide by `rows`."),
            (100 * expected, "that is a percentage. Return an accuracy: a number from 0 to 1."),
            (2 * accuracy - expected, "that is the worst of the models. The best is reported."),
        ]
        low = (
            "that is too low. Play many games, each with new luck (make the generator once, outside the function), and "
            "return the mean of the best accuracies themselves, not how much better they are."
        )
        high = "that is too high. Take the best accuracy of each game, and then the mean over all games."

        def judge(result) -> Reply:
            hint = low if (to_float(result) or 0) < expected else high
            return number(result, expected, "", hint, mistakes, tolerance=spread / 4 / expected)

        return (models, accuracy, rows), judge

    reply = check_cases(answer, (case(10, 0.8, 500), case(40, 0.6, 200), case(1, 0.7, 300)))
    if reply:
        return reply
    rows, accuracy = len(run.right), run.right.mean()
    gain = 100 * (_best(MODELS, accuracy, rows) - accuracy)
    return right(
        f"With our {rows:,} sentences the best of {MODELS} models as good as ours would look {gain:.1f} points better "
        "than it is, by luck alone. That is why we look at the test set once, with one model, chosen elsewhere."
    )


def _best(models: int, accuracy: float, rows: int) -> float:
    """Return the exact mean of the best accuracy: the sum over k of P(best > k right), divided by rows."""
    return float(np.sum(1 - binom.cdf(np.arange(rows), rows, accuracy) ** models) / rows)
