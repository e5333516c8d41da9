"""The exercises of notebook 04, in the order in which they come. `run` holds the notebook's variables."""

import math

import numpy as np
import torch
from transformers import get_linear_schedule_with_warmup

from helpers.exercises.judging import (
    NotebookVariables,
    NotYetRun,
    Reply,
    call_safely,
    number,
    right,
    to_float,
    wrong,
)

EPOCHS = 3  # of exercise 4.3
# Exercise 4.4: the validation loss and accuracy of a training of six epochs, and of one with a tie.
TABLE = ([0.62, 0.50, 0.55, 0.60, 0.70, 0.75], [0.70, 0.78, 0.76, 0.80, 0.84, 0.82])
TIE = ([0.60, 0.55, 0.52, 0.58], [0.71, 0.80, 0.80, 0.79])


def new_share(answer, run: NotebookVariables) -> Reply:
    """Read the output: what share of the model's parameters is new?"""
    head, model = run.head, run.model
    if isinstance(model, str):  # the form's field; the model is loaded further down
        raise NotYetRun("model")
    count = model.num_parameters()
    head = head or sum(p.numel() for name, p in model.named_parameters() if not _is_pretrained(name, model))
    share = head / count
    return number(
        answer,
        share,
        yes="All the rest was learned before, from text that nobody had to label. That is why a few thousand labelled "
        "sentences, or fewer, can be enough.",
        mistakes=[
            (100 * share, "that is the percentage. Give the share: a number from 0 to 1."),
            (1 - share, "that is the share that is pretrained. The head is the rest."),
            (100 * (1 - share), "that is the percentage that is pretrained. The head is the rest, as a share."),
            (head, "so many parameters are new. What share of all parameters is that?"),
            (count, "these are all the parameters. What share of them is new?"),
            (1 / share, "you divided the whole by the part. Divide the part by the whole."),
            (round(share, 2), "you have rounded too much. Give two more digits."),
        ],
        hint="the share is the number of new parameters, divided by the number of all. Both are printed above.",
    )


def _is_pretrained(name: str, model) -> bool:
    """Return whether a parameter belongs to the body of a model, whatever its head is called."""
    return name.startswith(f"{model.base_model_prefix}.")


def first_loss(answer, run: NotebookVariables) -> Reply:
    """Predict: what is the loss of a model that only guesses?"""
    guess = run.guess
    classes, measured, expected = guess.shape[-1], -guess.log().mean().item(), math.log(guess.shape[-1])
    return number(
        answer,
        expected,
        yes=f"On the two sentences above the untrained model's loss is {measured:.2f}, averaged over all labels that "
        "could be right. The loss of your training should begin about there; one that begins far higher is a sign of "
        "a mistake.",
        mistakes=[
            (-expected, "you forgot the minus sign: the logarithm of a number below 1 is negative, the loss is not."),
            (1 / classes, "that is the probability of the right label. The loss is minus its logarithm."),
            (0, "a loss of 0 needs a model that is quite sure, and always right. This one guesses."),
            (math.log2(classes), "that is the logarithm to base 2. `math.log` takes the natural one."),
            (math.log10(classes), "that is the logarithm to base 10. `math.log` takes the natural one."),
        ],
        hint=f"a guess gives each of the {classes} labels the same probability, also the right one. Put that "
        "probability into -math.log(...).",
        tolerance=0.05,
    )


