"""Notebook 05: how good is the model, really? One look at the final set, with its uncertainty."""

import importlib.metadata
import platform
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from scipy.stats import binomtest
from sklearn.metrics import f1_score
from transformers import DataCollatorWithPadding, Trainer, TrainingArguments

from helpers import data, report, tokenization, training
from helpers.files import read_json, write_json, write_text
from helpers.settings import Settings

PACKAGES = ("torch", "transformers", "datasets", "evaluate", "accelerate", "numpy", "scikit-learn")


def predict(model, tokenizer, dataset: Dataset, folder: Path) -> np.ndarray:
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
    return softmax(trainer.predict(dataset).predictions)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return probabilities that sum to 1 over the last axis."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def wilson(correct: int, rows: int) -> tuple[float, float]:
    """Return the 95% Wilson score interval of an accuracy (Wilson 1927; scipy's `binomtest`).

    Raises ValueError when rows is 0 or correct is not between 0 and rows.
    """
    interval = binomtest(int(correct), int(rows)).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


def mcnemar(first: np.ndarray, second: np.ndarray) -> tuple[int, int, float]:
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


def calibration(probabilities: np.ndarray, labels: np.ndarray, bins: int = 5) -> tuple[list[dict], float]:
    """Compare how sure the model is with how often it is right.

    Args:
        probabilities: shape (rows, classes). labels: shape (rows,).

    Returns:
        One {"confidence", "accuracy", "rows"} a bin that holds rows (bins equally wide from 1/classes to 1), and the
        expected calibration error: the mean gap, weighted by rows (Guo et al. 2017, On Calibration of Modern Neural
        Networks).
    """
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    edges = np.linspace(1 / probabilities.shape[1], 1, bins + 1)
    place = np.clip(np.digitize(confidence, edges) - 1, 0, bins - 1)
    table = [
        {"confidence": float(confidence[place == b].mean()), "accuracy": float(right[place == b].mean()),
         "rows": int((place == b).sum())}
        for b in range(bins) if (place == b).any()
    ]  # fmt: skip
    return table, sum(row["rows"] * abs(row["confidence"] - row["accuracy"]) for row in table) / len(labels)


def accuracy_by_group(groups: list, right: np.ndarray) -> dict:
    """Return {group: (accuracy, low, high, rows)} with Wilson intervals, in the groups' sorted order."""
    table = {}
    for group in sorted(set(groups)):
        inside = right[[g == group for g in groups]]
        table[group] = (float(inside.mean()), *wilson(inside.sum(), len(inside)), len(inside))
    return table


def length_groups(sentences: list[str], parts: int = 4) -> list[str]:
    """Return for each sentence a label such as "b: 12-18 words"; the parts hold about equally many sentences."""
    counts = np.array([len(data.words(s)) for s in sentences])
    edges = np.unique(np.quantile(counts, np.linspace(0, 1, parts + 1)[1:-1], method="lower"))
    place = np.searchsorted(edges, counts, side="left")
    names = {p: f"{'abcdefgh'[p]}: {counts[place == p].min()}-{counts[place == p].max()} words" for p in set(place)}
    return [names[p] for p in place]


def tag_column(dataset: Dataset) -> str | None:
    """Return the data's own column of tags (text with 2 to 20 different values), or None."""
    for name in dataset.column_names:
        values = dataset[name][:] if name not in ("sentence", "label") else []
        if all(isinstance(value, str) for value in values) and 2 <= len(set(values)) <= 20:
            return name
    return None


def score(settings: Settings, splits, probabilities: np.ndarray, record: dict) -> dict:
    """Return the results of a run, as they stand in results.json (see the README for every field).

    Args:
        splits: train, development and final, as `data.prepare` returns them.
        probabilities: of the final rows, shape (rows, classes).
        record: what `training.prepare` returns third.
    """
    labels, answers = np.array(splits["final"]["label"]), probabilities.argmax(axis=1)
    final = splits["final"]["sentence"][:]
    majority = data.majority_baseline(splits["train"]).predict(final)
    tfidf = data.tfidf_baseline(splits["train"]).predict(final)
    binary = probabilities.shape[1] == 2
    return {
        "edition": settings.edition,
        "model": settings.model_name,
        "model_revision": settings.model_revision,
        "parameters": record["parameters"],
        "dataset": settings.dataset_name,
        "dataset_revision": settings.dataset_revision,
        "seed": settings.seed,
        "rows": splits.num_rows,
        "epochs": settings.epochs,
        "train_seconds": record["train_seconds"],
        "predicted_train_seconds": record["predicted_train_seconds"],
        "samples_per_second": record["samples_per_second"],
        "precision": record["precision"],
        "device": record["device"],
        "accuracy": float(np.mean(answers == labels)),
        "accuracy_ci95": list(wilson(np.sum(answers == labels), len(labels))),
        "f1": float(f1_score(labels, answers, average="binary" if binary else "macro")),
        "majority_accuracy": float(np.mean(majority == labels)),
        "tfidf_accuracy": float(np.mean(tfidf == labels)),
        "mcnemar_p": mcnemar(answers == labels, tfidf == labels)[2],
        "development_accuracy_by_epoch": record["development_accuracy_by_epoch"],
        "versions": {"python": platform.python_version()}
        | {name: importlib.metadata.version(name) for name in PACKAGES},
    }


def keep(settings: Settings, results: dict) -> Path:
    """Write LESSON_HOME/<edition>/results.json and put the final figures on the model's card. Returns the path."""
    path, folder = settings.home / "results.json", settings.home / "model"
    write_json(path, results)
    record = read_json(folder / "training.json")
    if record:
        write_text(folder / "README.md", report.model_card(settings, record, results))
    return path


def prepare(settings: Settings) -> dict:
    """Do what notebook 05 does, without the figures. Returns the results; they are also written.

    Under `accelerate launch` all processes predict; the first one scores and writes, the others return {}.
    """
    model, tokenizer, record = training.prepare(settings)
    state = training.processes()
    with state.main_process_first():
        splits, (tokenized, _) = data.prepare(settings), tokenization.prepare(settings)
    probabilities = predict(model, tokenizer, tokenized["final"], settings.home)
    if not state.is_main_process:
        return {}
    results = score(settings, splits, probabilities, record)
    keep(settings, results)
    return results
