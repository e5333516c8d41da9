"""The exercises of notebook 06."""

import statistics
import tempfile
from pathlib import Path

import pytest
from cases import Case, exercise_tests
from support import make_settings

from helpers.exercises.check import Check
from helpers.exercises.judging import RIGHT, WRONG

settings = make_settings(Path(tempfile.mkdtemp(prefix="lesson-")))
SPEEDS = {"original": 80.0, "pad per batch": 240.0, "group by length": 500.0, "larger batch": 600.0, "16-bit": 840.0}
SHARES = {"original": 0.872, "pad per batch": 0.654, "group by length": 0.048, "larger batch": 0.052, "16-bit": 0.05}
NAMES = {
    "settings": settings,
    "rows": range(6100),
    "useful": 144e6,
    "peaks": {"fp32": 200e9, "bf16": 440e9},
    "limit": 440e9 / 144e6,
    "gaps": [260.0, 199.0, 192.0, 195.0],
    "speeds": SPEEDS,
    "first": "original",
    "last": "16-bit",
    "total": 10.5,
    "measured": {name: {"padding_share": share} for name, share in SHARES.items()},
}
SECONDS = 6100 * 144e6 / 440e9


def rate(seconds, batch_size, warmup):
    rest = seconds[warmup:]
    return batch_size * len(rest) / sum(rest)


def share(times, gain):
    return (1 - 1 / gain) / (1 - 1 / times)


CASES = {
    "seconds_at_the_limit": Case(
        right=[SECONDS, round(SECONDS, 2)],
        wrong=[
            (1 / SECONDS, "turned round"),
            (2 * SECONDS, "for 2 epochs"),
            (1000 * SECONDS, "milliseconds"),
            (144e6 / 440e9, "one sentence"),
            (6100 * 144e6 / 200e9, "slower number format"),
            (440e9 / 144e6, "Divide the number of rows"),
            (10**400, "Divide the number of rows"),
        ],
    ),
    "sentences_a_second": Case(
        right=[rate, lambda seconds, batch, warmup: batch / statistics.mean(seconds[warmup:])],
        wrong=[
            (lambda seconds, batch, warmup: rate(seconds, batch, 0), "you count the warm-up too"),
            (lambda seconds, batch, warmup: batch * (len(seconds) - warmup) / sum(seconds), "the warm-up's time"),
            (lambda seconds, batch, warmup: batch * len(seconds) / sum(seconds[warmup:]), "the warm-up's sentences"),
            (lambda seconds, batch, warmup: 1 / rate(seconds, batch, warmup), "turned round"),
            (lambda seconds, batch, warmup: rate(seconds, 1, warmup), "steps a second"),
            (lambda seconds, batch, warmup: batch / sum(seconds[warmup:]), "one batch in the time"),
            (lambda seconds, batch, warmup: batch / statistics.median(seconds[warmup:]), "from the median step"),
            (lambda seconds, batch, warmup: statistics.mean(batch / s for s in seconds[warmup:]), "quick steps count"),
            (lambda seconds, batch, warmup: rate(seconds[: len(seconds) - warmup], batch, 0), "you leave out the last"),
            (lambda seconds, batch, warmup: 1000, "must be 25.6"),
            (lambda seconds, batch, warmup: seconds, "a number is asked for"),
            (lambda seconds: 7, "TypeError"),
            (lambda seconds, batch, warmup: rate(seconds, batch, warmup) if warmup else None, "lacks its `return`"),
            (25.6, "without brackets"),
        ],
    ),
    "biggest_gain": Case(
        right=["pad per batch", " Pad per batch "],
        wrong=[
            ("group by length", "added the most sentences a second"),
            ("larger batch", "1.20 times as fast. Another"),
            ("16-bit", "holds all the changes above"),
            ("original", "where the race starts"),
            ("attention", "none of the answers"),
        ],
    ),
    "without_padding": Case(
        right=[1 / (1 - 0.872), 7.8],
        wrong=[
            (0.872, "share of padding"),
            (87.2, "percentage of padding"),
            (0.128, "part of the time is left"),
            (1 / 0.872, "you divided by the share of the padding"),
            (1.872, "not added"),
            (0.872 / 0.128, "The real token itself"),
            (6.25, "what was measured"),
            (50, "padding of the original"),
        ],
    ),
    "share_made_faster": Case(
        right=[share, lambda times, gain: times * (gain - 1) / gain / (times - 1)],
        wrong=[
            (lambda times, gain: 1 - share(times, gain), "as long as before"),
            (lambda times, gain: 100 * share(times, gain), "percentage"),
            (lambda times, gain: gain / times, "dividing the two gains"),
            (lambda times, gain: times / gain, "dividing the two gains"),
            (lambda times, gain: (gain - 1) / (times - 1), "new, shorter step"),
            (lambda times, gain: 1 - 1 / gain, "time that was saved"),
            (lambda times, gain: 1 - 1 / times, "if all of it got faster"),
            (lambda times, gain: 7, "must be 0.4688"),
            (lambda times, gain: 1 / 0, "ZeroDivisionError"),
            (0.47, "without brackets"),
        ],
    ),
}
TestExercises = exercise_tests("speed", NAMES, CASES)


