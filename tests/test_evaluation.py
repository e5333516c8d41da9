"""Evaluation: the statistics against numbers worked out by hand, and a conclusion that says no more than they do."""

import math
import re

import numpy as np
import pytest
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom
from support import ROOT, make_settings, tiny_data, tiny_model

from helpers import data, evaluation, training
from helpers.durable import handoff
from helpers.durable.files import read_json

RIGHT = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60)
FIELDS = [
    "edition", "model", "model_revision", "parameters", "dataset", "dataset_revision", "seed", "rows", "epochs",
    "train_seconds", "predicted_train_seconds", "samples_per_second", "precision", "device", "accuracy",
    "accuracy_ci95", "f1", "majority_accuracy", "tfidf_accuracy", "mcnemar_p", "validation_accuracy_by_epoch",
    "versions",
]  # fmt: skip


@pytest.mark.parametrize(
    ("correct", "rows", "low", "high"),
    [(8, 10, 0.4902, 0.9433), (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (50, 100, 0.4038, 0.5962)],
)
def test_wilson_against_hand_numbers(correct, rows, low, high):
    assert evaluation.wilson_interval(correct, rows) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_against_its_formula(numbers):
    correct, rows = numbers
    z, share = 1.959963984540054, correct / rows
    middle = (share + z * z / (2 * rows)) / (1 + z * z / rows)
    half = z * math.sqrt(share * (1 - share) / rows + z * z / (4 * rows * rows)) / (1 + z * z / rows)
    low, high = evaluation.wilson_interval(np.int64(correct), rows)
    assert (low, high) == pytest.approx((max(0, middle - half), min(1, middle + half)), abs=1e-9)
    assert 0 <= low <= share <= high <= 1


@pytest.mark.parametrize(("correct", "rows"), [(0, 0), (5, 4), (-1, 4)])
def test_wilson_refuses_impossible_counts(correct, rows):
    with pytest.raises(ValueError):
        evaluation.wilson_interval(correct, rows)


def test_mcnemar_against_the_binomial_by_hand():
    first = np.array([True] * 8 + [False] * 2 + [True] * 5 + [False] * 5)
    second = np.array([False] * 8 + [True] * 2 + [True] * 5 + [False] * 5)
    ours, theirs, p = evaluation.mcnemar_test(first, second)
    assert (ours, theirs) == (8, 2)
    assert p == pytest.approx(2 * (1 + 10 + 45) / 2**10)  # 0, 1 or 2 heads of 10, and as many tails


@given(RIGHT)
def test_mcnemar_is_symmetric_and_counts_only_differences(pairs):
    first, second = np.array(pairs).T
    ours, theirs, p = evaluation.mcnemar_test(first, second)
    assert evaluation.mcnemar_test(second, first) == (theirs, ours, pytest.approx(p))
    assert (ours, theirs) == (pairs.count((True, False)), pairs.count((False, True)))
    assert p == pytest.approx(min(1, 2 * binom.cdf(min(ours, theirs), ours + theirs, 0.5)) if ours + theirs else 1)
    more = np.concatenate([first, [True, False]]), np.concatenate([second, [True, False]])
    assert evaluation.mcnemar_test(*more) == (ours, theirs, p)


def test_mcnemar_of_equal_answers_is_one():
    right = np.array([True, False, True])
    assert evaluation.mcnemar_test(right, right) == (0, 0, 1.0)


def test_a_calibrated_model_has_a_small_error_and_a_boaster_a_large_one():
    generator = np.random.default_rng(0)
    sure = generator.uniform(0.5, 1, 20_000)
    labels = (generator.random(20_000) < sure).astype(int)
    table = evaluation.calibration_table(np.stack([1 - sure, sure], axis=1), labels)
    assert (
        evaluation.expected_calibration_error(table) < 0.02
        and sum(row["rows"] for row in table) == 20_000
        and len(table) == 5
    )
    assert all(abs(row["confidence"] - row["accuracy"]) < 0.03 for row in table)
    boast = np.tile([0.01, 0.99], (20_000, 1))
    (only,) = evaluation.calibration_table(boast, labels)
    assert only["rows"] == 20_000
    assert evaluation.expected_calibration_error([only]) == pytest.approx(0.99 - labels.mean())


def test_calibration_by_hand():
    probabilities = np.array([[0.55, 0.45], [0.45, 0.55], [0.05, 0.95], [0.0, 1.0]])
    table = evaluation.calibration_table(probabilities, np.array([0, 0, 1, 1]))
    assert [row["rows"] for row in table] == [2, 2]
    assert [row["accuracy"] for row in table] == [0.5, 1.0]
    assert [row["confidence"] for row in table] == pytest.approx([0.55, 0.975])
    assert evaluation.expected_calibration_error(table) == pytest.approx((2 * 0.05 + 2 * 0.025) / 4)


def test_accuracy_by_group():
    right = np.array([True, True, False, True, False, False])
    table = evaluation.accuracy_by_group(["b", "a", "b", "a", "b", "b"], right)
    assert list(table) == ["a", "b"]
    assert table["a"] == (1.0, *evaluation.wilson_interval(2, 2), 2)
    assert table["b"] == (0.25, *evaluation.wilson_interval(1, 4), 4)


@pytest.mark.parametrize("parts", [2, 4])
def test_length_groups_are_about_equally_large(parts):
    generator = np.random.default_rng(1)
    sentences = ["word " * length for length in generator.integers(1, 400, 1000)]
    groups = evaluation.length_groups(sentences, parts)
    sizes = [groups.count(group) for group in sorted(set(groups))]
    assert len(sizes) == parts and sum(sizes) == 1000 and max(sizes) - min(sizes) < 30


@given(st.lists(st.integers(0, 30), min_size=1, max_size=80))
def test_length_groups_name_the_lengths_that_they_hold(lengths):
    sentences = ["word " * length for length in lengths]
    groups = evaluation.length_groups(sentences)
    assert len(groups) == len(sentences)
    for group in set(groups):
        low, high = map(int, re.fullmatch(r"[a-d]: (\d+)-(\d+) words", group).groups())
        inside = [n for n, g in zip(lengths, groups, strict=True) if g == group]
        assert (min(inside), max(inside)) == (low, high)
        assert all(not low <= n <= high for n, g in zip(lengths, groups, strict=True) if g != group)


def test_length_groups_of_equal_lengths_are_one_group():
    assert evaluation.length_groups(["two words"] * 9) == ["a: 2-2 words"] * 9


def test_category_column_is_the_one_with_few_different_texts():
    rows = {"idx": [1, 2, 3], "sentence": ["a", "b", "a"], "label": [0, 1, 0]}
    assert evaluation.category_column(Dataset.from_dict(rows)) is None
    assert evaluation.category_column(Dataset.from_dict(rows | {"kind": ["x", "y", "x"]})) == "kind"
    assert evaluation.category_column(Dataset.from_dict(rows | {"kind": ["x", "x", "x"]})) is None
    assert (
        evaluation.category_column(Dataset.from_dict({**rows, "who": ["x", "y", "x"], "label": ["n", "p", "n"]}))
        == "who"
    )


def test_categories_that_are_missing_in_places_do_not_stop_the_lesson():
    rows = {"sentence": ["a", "b", "c"], "label": [0, 1, 0], "kind": ["x", "y", None]}
    dataset = Dataset.from_dict(rows)
    name = evaluation.category_column(dataset)
    table = evaluation.accuracy_by_group(dataset[name][:], np.array([True] * 3)) if name else {}
    assert sum(row[3] for row in table.values()) in (0, 2, 3)


def results_with(**values) -> dict:
    """Return what `score` would return, with these values."""
    usual = {
        "model": "some-model", "dataset": "some-data", "rows": {"train": 5000, "validation": 400, "test": 600},
        "accuracy": 0.85, "accuracy_ci95": [0.8193, 0.8763], "tfidf_accuracy": 0.8, "mcnemar_p": 0.0123,
        "validation_accuracy_by_epoch": [0.8, 0.9, 0.7],
    }  # fmt: skip
    return usual | values


EVEN, UNEVEN = np.array([[255, 45], [45, 255]]), np.array([[290, 10], [80, 220]])
CONCLUSIONS = {
    "better": ({}, 0.86, EVEN),
    "WORSE": ({"accuracy": 0.75, "accuracy_ci95": [0.71, 0.78]}, 0.74, EVEN),
    "could be chance": ({"mcnemar_p": 0.3}, 0.86, EVEN),
    "too sure": ({}, 0.95, EVEN),
    "not even-handed": ({}, 0.85, UNEVEN),
    "one epoch": ({"validation_accuracy_by_epoch": [0.8]}, 0.86, EVEN),
}


@pytest.mark.parametrize("case", CONCLUSIONS)
def test_the_conclusion_says_what_the_figures_say(case):
    values, confidence, matrix = CONCLUSIONS[case]
    text = evaluation.conclusion(results_with(**values), confidence, matrix)
    assert ("better than TF-IDF" in text) == (case not in ("WORSE", "could be chance"))
    assert ("WORSE than TF-IDF" in text) == (case == "WORSE")
    assert ("could be chance" in text) == (case == "could be chance")
    assert ("too sure of itself" in text) == (case == "too sure")
    assert ("not even-handed" in text) == (case == "not even-handed")
    assert ("Epoch 2 of 3 was kept" in text) == (case != "one epoch")
    assert "What this does not show" in text


@pytest.mark.parametrize("case", CONCLUSIONS)
def test_the_conclusion_names_no_figure_that_it_was_not_given(case):
    values, confidence, matrix = CONCLUSIONS[case]
    results = results_with(**values)
    shares = [results["accuracy"], *results["accuracy_ci95"], confidence, *(matrix.diagonal() / matrix.sum(axis=1))]
    known = {f"{share:{form}}" for share in shares for form in (".1%", ".0%")}
    known |= {f"{abs(results['accuracy'] - results['tfidf_accuracy']) * 100:.1f}", f"{results['mcnemar_p']:.2g}"}
    known |= {f"{rows:,}" for rows in results["rows"].values()} | {"95%"}  # the level of the interval
    scores = results["validation_accuracy_by_epoch"]
    known |= {str(1 + scores.index(max(scores))), str(len(scores))}
    text = evaluation.conclusion(results, confidence, matrix)
    assert set(re.findall(r"\d[\d,]*(?:\.\d+)?(?:e-?\d+)?%?", text)) <= known


def test_results_are_the_documented_ones(tmp_path, no_stopwatch):
    folder, model = tiny_data(tmp_path / "data"), tiny_model(tmp_path / "tiny")
    settings = make_settings(tmp_path, dataset=folder, model=model, epochs=1)
    results = evaluation.evaluate_model(settings)
    assert read_json(settings.home / "results.json") == results
    assert list(results) == FIELDS
    assert results["rows"] == {"train": 96, "validation": 40, "test": 50}
    assert (results["edition"], results["model"], results["dataset"]) == ("pocket", "tiny", "data")
    assert results["model_revision"] is None and results["predicted_train_seconds"] > 0
    assert results["accuracy_ci95"] == list(evaluation.wilson_interval(round(50 * results["accuracy"]), 50))
    labels = data.load_or_make(settings)["test"]["label"][:]
    assert results["majority_accuracy"] == labels.count(0) / 50
    assert {"python", "torch", "transformers"} < set(results["versions"])
    assert f"Test accuracy: {results['accuracy']:.4f}" in (settings.home / "model" / "README.md").read_text()
    assert handoff.load(settings.home / "model", settings.fingerprint("model"), training.load), "it is whole still"
    again = evaluation.evaluate_model(settings)
    assert again == results, "nothing is trained again, and the figures stay"


def test_the_readme_documents_every_field():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    documented = text[text.index("`results.json`:") : text.index("`lesson/`")]
    assert set(re.findall(r"`(\w+)`", documented)) == set(FIELDS)
