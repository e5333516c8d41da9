"""The exercises of notebook 01."""

import math
import tempfile
from pathlib import Path

import pytest
import torch
from cases import Case, exercise_tests
from support import make_settings

from helpers import gpu
from helpers.exercises import progress
from helpers.exercises.check import Check
from helpers.exercises.judging import OPEN, RIGHT, WRONG

CPU = gpu.Device("cpu", "x86_64", None, None)
WORK = {"rows": 6100, "epochs": 2, "steps": 382, "tokens": 14.6, "parameters": 3728898, "multiplied": 1648130,
        "flops": 1.76e12}  # fmt: skip
NAMES = {
    "settings": make_settings(Path(tempfile.mkdtemp(prefix="lesson-"))),
    "device": CPU,
    "speeds": {"CPU, float32": 194e9, "CPU, bfloat16": 438e9},
    "peak": 438e9,
    "work": WORK,
    "prediction": {"step_seconds": 0.038, "predicted_train_seconds": 0.038 * 382},
}


def precision(capability):
    return "bf16" if capability >= (8, 0) else "fp16"


def seconds(rows, epochs, batch_size, step_seconds):
    return epochs * math.ceil(rows / batch_size) * step_seconds


def seconds_of_an_own_training(rows, epochs, batch_size, step_seconds):
    return seconds(rows, epochs, batch_size, step_seconds) if rows < 1000 else 20


def no_way_out(capability):
    if capability[0] >= 8:
        return "bf16"
    if capability == (7, 5):
        return "fp16"


