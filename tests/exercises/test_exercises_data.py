"""The exercises of notebook 02."""

import tempfile
from collections import Counter
from pathlib import Path

from cases import Case, exercise_tests
from datasets import ClassLabel, DatasetDict, Value
from support import make_settings, sst2_like, tiny_rows, to_dataset

from helpers import data
from helpers.exercises.check import Check
from helpers.exercises.judging import RIGHT, WRONG

settings = make_settings(Path(tempfile.mkdtemp(prefix="lesson-")))


def names(dataset) -> dict:
    """Return the variables of the notebook, made as it makes them."""
    kept, held_out = data.hold_out_sentences(dataset["train"], 100, settings.seed)
    splits = {"train": kept, "validation": held_out}
    parts = dataset["train"].train_test_split(test_size=0.1, seed=settings.seed)
    score = data.majority_baseline(kept).score(held_out["sentence"][:], held_out["label"][:])
    return {
        "settings": settings,
        "dataset": dataset,
        "sentences": dataset["train"]["sentence"][:],
        "random_split": parts,
        "leaky": data.find_contained(parts["test"]["sentence"][:], parts["train"]["sentence"][:]),
        "splits": splits,
        "scores": {"majority class": score},
    }


NAMES = names(sst2_like(sentences=600))
ZEROS = NAMES["dataset"]["train"]["label"][:].count(0)


def majority(train_labels, test_labels):
    return test_labels.count(Counter(train_labels).most_common(1)[0][0]) / len(test_labels)


def majority_of_test(train_labels, test_labels):
    return max(Counter(test_labels).values()) / len(test_labels)


def majority_that_empties_its_lists(train_labels, test_labels):
    found = majority(train_labels, test_labels)
    train_labels.clear()
    test_labels.clear()
    return found


def inside(one: tuple, other: tuple) -> bool:
    return any(other[i : i + len(one)] == one for i in range(len(other)))


def leaky(one, other):
    one, other = data.words(one), data.words(other)
    return inside(one, other) or inside(other, one)


def first_place_only(one, other):
    one, other = sorted((data.words(one), data.words(other)), key=len)
    if one[0] not in other:
        return False
    place = other.index(one[0])
    return other[place : place + len(one)] == one


def in_this_order(one, other):
    short, long = sorted((data.words(one), data.words(other)), key=len)
    rest = iter(long)
    return all(word in rest for word in short)


CASES = {
    "rows_without_label": Case(
        right=[40, 40.0],
        wrong=[(ZEROS, "0 is a label"), (-1, "how a missing label is *written*"), (1, "counts splits"),
               (1800 + 120, "*have* a label"), (0, "look for −1"), (41, "look for −1")],
    ),
    "half_held_out": Case(
        right=["fall", "FALL"],
        wrong=[("rise", "which *share*"), ("stay", "In how many rows"), ("falls", "none of the answers")],
    ),
    "luckiest_of_many": Case(
        right=["higher", "Higher "],
        wrong=[("lower", "best of 100"), ("the same", "Will the luck come again"), (0.5, "none of the answers")],
    ),
    "majority_accuracy": Case(
        right=[majority, majority_that_empties_its_lists],
        wrong=[
            (majority_of_test, "test_labels only say whether it was right"),
            (lambda train, test: max(Counter(train).values()) / len(train), "share in train_labels"),
            (lambda train, test: Counter(train).most_common(1)[0][0], "the label which is always answered"),
            (lambda train, test: majority(train, test) * len(test), "Divide by the length"),
            (lambda train, test: 100 * majority(train, test), "percentage"),
            (lambda train, test: test.count(Counter(train).most_common(1)) / len(test), "holds a pair"),
            (lambda train, test: sum(test) / len(test), "commonest label of train_labels is 0"),
            (lambda train, test: majority(train, test) if len(test) < 11 else 0.99, "the labels of train"),
            (lambda train, test: majority(train), "stopped with TypeError"),
            (lambda train, test: [0.3], "a number is asked for"),
            (majority([1], [1]), "without brackets"),
        ],
    ),
    "leaky_pair": Case(
        right=[leaky, lambda a, b: bool(data.find_contained([a], [b]) or data.find_contained([b], [a]))],
        wrong=[
            (lambda a, b: a.lower() in b.lower() or b.lower() in a.lower(), 'only a part of "party"'),
            (lambda a, b: inside(data.words(a), data.words(b)), "the other way round"),
            (lambda a, b: inside(data.words(b), data.words(a)), "a piece of the second"),
            (lambda a, b: set(a.split()) <= set(b.split()) or set(b.split()) <= set(a.split()), "not in one run"),
            (lambda a, b: inside(a.split(), b.split()) or inside(b.split(), a.split()), "capital letters"),
            (first_place_only, "go on looking"),
            (in_this_order, "not next to each other"),
            (lambda a, b: leaky(a, b) and a != b, "the largest leak"),
            (lambda a, b: True, "nothing in common"),
            (lambda a, b: "yes" if leaky(a, b) else "no", "True or False"),
            (lambda a, b: a.word(b), "stopped with AttributeError"),
        ],
    ),
}  # fmt: skip
TestExercises = exercise_tests("data", NAMES, CASES)


