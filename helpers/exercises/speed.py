"""The exercises of notebook 06, in the order in which they come. `run` holds the notebook's variables."""

import itertools
import statistics

from helpers.exercises.judging import NotebookVariables, Reply, check_numbers, choice, number, right


def seconds_at_the_limit(answer, run: NotebookVariables) -> Reply:
    """Read the output: how many seconds would it take, at the limit, to train on all rows once?"""
    rows, epochs = len(run.rows), run.settings.recipe.epochs
    seconds = rows / run.limit
    return number(
        answer,
        seconds,
        yes=f"So a training of {epochs} epoch{'s' * (epochs > 1)} cannot take less than {epochs * seconds:.3g} seconds "
        "on this machine, whatever is done. A limit tells how much there is to gain, before any work is spent on it.",
        mistakes=[
            (1 / seconds, "it is turned round: sentences divided by sentences a second gives seconds."),
            (epochs * seconds, f"that is for {epochs} epochs. The question is about reading all rows once."),
            (1000 * seconds, "those are milliseconds. Give seconds."),
            (1 / run.limit, "that is the time of one sentence. How many are there?"),
            (rows * run.useful / min(run.peaks.values()), "that is at the speed of the slower number format. The limit "
             "is the highest speed."),
        ],
        hint="that is another number. Divide the number of rows, `len(rows)`, by the sentences a second at the limit, "
        "`limit`. Do not round to whole seconds.",
    )  # fmt: skip


def sentences_a_second(answer, run: NotebookVariables) -> Reply:
    """Build it: a function that returns the sentences a second from the times of steps, without the warm-up."""

    def case(times: list[float], batch: int, warmup: int) -> tuple:
        rest, over = times[warmup:], len(times) - warmup
        rate = batch * over / sum(rest)
        mistakes = [
            (batch * len(times) / sum(times), "you count the warm-up too. Leave out the first `warmup` steps."),
            (batch * over / sum(times), "you count the warm-up's time. Leave it out of the sum."),
            (batch * len(times) / sum(rest), "you count the warm-up's sentences, but not its time."),
            (1 / rate, "it is turned round: that is seconds a sentence."),
            (over / sum(rest), "that is steps a second. Each step learns from `batch_size` sentences."),
            (batch / sum(rest), "that is one batch in the time of all steps. How many sentences were read in it?"),
            (batch / statistics.median(rest), "that is from the median step. A whole training also waits for its slow "
             "steps: divide all sentences by all seconds."),
            (statistics.mean(batch / one for one in rest), "that is the mean of the steps' speeds, in which quick "
             "steps count too much. Divide all sentences by all seconds."),
            (batch * over / sum(times[:over]), "you leave out the last steps. The warm-up comes first."),
        ]  # fmt: skip
        hint = f"it must be {rate:.4g}: the sentences of the steps that count, divided by the seconds of these steps."
        return (times, batch, warmup), rate, mistakes, hint

    games = (([9.0, 2.0, 0.5, 0.4, 0.9, 0.7], 16, 2), ([4.0, 0.2, 1.0, 0.3], 8, 1), ([0.5, 0.1, 0.3], 32, 0))
    reply = check_numbers(answer, [case(*game) for game in games])
    if reply:
        return reply
    gaps = run.gaps
    seen = f"Our clock saw {gaps[0]:.0f} ms first, and a median of {statistics.median(gaps):.0f} ms. " if gaps else ""
    return right(
        f"{seen}A training "
        "has very many steps and a measurement only a few, in which a slow start would weigh far too much."
    )


def biggest_gain(answer, run: NotebookVariables) -> Reply:
    """Read the output: which change made the training the most times as fast as it was before?"""
    times, more = {}, {}
    for before, name in itertools.pairwise(run.speeds):
        times[name] = run.speeds[name] / run.speeds[before]
        more[name] = run.speeds[name] - run.speeds[before]
    best = max(times, key=times.get)
    given = answer.strip().lower() if isinstance(answer, str) else None
    if times.get(given, 0) > 0.98 * times[best]:  # a tie: noise would decide
        best = given
    hints = {
        name: f"it made the training {times[name]:.2f} times as fast. Another change brought more." for name in times
    }
    hints[run.last] = (
        f"its bar holds all the changes above it. Divide it by the bar above: {times[run.last]:.2f} times as fast."
    )
    hints[max(more, key=more.get)] = (
        "it added the most sentences a second, but it began at a higher speed than the changes before it. Divide each "
        "speed by the one above it."
    )
    hints[run.first] = "that is where the race starts: nothing is changed in it yet."
    hints.pop(best)
    return choice(
        answer,
        best,
        yes=f"It made the training {times[best]:.2f} times as fast. Compare by dividing: a few sentences a second more "
        f"are much for a slow recipe, and little for a fast one. Multiplied, all changes make {run.total:.1f}.",
        hints=hints,
    )