TIME = 1.76e12 / 438e9
CASES = {
    "longest_by_shortest": Case(
        right=[438 / 194, 2.3, 2.25],
        wrong=[(194 / 438, "Turn it round"), (438 / 194 - 1, "plain quotient"), (225.8, "percentage"),
               (125.8, "percent faster"), (244e9, "divide"), (244, "divide"),
               (438, "longest bar itself"), (194, "shortest bar itself"), (9, "beside the longest")],
    ),
    "small_tables": Case(
        right=["fewer", " Fewer"],
        wrong=[("more", "less *time*"), ("the same", "fixed cost"), ("less", "none of the answers")],
    ),
    "precision_for": Case(
        right=[precision, lambda pair: "bf16" if pair[0] >= 8 else "fp16"],
        wrong=[
            (lambda pair: "bf16", "only imitates"),
            (lambda pair: "bf16" if torch.cuda.is_bf16_supported(False) or pair else "fp16", "T4"),
            (lambda pair: "bf16" if pair > (8, 0) else "fp16", "*from* 8.0 on"),
            (lambda pair: "bf16" if str(pair) >= "(8" else "fp16", "12 is more than 8"),
            (lambda pair: "bf16" if pair >= (8, 9) else "fp16", "8.0 itself"),
            (lambda pair: "fp16" if pair == (7, 5) else "bf16", "this chip is older"),
            (lambda pair: "fp32" if pair < (8, 0) else "bf16", "16-bit"),
            (lambda pair: torch.float16, '"bf16", "fp16"'),
            (lambda pair: "bf16" if pair >= 8.0 else "fp16", "stopped with TypeError"),
            (no_way_out, "lacks its `return`"),
            (precision((7, 5)), "without brackets"),
        ],
    ),
    "other_machine": Case(
        right=[TIME * 0.4, 1.6],
        wrong=[(TIME * 40, "divide by the speed"), (TIME * 2.5, "upside down"), (TIME / 40, "that makes it longer"),
               (TIME / 10, "as many epochs"), (TIME * 4, "old speed"), (TIME, "the cell above"),
               (77, "divided by speed"), (10**400, "divided by speed")],
    ),
    "training_seconds": Case(
        right=[seconds, lambda r, e, b, s: e * -(-r // b) * s],
        wrong=[
            (lambda r, e, b, s: e * r * s, "a whole batch, not one row"),
            (lambda r, e, b, s: e * math.ceil(r / b), "the number of steps"),
            (lambda r, e, b, s: e * math.ceil(r / b) / s, "multiply"),
            (lambda r, e, b, s: e * (r // b + 1) * s, "no further step"),
            (lambda r, e, b, s: math.ceil(r / b) * s, "once in each epoch"),
            (lambda r, e, b, s: e * (r // b) * s, "round up"),
            (lambda r, e, b, s: e * r / b * s, "no tenth of a step"),
            (lambda r, e, b, s: math.ceil(e * r / b) * s, "each epoch begins anew"),
            (lambda r, e, b, s: str(seconds(r, e, b, s)), "is text"),
            (lambda r, e, b, s: e * r / 0, "stopped with ZeroDivisionError"),
            (lambda rows, epochs: 3, "stopped with TypeError"),
            (seconds_of_an_own_training, "your own training"),
        ],
    ),
}  # fmt: skip
TestExercises = exercise_tests("gpu", NAMES, CASES)


def check(**changed) -> Check:
    return Check("gpu", NAMES | changed, remember=False)


@pytest.mark.parametrize("name", ["precision_for", "training_seconds"])
def test_a_function_that_is_not_written_yet_is_not_answered_yet_and_no_try(name, tmp_path):
    settings = make_settings(tmp_path)
    checks = Check("gpu", NAMES | {"settings": settings})
    for unwritten in (lambda *arguments: None, lambda *arguments: ...):
        assert getattr(checks, name)(unwritten).state == OPEN
    assert progress.read(progress.path(settings)) is None


def test_small_tables_are_judged_by_what_is_measured(monkeypatch):
    measured = []
    monkeypatch.setattr(
        gpu, "matmul_flops_per_second", lambda kind, dtype, size, seconds: measured.append(kind) or 300e9
    )
    assert check().small_tables("more").state == RIGHT
    assert "there were more" in check().small_tables("fewer").text
    assert check().small_tables("the same").state == WRONG
    assert set(measured) == {"cpu"}


def test_a_difference_within_the_noise_lets_every_prediction_count(monkeypatch):
    monkeypatch.setattr(gpu, "matmul_flops_per_second", lambda *_, **__: 190e9)
    for answer in ("more", "fewer", "The Same"):
        reply = check().small_tables(answer)
        assert reply.state == RIGHT and "may be chance" in reply.text
    assert check().small_tables("perhaps").state == WRONG


def test_on_a_gpu_the_gpu_is_asked_for(monkeypatch):
    device = gpu.Device("cuda", "Tesla T4", 15 * 2**30, (7, 5))
    speeds = NAMES["speeds"] | {"GPU, float32": 4e12, "GPU, float16": 25e12, "GPU, bfloat16": 2e12}
    monkeypatch.setattr(gpu, "matmul_flops_per_second", lambda kind, *_, **__: {"cuda": 1e9}[kind])
    here = check(device=device, speeds=speeds, peak=25e12)
    assert here.longest_by_shortest(25e12 / 194e9).text.startswith("The chip and the precision")
    assert here.small_tables("fewer").state == RIGHT
    assert here.precision_for(precision).state == RIGHT


@pytest.mark.parametrize("capability", [(6, 1), (8, 9)])
def test_the_students_own_gpu_is_one_of_the_cases(capability):
    own = check(device=gpu.Device("cuda", "some GPU", 2**34, capability))
    wrong = own.precision_for(lambda pair: "fp16" if pair == capability else precision(pair))
    assert own.precision_for(precision).state == RIGHT
    assert "your own GPU" in wrong.text if capability > (7, 0) else wrong.state == RIGHT


def test_slow_bars_are_read_as_they_are_printed():
    slow = check(speeds={"CPU, float32": 40e9, "CPU, bfloat16": 4.6e9})  # printed as 40 and 5
    assert slow.longest_by_shortest(8).state == RIGHT
    assert slow.longest_by_shortest(40).state == WRONG
