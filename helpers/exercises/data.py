"""The exercises of notebook 02, in the order in which they come. `run` holds the notebook's variables."""

import random
from collections import Counter

import numpy as np

from helpers import data
from helpers.exercises.judging import (
    NotebookVariables,
    Reply,
    check_cases,
    check_numbers,
    describe_type,
    judge_prediction,
    number,
    right,
    wrong,
)

TOSSERS, REPEATS = 100, 200


def _label_names(splits) -> list[str]:
    """Return what the labels 0, 1, ... of a data set mean."""
    return splits["train"].features["label"].names


def rows_without_label(answer, run: NotebookVariables) -> Reply:
    """Read the output: how many rows, in all splits together, have no label?"""
    columns = [part["label"][:] for part in run.dataset.values()]
    missing = [sum(label is None or label < 0 for label in column) for column in columns]
    rows, zeros = sum(map(len, columns)), [column.count(0) for column in columns]
    meaning = _label_names(run.dataset)[0]
    zero = f"that counts the label 0. 0 is a label, it means *{meaning}*; only −1 means that there is none."
    return number(
        answer,
        sum(missing),
        yes="0 is a label like any other; −1 is the lack of one. A model that took −1 for one more kind of "
        "sentence would be taught nonsense, so count the labels before you use them.",
        mistakes=[
            *((count, zero) for count in (sum(zeros), *zeros) if count),
            (-1, "−1 is how a missing label is *written*. Asked is how many rows have it."),
            (rows - sum(missing), "that is how many rows *have* a label."),
            (sum(map(bool, missing)), "that counts splits. Count their rows."),
        ],
        hint="that is another number. For each split, look for −1 among its labels; behind the colon stands how many "
        "rows have it. A split in which −1 does not appear has none.",
        tolerance=0,
    )


def half_held_out(answer, run: NotebookVariables) -> Reply:
    """Change one thing and predict: with half of the rows held out, does the share that leaks rise or fall?"""
    rows = len(run.random_split["test"])
    before = len(run.leaky) / rows
    mixed = random.Random(run.settings.seed).sample(run.sentences, len(run.sentences))
    half = len(mixed) // 2
    after = len(data.find_contained(mixed[:half], mixed[half:])) / half
    figures = f"a tenth held out: {before:.0%} of it is contained in train; half held out: {after:.0%}"
    return judge_prediction(
        answer,
        before,
        after,
        noise=2 * (before * (1 - before) / rows) ** 0.5,
        hints={
            "fall": f"here it rose: {figures}.",
            "rise": "more rows are held out, but the question is which *share* of them finds itself in train. "
            "What has become smaller?",
            "stay": "each held-out row looks for a longer row around it in train. In how many rows can it look now?",
        },
        yes=f"Measured just now: {figures}. The leak depends on what stays in train, and no random choice closes it: "
        "a phrase and its sentence must go together.",
    )


def luckiest_of_many(answer, run: NotebookVariables) -> Reply:
    """Predict: is the best of 100 guessers on validation as good on new sentences?"""
    rows, chance = len(run.splits["validation"]), 1 / len(_label_names(run.splits))
    right_answers = np.random.default_rng(run.settings.seed).binomial(rows, chance, (REPEATS, TOSSERS + 1)) / rows
    chosen, new = right_answers[:, :TOSSERS].max(axis=1).mean(), right_answers[:, TOSSERS].mean()
    return judge_prediction(
        answer,
        new,
        chosen,
        noise=3 * (chance * (1 - chance) / rows / REPEATS) ** 0.5,
        hints={
            "lower": "you kept the best of 100, not the worst.",
            "higher": f"on validation it was {chosen:.3f}, on new sentences {new:.3f}.",
            "the same": "the guessers are all alike, that is true. But you chose the person who was lucky *on these "
            "sentences*. Will the luck come again?",
        },
        yes=f"Tried just now {REPEATS} times, with {rows:,} sentences: the best of {TOSSERS} has {chosen:.3f} on the "
        f"set on which it was chosen, and {new:.3f} on as many new sentences. Nobody was cheating: choosing alone "
        "did it. That is why the test set is kept apart.",
    )


def majority_accuracy(answer, run: NotebookVariables) -> Reply:
    """Build it: a function that returns the accuracy of always answering train's commonest label."""
    other = "take the commonest label of train_labels; test_labels only say whether it was right."
    cases = [
        (([1, 1, 1, 0, 0], [0] * 7 + [1] * 3), 0.3, [
            (0.7, other),
            (0.6, "that is the share in train_labels. Accuracy is counted on test_labels."),
            (1, "that is the label which is always answered. How often is it right in test_labels?"),
            (3, "that is how many are right. Divide by the length of test_labels."),
            (30, "that is the percentage. Give the share: a number from 0 to 1."),
            (0, "nothing in test_labels agrees with what you answer. Is it the commonest label, 1? "
             "(`Counter(...).most_common(1)` gives a list that holds a pair.)"),
        ], other),
        (([0, 0, 0, 1], [0] * 8 + [1] * 2), 0.8, [
            (0.2, "here the commonest label of train_labels is 0, not 1."),
            (0.75, "that is the share in train_labels. Accuracy is counted on test_labels."),
            (0, "that is the label which is always answered. How often is it right in test_labels?"),
            (8, "that is how many are right. Divide by the length of test_labels."),
        ], other),
    ]  # fmt: skip
    train, validation = (run.splits[name]["label"][:] for name in ("train", "validation"))
    most, *others = sorted(Counter(train).values(), reverse=True)
    if most not in others:  # else either of two labels could be called the commonest
        own = "these are the labels of train and validation, and the bar above shows another accuracy. Do not round."
        cases.append(((train, validation), run.scores["majority class"], [], own))
    return check_numbers(answer, cases, tolerance=1e-6) or right(
        f"On validation this answer scores {run.scores['majority class']:.3f}, the shorter bar above. Where 9 of 10 "
        "rows have one label, it is right 9 times of 10 without reading a word: an accuracy means nothing without it."
    )


def leaky_pair(answer, run: NotebookVariables) -> Reply:
    """Challenge: a function that says whether one of two sentences is a piece of the other, word by word."""
    cases = [
        ("a dull film", "it is a dull film", True, "the first is a piece of the second, at its very end."),
        ("it is a dull film", "a dull film", True, "it is a leak the other way round as well."),
        ("fine acting", "a dull film", False, "they have nothing in common."),
        ("art", "a party of fools", False, 'whole words are compared, and "art" is only a part of "party".'),
        ("dull film", "a film that is dull", False, "the words are all there, but not in one run."),
        ("a film", "a dull film", False, "the words are in this order, but not next to each other."),
        ("Dull Film", "A dull film", True, "capital letters do not count."),
        ("the film", "the actors save the film", True, '"the" comes twice: go on looking after the first.'),
        ("a dull film", "a dull film", True, "the same sentence twice is the largest leak of all."),
    ]

    def judge(expected: bool, hint: str):
        def reply(result) -> Reply:
            if not isinstance(result, bool | np.bool_):
                return wrong(f"the answer must be True or False, and this is {describe_type(result)}.")
            return right("as it should be") if bool(result) == expected else wrong(hint)

        return reply

    return check_cases(answer, [((one, two), judge(*rest)) for one, two, *rest in cases]) or right(
        "You wrote the heart of `data.find_contained`. Rows that share pieces lie in most real data: the same review "
        "posted twice, two photographs of one patient. Ask what belongs together before you split."
    )