def without_padding(answer, run: NotebookVariables) -> Reply:
    """Predict: how many times as fast would the original be without padding, if only computed positions cost time?"""
    share = run.measured["original"]["padding_share"]
    times, found = 1 / (1 - share), run.speeds["group by length"] / run.speeds["original"]
    left = run.measured["group by length"]["padding_share"]
    return number(
        answer,
        times,
        yes=f"Counting foretells {times:.1f}. Measured, with {left:.0%} padding left: {found:.1f} times as fast. "
        + ("A step has other costs too, which do not shrink with the padding." if found < times else
           "That is more than counting allows: a few seconds of measuring have noise."),
        mistakes=[
            (share, "that is the share of padding. Which share of the positions is left without it?"),
            (100 * share, "that is the percentage of padding. Which share of the positions is left without it?"),
            (1 - share, "such a part of the time is left. How many times as fast is that?"),
            (1 / max(share, 1e-9), "you divided by the share of the padding. What is left is the rest, 1 minus that "
             "share."),
            (1 + share, "gains of speed are not added like this. If half of the time is left, it is twice as fast."),
            (share / (1 - share), "that is padding for each real token. The real token itself has to be computed too."),
            (found, "that is what was measured. Here it is asked what counting the positions would foretell."),
        ],
        hint="that is another number. Look up the padding of the original. The rest, as a share, is the part of the "
        "time that is left. How many times as fast is that? Do not round before the end.",
        tolerance=0.03,
    )  # fmt: skip


def share_made_faster(answer, run: NotebookVariables) -> Reply:
    """Challenge: a function that returns which part of the old step got faster, from two gains."""

    def case(times: float, gain: float) -> tuple:
        share = _share_made_faster(times, gain)
        mistakes = [
            (1 - share, "that is the part that takes as long as before. The rest got faster."),
            (100 * share, "that is a percentage. A share is a number from 0 to 1."),
            (gain / times, "dividing the two gains is not enough: what does not get faster takes time as well."),
            (times / gain, "dividing the two gains is not enough: what does not get faster takes time as well."),
            ((gain - 1) / (times - 1), "that is the part of the new, shorter step. Compare times, not speeds: the old "
             "step takes 1, the new one 1 / gain."),
            (1 - 1 / gain, "that is the time that was saved. The part that got faster still takes some."),
            (1 - 1 / times, "so much would be saved if all of it got faster. How large must the part be to save "
             "1 - 1 / gain?"),
        ]  # fmt: skip
        hint = f"it must be {share:.4f}. Write the new time in two ways: as 1 / gain, and as what stays, (1 - share), "
        hint += "plus what got faster, share / times."
        return (times, gain), share, mistakes, hint

    reply = check_numbers(answer, (case(5.0, 1.6), case(3.0, 2.5), case(8.0, 1.1), case(2.0, 2.0)))
    if reply:
        return reply
    rule = "What does not get faster sets the end: that is Amdahl's law."
    if "16-bit" not in run.speeds:
        return right(f"{rule} (16-bit numbers bring nothing on this machine, so there is nothing to compute from.)")
    names, times = list(run.speeds), max(run.peaks.values()) / run.peaks["fp32"]
    gain = run.speeds["16-bit"] / run.speeds[names[names.index("16-bit") - 1]]
    share = _share_made_faster(times, gain) if times > 1 else -1.0  # fp32 was measured to be as fast
    if not 0 <= share <= 1:
        return right(f"{rule} (Here 16-bit made the training {gain:.2f} times as fast, and a large multiplication "
                     f"{times:.1f} times: few seconds of measuring, so no share comes out of it.)")  # fmt: skip
    return right(
        f"Here 16-bit made a large multiplication {times:.1f} times as fast and the training {gain:.2f} times: about "
        f"{share:.0%} of each step got faster. {rule}"
    )


def _share_made_faster(times: float, gain: float) -> float:
    """Return the part (0 to 1) of a step that got `times` as fast, where the whole became `gain` times as fast."""
    return (1 - 1 / gain) / (1 - 1 / times)