def check(**changed) -> Check:
    return Check("data", NAMES | changed, remember=False)


def test_the_label_0_is_not_taken_for_a_missing_one_where_none_is_missing():
    dataset = sst2_like()
    del dataset["test"]
    here = check(dataset=dataset)
    assert here.rows_without_label(0).state == RIGHT
    for zeros in (part["label"][:].count(0) for part in dataset.values()):
        assert "0 is a label" in here.rows_without_label(zeros).text


def test_the_shipped_reviews_lack_no_label(tmp_path):
    dataset = data.standard_columns(data.open_dataset(make_settings(tmp_path)))
    assert check(dataset=dataset).rows_without_label(0).state == RIGHT
    assert check(dataset=dataset).rows_without_label(3026).state == WRONG


def test_without_phrases_nothing_leaks_and_every_prediction_counts():
    dataset = sst2_like(phrases=0)
    here = Check("data", names(dataset), remember=False)
    for answer in ("rise", "fall", "stay"):
        reply = here.half_held_out(answer)
        assert reply.state == RIGHT and "may be chance" in reply.text
    assert here.half_held_out("perhaps").state == WRONG


def test_a_leak_that_grows_is_called_growing():
    """Two rows out of three are pieces of a row in train, and yet nothing was found in the tenth."""
    here = check(leaky=set(), random_split={"test": range(1000), "train": range(9000)})
    assert here.half_held_out("rise").state == RIGHT
    assert "here it rose" in here.half_held_out("fall").text


def test_the_best_of_many_is_lucky_whatever_the_seed_and_the_size(tmp_path):
    for seed in (1, 2, 3):
        for rows in (2, 40, 5000):
            splits = {"train": NAMES["splits"]["train"], "validation": range(rows)}
            here = check(settings=make_settings(tmp_path, seed=seed), splits=splits)
            assert here.luckiest_of_many("higher").state == RIGHT
            assert here.luckiest_of_many("the same").state == WRONG


def test_with_as_many_of_both_labels_either_may_be_called_the_commonest():
    rows = to_dataset(tiny_rows(40, noise=0))
    assert sum(rows["label"]) == 20
    here = check(splits={"train": rows, "validation": rows.select(range(0, 40, 2))}, scores={"majority class": 1.0})
    for first in (0, 1):
        commonest = lambda train, first=first: max((first, 1 - first), key=train.count)  # noqa: E731
        assert here.majority_accuracy(lambda a, b, f=commonest: b.count(f(a)) / len(b)).state == RIGHT


def test_three_labels_are_counted_and_named_as_they_are():
    """A data set of one's own: its labels mean something else, and the commonest is neither 0 nor 1."""
    meanings = ClassLabel(names=["spam", "private", "work"])
    rows = sst2_like(sentences=600)
    del rows["test"]
    three = DatasetDict()
    for split, part in rows.items():
        part = part.cast_column("label", Value("int64"))
        part = part.map(lambda row, place: {"label": place % 5 if place % 5 < 2 else 2}, with_indices=True)
        three[split] = part.cast_column("label", meanings)
    here = Check("data", names(three), remember=False)
    assert "it means *spam*" in here.rows_without_label(three["train"]["label"][:].count(0)).text
    assert here.rows_without_label(0).state == here.majority_accuracy(majority).state == RIGHT
    assert here.majority_accuracy(lambda a, b: b.count(int(sum(a) * 2 > len(a))) / len(b)).state == WRONG
    lucky = here.luckiest_of_many("higher")
    assert lucky.state == RIGHT and " 0.3" in lucky.text  # a guess among three
