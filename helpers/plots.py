"""The figures: data in, one matplotlib figure out. Each can be read without colour, and says in words what it shows."""

import math

import matplotlib.figure
import matplotlib.pyplot as plt
import numpy as np

COLOURS = ("#122f52", "#d4761c", "#6a6a6a", "#1f5a3c")  # told apart by lightness too (tests/test_plots.py)
HATCHES = ("", "//", "..", "xx")
MOST_TICKS = 20
DASHES, MARKERS = ("-", "--", ":", "-."), "os^d"  # from the fifth series on, colours come with other dashes


class Figure(matplotlib.figure.Figure):
    """A figure with a text alternative, `alt`, which a notebook keeps with the picture for those who cannot see it."""

    alt = ""

    def describe(self, title: str, kind: str, parts) -> "Figure":
        """Make the text alternative from a title, the kind of figure and what is drawn; return the figure."""
        self.alt = f"{title.rstrip('.')}{'' if title.endswith('?') else '.'} {kind}: {'; '.join(parts)}."
        return self

    def _repr_mimebundle_(self, include=None, exclude=None) -> tuple[dict, dict]:
        """Tell IPython how to show the figure: the picture, and beside it the text that site, decks and pages read."""
        from IPython.core.pylabtools import print_figure

        return {"image/png": print_figure(self, base64=True)}, {"image/png": {"alt": self.alt}}


def axes(title: str, xlabel: str, ylabel: str, size: tuple[float, float] = (7, 3.2)):
    """Return (figure, axes) in the course's style; size in inches."""
    figure, ax = plt.subplots(figsize=size, FigureClass=Figure, layout="constrained")
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.set_title(title, loc="left", fontsize=11, fontweight="bold")
    ax.spines[["top", "right"]].set_visible(False)
    return figure, ax


def bars(
    values: dict[str, float], title: str, xlabel: str, form: str = "{:.2f}", line: tuple[float, str] | None = None
):
    """Return a figure with one horizontal bar a name, its value written at its end.

    Args:
        form: how a value is written. line: (value, text) of a dashed vertical line to compare with.
    """
    figure, ax = axes(title, xlabel, "", (7, 1.2 + 0.45 * len(values)))
    names = list(values)
    for row, name in enumerate(names):
        ax.barh(row, values[name], color=COLOURS[row % 4], hatch=HATCHES[row % 4], edgecolor="white", height=0.65)
        ax.annotate(form.format(values[name]), (values[name], row), (4, 0), textcoords="offset points", va="center")
    ax.set_yticks(range(len(names)), names)
    ax.invert_yaxis()
    ax.set_xlim(0, 1.15 * max([*values.values(), line[0] if line else 0]))
    parts = [f"{name} {form.format(value)}" for name, value in values.items()]
    if line:
        ax.axvline(line[0], color="black", linestyle="--", linewidth=1)
        ax.annotate(line[1], (line[0], 0), (4, 12), textcoords="offset points", fontsize=9)
        parts.append(f"dashed line, {line[1]}, at {form.format(line[0])}")
    return figure.describe(title, f"Bar chart, {xlabel}", parts)


