"""Sentences made from figures: the model's card, notebook 05's conclusion, and what notebook 06's changes gained."""

import itertools

import numpy as np

from helpers.settings import Settings


def model_card(settings: Settings, training: dict, results: dict | None = None) -> str:
    """Return the text of the model's README.md; with notebook 05's results where they are known."""
    scores = training["development_accuracy_by_epoch"]
    lines = [
        "---", "pipeline_tag: text-classification", "library_name: transformers", "---", "",
        f"# {settings.model_name}, fine-tuned on {settings.dataset_name}", "",
        f"- Base model: {settings.model_name}, revision {settings.model_revision or 'a local folder'}",
        f"- Data: {settings.dataset_name}, revision {settings.dataset_revision or 'a local folder'}; "
        f"training rows: {settings.train_rows or 'all'}",
        f"- Recipe: {settings.epochs} epochs, batch {settings.batch_size}, learning rate {settings.learning_rate:g} "
        f"(warm-up {settings.warmup:.0%}, then linear to 0), weight decay {settings.weight_decay}, "
        f"{training['precision']}, seed {settings.seed}",
        f"- Training time: {training['train_seconds']:.0f} s on {training['device']}",
        "- Development accuracy by epoch: " + ", ".join(f"{score:.4f}" for score in scores)
        + f"; epoch {training['best_epoch']} is kept",
    ]  # fmt: skip
    if results:
        low, high = results["accuracy_ci95"]
        lines.append(
            f"- Final accuracy: {results['accuracy']:.4f} (95% Wilson interval {low:.4f} to {high:.4f}, "
            f"{results['rows']['final']} rows); majority class {results['majority_accuracy']:.4f}, "
            f"TF-IDF + logistic regression {results['tfidf_accuracy']:.4f}"
        )
    lines += ["", "Made in a course, for learning. Do not let it judge people or their words unread."]
    return "\n".join(lines) + "\n"


def conclusion(results: dict, confidence: float, matrix: np.ndarray) -> str:
    """Return what the figures show, and what they do not, in sentences made from the figures alone.

    Args:
        results: what `score` returns. confidence: mean probability of the answers. matrix: confusion matrix.
    """
    (low, high), scores = results["accuracy_ci95"], results["development_accuracy_by_epoch"]
    p, gain = results["mcnemar_p"], results["accuracy"] - results["tfidf_accuracy"]
    found = matrix.diagonal() / np.maximum(matrix.sum(axis=1), 1)
    lines = [
        f"{results['model']}, fine-tuned on {results['rows']['train']:,} rows of {results['dataset']}, answers "
        f"{results['accuracy']:.1%} of {results['rows']['final']:,} final sentences rightly "
        f"(95% interval {low:.1%} to {high:.1%})."
    ]
    if p < 0.05:
        verdict = "better" if gain > 0 else "WORSE"
        lines.append(
            f"It is {verdict} than TF-IDF by {abs(gain) * 100:.1f} points, more than chance explains (p = {p:.2g})."
        )
    else:
        lines.append(f"Its difference to TF-IDF, {gain * 100:+.1f} points, could be chance (p = {p:.2g}).")
    if len(scores) > 1:
        best = int(np.argmax(scores)) + 1
        lines.append(f"Epoch {best} of {len(scores)} was kept; the development set chose it, not the final one.")
    if confidence - results["accuracy"] > 0.02:
        lines.append(f"It is too sure of itself: its mean confidence is {confidence:.1%}.")
    if found.max() - found.min() > 0.05:
        lines.append(
            f"It is not even-handed: it finds {found.max():.0%} of one label and {found.min():.0%} of another."
        )
    lines.append(
        "What this does not show: how it does on other kinds of text, in other languages, on sentences that are "
        "neither positive nor negative, or with another seed (one training run is one sample)."
    )
    return "\n".join(lines)


def gains(recipes: dict, measured: dict[str, dict], peaks: dict[str, float]) -> list[str]:
    """Return a sentence on what each recipe gains over the one before it, made from the numbers alone.

    Args:
        recipes: `speed.Recipe`s; each differs from the one before in one field. measured: what `speed.measure` returns.
        peaks: FLOP/s of a large matrix multiplication in each recipe's precision.
    """
    said, names = [], list(recipes)
    for before, name in itertools.pairwise(names):
        old, new, was, now = recipes[before], recipes[name], measured[before], measured[name]
        gain = now["samples_per_second"] / was["samples_per_second"]
        text = f"{name}: {gain:.2f} times as fast" if abs(gain - 1) > 0.05 else f"{name}: no clear gain ({gain:.2f})"
        if new.padding != old.padding:
            each = [1 / (1 - result["padding_share"]) for result in (was, now)]
            why = f"positions computed for one real token went from {each[0]:.2f} to {each[1]:.2f}"
        elif new.batch_size != old.batch_size:
            why = f"the fixed costs of a step are shared by {new.batch_size} sentences instead of {old.batch_size}"
        elif new.precision != old.precision:
            times = peaks[new.precision] / peaks[old.precision]
            why = f"a large multiplication in {new.precision} is {times:.1f} times as fast as in {old.precision}"
        else:
            why = f"{new.attention} attention instead of {old.attention} computes the same in other pieces"
        said.append(f"{text}. {why[0].upper()}{why[1:]}.")
    return said
