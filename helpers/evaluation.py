"""Notebook 05: how good is the model, really? One look at the test set, with its uncertainty."""

import importlib.metadata
import platform
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from scipy.special import softmax
from scipy.stats import binomtest
from sklearn.metrics import f1_score
from transformers import DataCollatorWithPadding, Trainer, TrainingArguments

from helpers import data, tokenization, training
from helpers.durable import handoff
from helpers.durable.files import locked, write_json
from helpers.settings import Settings

PACKAGES = ("torch", "transformers", "datasets", "evaluate", "accelerate", "numpy", "scikit-learn")


def predict_probabilities(model, tokenizer, dataset: Dataset, folder: Path) -> np.ndarray:
    """Return the model's probabilities, shape (rows, classes), for a tokenized data set.

    Args:
        folder: where the Trainer may write; nothing is left there.
    """
    on_gpu = torch.cuda.is_available()
    args = TrainingArguments(
        output_dir=str(folder),
        per_device_eval_batch_size=128,
        report_to="none",
        disable_tqdm=True,
        use_cpu=not on_gpu,
        dataloader_pin_memory=on_gpu,
    )
    trainer = Trainer(model=model, args=args, data_collator=DataCollatorWithPadding(tokenizer))
    return softmax(trainer.predict(dataset).predictions, axis=-1)


def wilson_interval(correct: int, rows: int) -> tuple[float, float]:
    """Return the 95% Wilson score interval of an accuracy (Wilson 1927; scipy's `binomtest`).

    Raises ValueError when rows is 0 or correct is not between 0 and rows.
    """
    interval = binomtest(int(correct), int(rows)).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


def mcnemar_test(first: np.ndarray, second: np.ndarray) -> tuple[int, int, float]:
    """Compare two models on the same rows with the exact McNemar test (McNemar 1947).

    Args:
        first, second: boolean arrays, shape (rows,): was this row answered rightly?

    Returns:
        (rows that only the first got right, rows that only the second got right, two-sided p-value).
        Rows that both got right, or both wrong, tell nothing about which is better. p is 1 where none differs.
    """
    only_first, only_second = int(np.sum(first & ~second)), int(np.sum(second & ~first))
    if only_first + only_second == 0:
        return 0, 0, 1.0
    return only_first, only_second, float(binomtest(only_first, only_first + only_second).pvalue)


def calibration_table(probabilities: np.ndarray, labels: np.ndarray, bins: int = 5) -> list[dict]:
    """Compare how sure the model is with how often it is right.

    Args:
        probabilities: shape (rows, classes). labels: shape (rows,).

    Returns:
        One {"confidence", "accuracy", "rows"} a bin that holds rows (bins equally wide from 1/classes to 1).
    """
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    edges = np.linspace(1 / probabilities.shape[1], 1, bins + 1)
    place = np.clip(np.digitize(confidence, edges) - 1, 0, bins - 1)
    inside = [place == b for b in range(bins) if (place == b).any()]
    return [
        {"confidence": float(confidence[b].mean()), "accuracy": float(right[b].mean()), "rows": int(b.sum())}
        for b in inside
    ]


def expected_calibration_error(table: list[dict]) -> float:
    """Return the mean gap between confidence and accuracy in a `calibration_table`, weighted by rows.

    Guo et al. 2017, On Calibration of Modern Neural Networks.
    """
    gaps = [row["rows"] * abs(row["confidence"] - row["accuracy"]) for row in table]
    return sum(gaps) / sum(row["rows"] for row in table)


def accuracy_by_group(groups: list, right: np.ndarray) -> dict:
    """Return {group: (accuracy, low, high, rows)} with Wilson intervals, in the groups' sorted order."""
    table = {}
    for group in sorted(set(groups)):
        inside = right[[g == group for g in groups]]
        table[group] = (float(inside.mean()), *wilson_interval(inside.sum(), len(inside)), len(inside))
    return table


def length_groups(sentences: list[str], parts: int = 4) -> list[str]:
    """Return for each sentence a label such as "b: 12-18 words"; the parts hold about equally many sentences."""
    counts = np.array([len(data.words(s)) for s in sentences])
    edges = np.unique(np.quantile(counts, np.linspace(0, 1, parts + 1)[1:-1], method="lower"))
    place = np.searchsorted(edges, counts, side="left")
    names = {p: f"{'abcdefgh'[p]}: {counts[place == p].min()}-{counts[place == p].max()} words" for p in set(place)}
    return [names[p] for p in place]


def category_column(dataset: Dataset) -> str | None:
    """Return the data's own column of categories (text with 2 to 20 different values), or None."""
    for name in dataset.column_names:
        values = dataset[name][:] if name not in ("sentence", "label") else []
        if all(isinstance(value, str) for value in values) and 2 <= len(set(values)) <= 20:
            return name
    return None