def steps_needed(answer, run: NotebookVariables) -> Reply:
    """Change two things and predict: how many steps do three epochs take, in batches twice as large?"""
    rows, size = len(run.splits["train"]), 2 * run.settings.recipe.batch_size
    epochs = run.settings.recipe.epochs
    exact = rows / size
    return number(
        answer,
        EPOCHS * math.ceil(exact),
        yes=f"An epoch is {math.ceil(exact):,} steps, the last one with the rows that are left over. Larger batches "
        "mean fewer steps, and so fewer corrections: batch size, epochs and learning rate are chosen together.",
        mistakes=[
            (EPOCHS * math.floor(exact), "you rounded down. The rows that are left over make a last, smaller batch."),
            (EPOCHS * exact, "there is no part of a step. The rows that are left over make a step of their own."),
            (math.ceil(EPOCHS * exact), "you rounded at the end. Each epoch has its own last batch: round up before."),
            (math.ceil(exact), "that is one epoch. There are three."),
            (EPOCHS * math.ceil(rows / (size // 2)), "the batches are twice as large: fewer steps read all rows."),
            (EPOCHS * math.ceil(4 * exact), "larger batches need fewer steps, not more."),
            (epochs * math.ceil(exact), f"that is {epochs} epochs. Three are asked for."),
            (EPOCHS * rows, "so many sentences are read. A step reads a whole batch of them."),
            (EPOCHS * math.ceil(2 * exact) / 2, "you have halved the steps of smaller batches. Count the larger ones."),
        ],
        hint="an epoch has as many steps as there are batches, and the last batch need not be full. How many batches "
        "hold all rows of train once?",
        tolerance=0,
    )


def which_epochs(answer, run: NotebookVariables) -> Reply:
    """Build it: a function that finds the epoch to keep, and the one after which the validation loss rises."""
    own = tuple([entry[name] for entry in run.checks] for name in ("eval_loss", "eval_accuracy"))
    for losses, accuracies in (TABLE, TIE, own):
        expected = (1 + int(np.argmax(accuracies)), 1 + int(np.argmin(losses)))
        result, problem = call_safely(answer, list(losses), list(accuracies))
        hint = None if problem else _epochs_hint(result, expected, losses, accuracies)
        if problem or hint:
            return problem or wrong(hint)
    return right(
        f"For this run it gives {expected}: accuracy and loss {'agree' if len({*expected}) == 1 else 'do not agree'}. "
        "Who looks at several measures first, and chooses then, can always find one that flatters the model. "
        "So the measure is chosen before the training."
    )


def _epochs_hint(result, expected: tuple[int, int], losses: list[float], accuracies: list[float]) -> str | None:
    """Return what is wrong with (epoch kept, epoch of the lowest loss), or None."""
    found = [to_float(value) for value in result] if isinstance(result, tuple | list) else []
    if len(found) != 2 or None in found:
        return "the function should return two numbers: `return kept, lowest`."
    kept, lowest = found
    if (kept, lowest) == expected:
        return None
    table = f"for the losses {np.round(losses, 3).tolist()} and the accuracies {np.round(accuracies, 3).tolist()} "
    if kept == expected[0] - 1 or lowest == expected[1] - 1:
        return "a number is one too low: Python counts from 0, and the first epoch is epoch 1."
    if (kept, lowest) == expected[::-1]:
        return "the two are in the wrong order: first the epoch that is kept, then that of the lowest loss."
    if (kept, lowest) == (max(accuracies), min(losses)):
        return "these are the accuracy and the loss. Return the numbers of their epochs."
    if kept != expected[0]:
        if kept in [1 + i for i, value in enumerate(accuracies) if value == max(accuracies)]:
            return "when two epochs are equally good, the trainer keeps the first."
        if kept == 1 + accuracies.index(min(accuracies)):
            return table + "you keep the lowest accuracy. For accuracy, high is good."
        if kept == expected[1]:
            return table + "you keep the lowest loss. We decided that accuracy chooses (metric_for_best_model)."
        if kept == len(losses):
            return table + "you keep the last epoch. It need not be the best."
        return table + f"epoch {expected[0]} has the highest accuracy, and you keep epoch {kept:g}."
    if lowest == 1 + losses.index(max(losses)):
        return table + "you give the highest loss. For a loss, low is good."
    if lowest == expected[1] + 1:
        return table + "you give the epoch in which the loss has risen. Asked is the one before, where it is lowest."
    return table + f"the loss is lowest after epoch {expected[1]}, and you say {lowest:g}."


def schedule(answer, run: NotebookVariables) -> Reply:
    """Challenge: a function that gives the learning rate at each step."""
    recipe, summary = run.settings.recipe, run.summary
    share, highest = recipe.warmup, recipe.learning_rate
    for steps, top in ((1000, 2e-4), (40, 0.5)):
        true, warm = _linear(steps, top, share), math.ceil(share * steps)
        values = {}
        for step in (0, warm // 2, warm, steps // 2, steps):
            result, problem = call_safely(answer, step, steps, top)
            values[step] = to_float(result)
            if problem or values[step] is None:
                return problem or wrong("the function should return one number, the learning rate.")
        if any(abs(values[step] - true(step)) > 1.01 * top / (warm or steps) for step in values):  # a step more or less
            return wrong(_schedule_hint(values, steps, top, warm, true))
    logged = [entry for entry in summary["log_history"] if "learning_rate" in entry]
    # The trainer writes down the rate with which a step was taken: that of the steps before it.
    mine = [to_float(call_safely(answer, entry["step"] - 1, summary["steps"], highest)[0]) for entry in logged]
    far = [abs(rate - entry["learning_rate"]) for rate, entry in zip(mine, logged, strict=True) if rate is not None]
    return right(
        f"This is the trainer's schedule: the rates that it wrote down in this run differ from yours by at most "
        f"{max(far, default=0) / highest:.1%} of the highest. Small steps first, since the new head knows nothing yet "
        "and would spoil what is pretrained; small steps last, so that the weights come to rest."
    )


def _linear(steps: int, top: float, share: float):
    """Return the schedule of the transformers library as a function of the step."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=top)
    factor = get_linear_schedule_with_warmup(optimizer, math.ceil(share * steps), steps).lr_lambdas[0]
    return lambda step: top * factor(step)


def _schedule_hint(values: dict[int, float], steps: int, top: float, warm: int, true) -> str:
    """Return what is wrong with the learning rates at a few steps."""

    def near(step: int, value: float) -> bool:
        return abs(values[step] - value) <= 0.02 * top

    half, says = steps // 2, f"with {steps} steps and the highest rate {top:g} "
    if all(abs(value - true(step) / top) < 0.02 for step, value in values.items()):
        return "you return the share of the highest rate. Multiply it by `highest`."
    if near(0, top) and warm:
        return "you begin with the highest rate. In the first tenth of the steps it rises from 0."
    if near(0, 0) and near(half, top / 2) and near(steps, top):
        return "the rate rises all the time. After the first tenth of the steps it falls."
    if near(warm, top) and near(half, top) and near(steps, top):
        return "the rate stays at the highest. After the warm-up it falls, to 0 at the last step."
    if near(warm, top * (1 - warm / steps)) and near(half, top * (1 - half / steps)):
        return (
            f"the rate falls as if it had fallen from step 0 on. It should be the highest at step {warm}, where the "
            "warm-up ends, and fall from there: divide by the steps that are left after the warm-up."
        )
    if min(values.values()) < -0.02 * top:
        return says + "the rate becomes negative: the model would unlearn. It is never below 0."
    step = max(values, key=lambda step: abs(values[step] - true(step)))
    return says + f"it should be {true(step):g} at step {step}, and your function gives {values[step]:g}."
