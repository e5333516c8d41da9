"""The figures: data in, one matplotlib figure out. Each can be read without colour."""

import matplotlib.pyplot as plt
import numpy as np

COLOURS = ("#1f4e79", "#d9822b", "#7f7f7f", "#5b8c5a")  # told apart by lightness too
HATCHES = ("", "//", "..", "xx")


def axes(title: str, xlabel: str, ylabel: str, size: tuple[float, float] = (7, 3.2)):
    """Return (figure, axes) in the course's style; size in inches."""
    figure, ax = plt.subplots(figsize=size, layout="constrained")
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
    if line:
        ax.axvline(line[0], color="black", linestyle="--", linewidth=1)
        ax.annotate(line[1], (line[0], 0), (4, 12), textcoords="offset points", fontsize=9)
    return figure


def histogram(groups: dict[str, list[float]], title: str, xlabel: str, ylabel: str):
    """Return a figure with the distribution of each group as a stepped outline, over the same bins."""
    figure, ax = axes(title, xlabel, ylabel)
    top = max(max(values) for values in groups.values())
    edges = np.arange(0.5, top + 1.5, -(-int(top) // 60))  # whole numbers, at most 60 bins
    for (name, values), colour, style in zip(groups.items(), COLOURS, ("-", "--", ":", "-."), strict=False):
        weights = np.full(len(values), 1 / len(values))
        ax.hist(values, edges, weights=weights, histtype="step", color=colour, linestyle=style, linewidth=2, label=name)
    ax.legend(frameon=False)
    return figure


def training_curves(history: list[dict], best_epoch: int):
    """Return a figure from a Trainer's log_history: the loss on both sets, and the development accuracy."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    train = [(entry["epoch"], entry["loss"]) for entry in history if "loss" in entry]
    checks = [entry for entry in history if "eval_accuracy" in entry]
    epochs = [entry["epoch"] for entry in checks]
    left.plot(*zip(*train, strict=True), color=COLOURS[0], label="training rows")
    left.plot(epochs, [e["eval_loss"] for e in checks], "s--", color=COLOURS[1], label="development rows")
    right.plot(epochs, [e["eval_accuracy"] for e in checks], "s--", color=COLOURS[1], label="development rows")
    kept = checks[best_epoch - 1]
    right.annotate("kept", (kept["epoch"], kept["eval_accuracy"]), (0, 8), textcoords="offset points", ha="center")
    for ax, name in ((left, "loss (lower is better)"), (right, "accuracy (higher is better)")):
        ax.set(xlabel="epoch", ylabel=name, xlim=(0, max(epochs) + 0.15))
        ax.set_xticks(range(1, round(max(epochs)) + 1))
        ax.spines[["top", "right"]].set_visible(False)
        ax.legend(frameon=False)
    right.margins(y=0.25)
    return figure


def lines(series: dict[str, list[float]], title: str, xlabel: str, ylabel: str):
    """Return a figure with one line a name over 1, 2, 3, ..., told apart by marker and dash."""
    figure, ax = axes(title, xlabel, ylabel)
    for (name, values), colour, style in zip(series.items(), COLOURS, ("o-", "s--", "^:", "d-."), strict=False):
        ax.plot(range(1, len(values) + 1), values, style, color=colour, label=name)
    ax.set_xticks(range(1, max(map(len, series.values())) + 1))
    ax.margins(0.08, 0.15)
    ax.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


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
    return figure


def confusion(matrix: np.ndarray, names: list[str]):
    """Return a figure of a confusion matrix, shape (classes, classes): rows are the truth, columns the answer."""
    figure, ax = axes("True labels and answers", "the model's answer", "the true label", (4.4, 3.6))
    ax.imshow(matrix, cmap="Blues", vmin=0)
    for row, line in enumerate(matrix):
        for column, count in enumerate(line):
            colour = "white" if count > matrix.max() / 2 else "black"
            ax.text(column, row, f"{count:,}", ha="center", va="center", color=colour, fontsize=13)
    ax.set_xticks(range(len(names)), names)
    ax.set_yticks(range(len(names)), names)
    return figure


def reliability(table: list[dict], classes: int = 2):
    """Return a figure of `evaluation.calibration`'s table: how sure against how often right."""
    figure, ax = axes(
        "Is it right as often as it is sure?", "how sure the model is (mean of a bin)", "share right", (5, 3.8)
    )
    ax.plot([1 / classes, 1], [1 / classes, 1], "--", color="black", linewidth=1, label="perfectly calibrated")
    sure, right = [r["confidence"] for r in table], [r["accuracy"] for r in table]
    ax.plot(sure, right, "o-", color=COLOURS[0], label="this model")
    for row in table:
        ax.annotate(
            f"{row['rows']} rows",
            (row["confidence"], row["accuracy"]),
            (6, -12),
            textcoords="offset points",
            fontsize=8,
        )
    ax.legend(frameon=False)
    ax.margins(0.18)
    return figure