def score(settings: Settings, splits, probabilities: np.ndarray, summary: dict) -> dict:
    """Return the results of a run, as they stand in results.json (see the README for every field).

    Args:
        splits: train, validation and test, as `data.load_or_make` returns them.
        probabilities: of the test rows, shape (rows, classes).
        summary: what `training.load_or_train` returns third.
    """
    labels, answers = np.array(splits["test"]["label"]), probabilities.argmax(axis=1)
    test = splits["test"]["sentence"][:]
    majority = data.majority_baseline(splits["train"]).predict(test)
    tfidf = data.tfidf_baseline(splits["train"]).predict(test)
    binary = probabilities.shape[1] == 2
    return {
        "edition": settings.edition,
        "model": settings.model_name,
        "model_revision": settings.model_revision,
        "parameters": summary["parameters"],
        "dataset": settings.dataset_name,
        "dataset_revision": settings.dataset_revision,
        "seed": settings.seed,
        "rows": splits.num_rows,
        "epochs": summary["hyperparameters"]["epochs"],
        "train_seconds": summary["train_seconds"],
        "predicted_train_seconds": summary["predicted_train_seconds"],
        "samples_per_second": summary["samples_per_second"],
        "precision": summary["precision"],
        "device": summary["device"],
        "accuracy": float(np.mean(answers == labels)),
        "accuracy_ci95": list(wilson_interval(np.sum(answers == labels), len(labels))),
        "f1": float(f1_score(labels, answers, average="binary" if binary else "macro")),
        "majority_accuracy": float(np.mean(majority == labels)),
        "tfidf_accuracy": float(np.mean(tfidf == labels)),
        "mcnemar_p": mcnemar_test(answers == labels, tfidf == labels)[2],
        "validation_accuracy_by_epoch": summary["validation_accuracy_by_epoch"],
        "versions": {"python": platform.python_version()}
        | {name: importlib.metadata.version(name) for name in PACKAGES},
    }


def save(settings: Settings, results: dict, summary: dict) -> Path:
    """Write LESSON_HOME/<edition>/results.json and put the test figures on the model's card. Returns the path.

    Args:
        results: what `score` returns. summary: what `training.load_or_train` returns third.
    """
    path, card = settings.home / "results.json", training.model_card(settings, summary, results)
    with locked(path):
        write_json(path, results)
    handoff.write_card(settings.home / "model", settings.fingerprint("model"), card)
    return path


def evaluate_model(settings: Settings) -> dict:
    """Do what notebook 05 does, without the figures. Returns the results; they are also written.

    Under `accelerate launch` all processes predict; the first one scores and writes, the others return {}.
    """
    model, tokenizer, summary = training.load_or_train(settings)
    state = training.distributed_state()
    with state.main_process_first():
        splits, (tokenized, _) = data.load_or_make(settings), tokenization.load_or_make(settings)
    probabilities = predict_probabilities(model, tokenizer, tokenized["test"], settings.home)
    if not state.is_main_process:
        return {}
    results = score(settings, splits, probabilities, summary)
    save(settings, results, summary)
    return results


def conclusion(results: dict, confidence: float, matrix: np.ndarray) -> str:
    """Return what the figures show, and what they do not, in sentences made from the figures alone.

    Args:
        results: what `score` returns. confidence: mean probability of the answers. matrix: confusion matrix.
    """
    (low, high), scores = results["accuracy_ci95"], results["validation_accuracy_by_epoch"]
    p, gain = results["mcnemar_p"], results["accuracy"] - results["tfidf_accuracy"]
    rows = [(right, total) for right, total in zip(matrix.diagonal(), matrix.sum(axis=1), strict=True) if total]
    lowest, highest = (pick(rows, key=lambda row: row[0] / row[1]) for pick in (min, max))
    lines = [
        f"{results['model']}, fine-tuned on {results['rows']['train']:,} rows of {results['dataset']}, is right on "
        f"{results['accuracy']:.1%} of the {results['rows']['test']:,} test sentences "
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
        lines.append(f"Epoch {best} of {len(scores)} was kept; the validation set chose it, not the test set.")
    if confidence - results["accuracy"] > 0.02:
        lines.append(f"It is too sure of itself: its mean confidence is {confidence:.1%}.")
    if wilson_interval(*lowest)[1] < wilson_interval(*highest)[0]:
        most, least = highest[0] / highest[1], lowest[0] / lowest[1]
        lines.append(
            f"It is not even-handed: it finds {most:.0%} of one label and {least:.0%} of another, and their intervals "
            "do not overlap."
        )
    lines.append(
        "What this does not show: how it does on other kinds of text, in other languages, on sentences that fit none "
        "of the labels, or with another seed (one training run is one sample)."
    )
    return "\n".join(lines)