def test_of_two_gains_that_are_alike_both_are_right():
    """Which of them comes out first is noise."""
    speeds = {"original": 100.0, "pad per batch": 200.0, "group by length": 401.0, "larger batch": 402.0}
    check = Check("speed", NAMES | {"speeds": speeds, "last": "larger batch"}, remember=False)
    assert check.biggest_gain("pad per batch").state == check.biggest_gain("group by length").state == RIGHT
    assert check.biggest_gain("larger batch").state == check.biggest_gain("original").state == WRONG


def test_a_slower_last_recipe_and_a_machine_without_16_bit_are_answered_too():
    speeds = {"original": 100.0, "pad per batch": 200.0, "group by length": 401.0, "larger batch": 380.0}
    names = NAMES | {"speeds": speeds, "last": "larger batch", "peaks": {"fp32": 200e9}, "limit": 200e9 / 144e6}
    check = Check("speed", names, remember=False)
    assert check.biggest_gain("larger batch").state == WRONG
    assert "bring nothing" in check.share_made_faster(share).text
    assert check.seconds_at_the_limit(6100 * 144e6 / 200e9).state == RIGHT


@pytest.mark.parametrize("last", [500.0, 2000.0])
def test_a_gain_that_noise_made_impossible_gives_no_share(last):
    names = NAMES | {"speeds": SPEEDS | {"16-bit": last}}
    assert "no share comes out" in Check("speed", names, remember=False).share_made_faster(share).text


@pytest.mark.parametrize("measured, told", [(500.0, "other costs"), (900.0, "more than counting allows")])
def test_what_was_measured_is_compared_with_what_was_counted(measured, told):
    names = NAMES | {"speeds": SPEEDS | {"group by length": measured}}
    assert told in Check("speed", names, remember=False).without_padding(7.8).text


def test_rows_of_one_length_have_no_padding_to_lose():
    measured = {name: {"padding_share": 0.0} for name in SPEEDS}
    assert Check("speed", NAMES | {"measured": measured}, remember=False).without_padding(1).state == RIGHT


def test_a_training_of_one_step_has_no_times_between_steps():
    reply = Check("speed", NAMES | {"gaps": []}, remember=False).sentences_a_second(rate)
    assert reply.state == RIGHT and "clock" not in reply.text


def test_16_bit_that_was_measured_to_be_no_faster_gives_no_share():
    names = NAMES | {"peaks": {"fp32": 440e9, "bf16": 430e9}}
    assert "no share comes out" in Check("speed", names, remember=False).share_made_faster(share).text
