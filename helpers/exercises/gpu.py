"""The exercises of notebook 01, in the order in which they come. `run` holds the notebook's variables."""

import torch

from helpers import gpu
from helpers.exercises.judging import (
    NotebookVariables,
    Reply,
    check_cases,
    check_numbers,
    choice,
    judge_prediction,
    number,
    right,
)


def longest_by_shortest(answer, run: NotebookVariables) -> Reply:
    """Read the output: how many times as fast is the longest bar as the shortest?"""
    fast, slow = max(run.speeds.values()), min(run.speeds.values())
    cause = "The chip and the precision make" if run.device.kind == "cuda" else "The precision alone makes"
    difference = "that is the difference of the two. *How many times as fast* asks you to divide."
    return number(
        answer,
        fast / slow,
        yes=f"{cause} this difference: the multiplications are the same. What takes the longest bar an hour takes the "
        f"shortest {fast / slow:.1f} hours.",
        mistakes=[
            (slow / fast, "that is the shortest bar divided by the longest. Turn it round."),
            (fast / slow - 1, "that is how many times *faster* it is. *Times as fast* is the plain quotient."),
            (100 * fast / slow, "that is a percentage. Give the quotient itself."),
            (100 * (fast / slow - 1), "that is how many *percent faster* it is. *Times as fast* is the quotient."),
            (fast - slow, difference),
            ((fast - slow) / 1e9, difference),
            (fast / 1e9, "that is the longest bar itself. Divide it by the shortest."),
            (slow / 1e9, "that is the shortest bar itself. Divide the longest by it."),
        ],
        hint="that is another number. Divide the figure beside the longest bar by the figure beside the shortest, and "
        "do not round to a whole number.",
        tolerance=min(max(0.05, 0.5e9 / slow), 0.5),  # the bars show whole giga-operations
    )


def small_tables(answer, run: NotebookVariables) -> Reply:
    """Change one thing and predict: more or fewer operations a second, when each table has 8 rows only?"""
    kind = run.device.kind
    large = run.speeds["GPU, float32" if kind == "cuda" else "CPU, float32"]
    small = gpu.matmul_flops_per_second(kind, torch.float32, size=8, seconds=0.05)
    return judge_prediction(
        answer,
        large,
        small,
        noise=0.2 * large,
        hints={
            "fewer": "on this machine there were more. Large tables do not always fit into the fast memory of a chip.",
            "more": "a small table needs less *time*, but the question is how many operations fit into a second. "
            "What must be done for each table, apart from the arithmetic?",
            "the same": "each multiplication has a fixed cost: it must be started. When is that cost large, "
            "compared with the arithmetic?",
        },
        yes=f"Measured just now, with 8 rows: {small / 1e9:.1f} giga-operations a second; above, with large tables: "
        f"{large / 1e9:,.0f}. Starting a multiplication has a fixed cost, and only large tables keep the whole chip at "
        "work. That is why training reads many sentences at once.",
    )


def precision_for(answer, run: NotebookVariables) -> Reply:
    """Build it: a function that says which 16-bit precision a GPU of a given compute capability should use."""
    yes = "You went by what the chip can do, and not by what it claims to support: the T4 would claim bfloat16."
    hints = {
        (7, 5): "this is the T4: it only imitates bfloat16.",
        (8, 0): "8.0 itself is fast already: *from* 8.0 on.",
        (8, 6): "8.6 is newer than 8.0.",
        (7, 0): "bfloat16 is fast from 8.0 on, and this chip is older.",
        (12, 0): "12 is more than 8. Compare the numbers, not text.",
    }
    if run.device.kind == "cuda" and run.device.capability >= (7, 0):
        hints.setdefault(run.device.capability, "this is your own GPU: see what the notebook chose for it.")

    def case(capability: tuple[int, int]):
        expected, _ = gpu.choose_precision(gpu.Device("cuda", "a GPU", 0, capability))
        other = {"bf16": "fp16", "fp16": "bf16"}[expected]
        known = {other: hints[capability], "fp32": "it would work, but slowly. Choose one of the 16-bit formats."}
        return (capability,), lambda result: choice(result, expected, yes, known)

    return check_cases(answer, map(case, hints)) or right(yes)


def other_machine(answer, run: NotebookVariables) -> Reply:
    """Change one thing and predict: a machine 10 times as fast, and 4 times as many epochs. How many seconds?"""
    here = run.work["flops"] / run.peak
    return number(
        answer,
        here * 4 / 10,
        yes="Time is work divided by speed. With this you can say beforehand whether a training is worth its wait.",
        mistakes=[
            (here * 4 * 10, "a machine that is 10 times as fast needs less time, not more: divide by the speed."),
            (here * 10 / 4, "it is upside down: 4 times the epochs make 4 times the work, 10 times the speed a tenth."),
            (here / 4 / 10, "4 times the epochs are 4 times the work: that makes it longer."),
            (here / 10, "that is the faster machine with the same work. There are 4 times as many epochs to do."),
            (here * 4, "that is 4 times the work at the old speed. The other machine is 10 times as fast."),
            (here, "that is the time of the cell above. What becomes of work and speed?"),
        ],
        hint="time is work divided by speed. The work is multiplied by 4, the speed by 10.",
        tolerance=0.1,  # the cells above print rounded figures
    )


def training_seconds(answer, run: NotebookVariables) -> Reply:
    """Challenge: a function that predicts the training time from rows, epochs, batch size and the time of a step."""
    last = "the last rows fill no whole batch, but need a step as well: round up (`math.ceil` does)."
    first = "count the steps of one epoch first."
    cases = [
        ((100, 1, 10, 0.5), 5.0, [
            (50, "one step reads a whole batch, not one row."),
            (10, "that is the number of steps. Each takes `step_seconds`."),
            (20, "that is the number of steps divided by the seconds. Each step *takes* `step_seconds`: multiply."),
            (5.5, "10 full batches hold all 100 rows: there is no further step. Round up only where rows are left."),
        ], first),
        ((100, 3, 10, 0.5), 15.0, [(5, "all rows are read once in each epoch, and here are 3.")], first),
        ((101, 1, 10, 0.5), 5.5, [(5, last), (5.05, last + " There is no tenth of a step.")], first),
        ((101, 2, 10, 1.0), 22.0, [
            (21, "each epoch begins anew, and so has a small last batch of its own: round up before you "
             "multiply by the epochs."),
        ], first),
        ((5, 1, 32, 0.1), 0.1, [(0, last)], first),
    ]  # fmt: skip
    prediction, work = run.prediction, run.work
    here = (work["rows"], work["epochs"], run.settings.recipe.batch_size, prediction["step_seconds"])
    own = "these are the figures of your own training, and the prediction above is another one."
    cases.append((here, prediction["predicted_train_seconds"], [], own))
    return check_numbers(answer, cases, tolerance=1e-6) or right(
        f"With the figures of your machine it gives {prediction['predicted_train_seconds']:.0f} seconds, as the "
        "notebook predicted. The number of steps and the time of one are enough for a prediction, even of hours."
    )