def histogram(groups: dict[str, list[float]], title: str, xlabel: str, ylabel: str):
    """Return a figure with the distribution of each group as a stepped outline, over the same bins."""
    figure, ax = axes(title, xlabel, ylabel)
    top = max(max(values) for values in groups.values())
    width = max(1, math.ceil(top / 60))  # whole numbers, at most 60 bins
    edges = np.arange(0.5, top + width + 0.5, width)
    for number, (name, values) in enumerate(groups.items()):
        look = {"color": COLOURS[number % 4], "linestyle": DASHES[(number + number // 4) % 4]}
        weights = np.full(len(values), 1 / len(values))
        ax.hist(values, edges, weights=weights, histtype="step", linewidth=2, label=name, **look)
    ax.legend(frameon=False)
    quarters = {name: np.percentile(values, (25, 50, 75, 100)) for name, values in groups.items()}
    parts = (f"{name}: half of them from {a:.3g} to {c:.3g}, the middle one {b:.3g}, the largest {d:.3g}"
             for name, (a, b, c, d) in quarters.items())  # fmt: skip
    return figure.describe(title, f"Histogram, {ylabel} by {xlabel}", parts)


def training_curves(history: list[dict], best_epoch: int):
    """Return a figure from a Trainer's log_history: the loss on both sets, and the validation accuracy."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), FigureClass=Figure, layout="constrained")
    train = [(entry["epoch"], entry["loss"]) for entry in history if "loss" in entry]
    checks = [entry for entry in history if "eval_accuracy" in entry]
    epochs = [entry["epoch"] for entry in checks]
    left.plot(*zip(*train, strict=True), color=COLOURS[0], label="training rows")
    left.plot(epochs, [e["eval_loss"] for e in checks], "s--", color=COLOURS[1], label="validation rows")
    right.plot(epochs, [e["eval_accuracy"] for e in checks], "s--", color=COLOURS[1], label="validation rows")
    kept = checks[best_epoch - 1]
    right.annotate("kept", (kept["epoch"], kept["eval_accuracy"]), (0, 8), textcoords="offset points", ha="center")
    for ax, name in ((left, "loss (lower is better)"), (right, "accuracy (higher is better)")):
        ax.set_title(name.split()[0].capitalize(), loc="left", fontsize=11, fontweight="bold")
        ax.set(xlabel="epoch", ylabel=name, xlim=(0, max(epochs) + 0.15))
        ax.set_xticks(range(1, round(max(epochs)) + 1))
        ax.spines[["top", "right"]].set_visible(False)
        ax.legend(frameon=False)
    right.margins(y=0.25)
    parts = [f"left, loss on training rows, from {train[0][1]:.3f} to {train[-1][1]:.3f}"]
    for name, key in (("left, loss", "eval_loss"), ("right, accuracy", "eval_accuracy")):
        scores = (f"{entry[key]:.3f} after epoch {entry['epoch']:.3g}" for entry in checks)
        parts.append(f"{name} on validation rows, {', '.join(scores)}")
    parts.append(f"epoch {best_epoch} kept")
    return figure.describe("How training went", "Two line charts over the epochs", parts)


def lines(series: dict[str, list[float]], title: str, xlabel: str, ylabel: str):
    """Return a figure with one line a name over 1, 2, 3, ..., told apart by marker and dash.

    Of more than MOST_TICKS values not each is named, on the axis and in the text alternative.
    """
    figure, ax = axes(title, xlabel, ylabel)
    for number, (name, values) in enumerate(series.items()):
        look = {"color": COLOURS[number % 4], "linestyle": DASHES[(number + number // 4) % 4]}
        ax.plot(range(1, len(values) + 1), values, marker=MARKERS[number % 4], label=name, **look)
    longest = max(map(len, series.values()))
    every = math.ceil(longest / MOST_TICKS)
    ax.set_xticks(range(every, longest + 1, every))
    ax.margins(0.08, 0.15)
    ax.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    told = {name: values[every - 1 :: every] for name, values in series.items()}
    parts = (f"{name}: {', '.join(f'{value:.3f}' for value in values)}" for name, values in told.items())
    each = f"each {xlabel}" if every == 1 else f"every {every} {xlabel}s"
    return figure.describe(title, f"Line chart, {ylabel} at {each}", parts)


def intervals(table: dict[str, tuple], title: str, xlabel: str = "accuracy"):
    """Return a figure with a dot and its interval a name. Values of table: (accuracy, low, high, ...)."""
    figure, ax = axes(title, xlabel, "", (7, 1.3 + 0.38 * len(table)))
    for row, (middle, low, high, *_) in enumerate(table.values()):
        ax.plot([low, high], [row, row], color=COLOURS[2], linewidth=3, solid_capstyle="butt")
        ax.plot(middle, row, "o", color=COLOURS[0])
        ax.annotate(f"{middle:.3f}", (high, row), (6, 0), textcoords="offset points", va="center")
    ax.set_yticks(range(len(table)), [f"{name} ({v[3]:,})" if len(v) > 3 else name for name, v in table.items()])
    ax.set_ylim(len(table) - 0.5, -0.5)
    low, high = min(v[1] for v in table.values()), max(v[2] for v in table.values())
    ax.set_xlim(low - 0.03, high + 0.12 * (high - low) + 0.04)
    ax.grid(axis="x", alpha=0.3)
    parts = (f"{name} {v[0]:.3f} ({v[1]:.3f} to {v[2]:.3f})" for name, v in table.items())
    return figure.describe(title, f"Dots with intervals, {xlabel}", parts)


def confusion(matrix: np.ndarray, names: list[str]):
    """Return a figure of a confusion matrix, shape (classes, classes): rows are the truth, columns the answer."""
    side, size = max(3.6, 0.5 * len(names)), 13 if len(names) < 8 else 8
    figure, ax = axes("True labels and answers", "the model's answer", "the true label", (side + 0.8, side))
    ax.imshow(matrix, cmap="Blues", vmin=0)
    parts = []
    for row, line in enumerate(matrix):
        counts = ", ".join(f"{name} {count:,}" for name, count in zip(names, line, strict=True))
        parts.append(f"truly {names[row]}, answered {counts}")
        for column, count in enumerate(line):
            colour = "white" if count > 0.72 * matrix.max() else "black"  # where both contrast equally
            ax.text(column, row, f"{count:,}", ha="center", va="center", color=colour, fontsize=size)
    ax.set_xticks(range(len(names)), names, rotation=0 if len(names) < 4 else 90)
    ax.set_yticks(range(len(names)), names)
    return figure.describe(ax.get_title("left"), "Table of counts", parts)


def reliability(table: list[dict], classes: int = 2):
    """Return a figure of `evaluation.calibration_table`: how sure against how often right."""
    figure, ax = axes(
        "Is it right as often as it is sure?", "how sure the model is (mean of a bin)", "share right", (5, 3.8)
    )
    ax.plot([1 / classes, 1], [1 / classes, 1], "--", color="black", linewidth=1, label="perfectly calibrated")
    sure, right = [r["confidence"] for r in table], [r["accuracy"] for r in table]
    ax.plot(sure, right, "o-", color=COLOURS[0], label="this model")
    for x, y, row in zip(sure, right, table, strict=True):
        above = y > x  # beside the dashed line, not on it
        place = {"xytext": (-6, 5), "ha": "right"} if above else {"xytext": (6, -12)}
        ax.annotate(f"{row['rows']} rows", (x, y), textcoords="offset points", fontsize=8, **place)
    ax.legend(frameon=False)
    ax.margins(0.18)
    parts = (f"{r['rows']} rows, mean confidence {r['confidence']:.2f}, right {r['accuracy']:.2f}" for r in table)
    return figure.describe(ax.get_title("left"), "Line chart, with a dashed line where both are equal", parts)
