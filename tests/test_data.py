"""Data: what is contained in what, the honest split, and the two baselines."""

import random

import pandas as pd
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, load_dataset
from hypothesis import given
from hypothesis import strategies as st
from support import make_settings, refused, sst2_like, tiny_data, tiny_rows, to_dataset

from helpers import data
from helpers.columns import standard_columns
from helpers.durable.files import MANIFEST, read_json
from helpers.settings import SHIPPED

SENTENCES = st.lists(st.lists(st.sampled_from(["a", "b", "C", "."]), max_size=5).map(" ".join), max_size=8)
SPLITS = ("train", "validation", "test")


@pytest.fixture(scope="module")
def pocket() -> DatasetDict:
    """Return the shipped data as it is."""
    return load_dataset(str(SHIPPED / "data"))


def contained_by_hand(sentences: list[str], inside: list[str], proper: bool) -> set[int]:
    """Do what find_contained does, by trying every run of words of every row."""
    found = set()
    for position, sentence in enumerate(sentences):
        wanted = data.words(sentence)
        for row in map(data.words, inside):
            runs = [row[i : i + len(wanted)] for i in range(len(row) - len(wanted) + 1)]
            if wanted in runs and not (proper and wanted == row):
                found.add(position)
        if not wanted:
            found.add(position)
    return found


def table(sentences: list[str], labels: list) -> Dataset:
    """Return a data set with plain columns."""
    return Dataset.from_dict({"sentence": sentences, "label": labels})


def rows(dataset: DatasetDict) -> dict[str, list[dict]]:
    """Return all rows of all splits."""
    return {name: part.to_list() for name, part in dataset.items()}


@given(SENTENCES, SENTENCES, st.booleans())
def test_find_contained_finds_what_trying_everything_finds(sentences, inside, proper):
    assert data.find_contained(sentences, inside, proper) == contained_by_hand(sentences, inside, proper)


@given(SENTENCES)
def test_find_contained_in_itself_without_the_whole_row(sentences):
    assert data.find_contained(sentences, sentences, True) == contained_by_hand(sentences, sentences, True)


def test_find_contained_compares_words_not_letters():
    inside = ["A joyless, over-long film."]
    assert data.find_contained(["joy", "JOYLESS ,over", "over long", "film."], inside) == {1, 3}


def test_words_are_lower_case_with_punctuation_apart():
    assert data.words("It's GOOD, non?") == ("it", "'", "s", "good", ",", "non", "?")
    assert data.words(" \n\t") == ()


@pytest.mark.parametrize("seed", [1, 42])
def test_no_held_out_sentence_or_phrase_of_it_is_left_in_the_shipped_train(pocket, seed):
    train, held_out = data.hold_out_sentences(pocket["train"], data.HELD_OUT_ROWS, seed)
    assert not data.find_contained(held_out["sentence"][:], train["sentence"][:])
    assert not data.find_contained(train["sentence"][:], held_out["sentence"][:])
    fragments = data.find_contained(held_out["sentence"][:], pocket["train"]["sentence"][:], proper=True)
    assert not fragments and len(held_out) >= 100
    assert set(train["idx"]) | set(held_out["idx"]) < set(pocket["train"]["idx"])


def test_hold_out_depends_on_the_seed_alone(pocket):
    random.seed(1)
    first = data.hold_out_sentences(pocket["train"], 50, 7)[1]["idx"][:]
    random.seed(2)
    assert data.hold_out_sentences(pocket["train"], 50, 7)[1]["idx"][:] == first
    assert data.hold_out_sentences(pocket["train"], 50, 8)[1]["idx"][:] != first


def test_too_few_sentences_to_hold_out():
    with refused("too-few-rows", "19"):
        data.hold_out_sentences(to_dataset(tiny_rows(19)), 5, 1)


def test_hold_out_takes_at_most_a_tenth():
    train, held_out = data.hold_out_sentences(to_dataset(tiny_rows(60)), 1000, 1)
    assert (len(train), len(held_out)) == (54, 6)


def test_pocket_is_split_as_it_came(pocket, tmp_path):
    splits, split_info = data.split(standard_columns(pocket), make_settings(tmp_path))
    assert {name: len(pocket[name]) for name in SPLITS} == splits.num_rows == split_info["rows"]
    assert (split_info["held_out"], split_info["removed"]) == ([], 0)
    assert all(splits[name]["sentence"][:] == pocket[name]["sentence"][:] for name in SPLITS)


def test_shipped_splits_do_not_leak(pocket):
    for name in ("validation", "test"):
        seen = data.find_contained(pocket[name]["sentence"][:], pocket["train"]["sentence"][:])
        assert len(seen) <= 0.01 * len(pocket[name]), "a very short sentence may be written twice"
        assert set(pocket[name]["label"]) == {0, 1}


def test_secret_test_labels_make_the_validation_split_the_test_set(tmp_path):
    source = sst2_like()
    splits, split_info = data.split(source, make_settings(tmp_path))
    assert splits["test"]["sentence"][:] == source["validation"]["sentence"][:]
    assert split_info["held_out"] == ["validation"] and split_info["removed"] > 0
    assert sum(splits.num_rows[name] for name in ("train", "validation")) + split_info["removed"] == len(
        source["train"]
    )
    assert not data.find_contained(splits["validation"]["sentence"][:], splits["train"]["sentence"][:])


def test_data_without_other_splits_holds_both_out(tmp_path):
    splits, split_info = data.split(DatasetDict(train=sst2_like()["train"]), make_settings(tmp_path))
    assert sorted(split_info["held_out"]) == ["test", "validation"]
    held_out = splits["validation"]["sentence"][:] + splits["test"]["sentence"][:]
    assert len(set(held_out)) == len(held_out)
    assert not data.find_contained(held_out, splits["train"]["sentence"][:])


@pytest.mark.parametrize("names", [("test", "validation"), ("final", "dev"), ("test", "valid")])
def test_splits_are_known_by_their_names(tmp_path, names):
    last, choosing = (to_dataset(tiny_rows(30, seed)) for seed in (2, 3))
    source = DatasetDict({"train": to_dataset(tiny_rows(60)), names[0]: last, names[1]: choosing})
    splits, split_info = data.split(source, make_settings(tmp_path))
    assert splits["validation"]["sentence"][:] == choosing["sentence"][:]
    assert splits["test"]["sentence"][:] == last["sentence"][:] and split_info["held_out"] == []


def test_train_rows_cuts_train_alone(pocket, tmp_path):
    splits, split_info = data.split(pocket, make_settings(tmp_path, train_rows=100))
    again, _ = data.split(pocket, make_settings(tmp_path, train_rows=100))
    other, _ = data.split(pocket, make_settings(tmp_path, train_rows=100, seed=1))
    assert split_info["rows"] == {"train": 100, "validation": 400, "test": 600}
    assert splits["train"]["idx"][:] == again["train"]["idx"][:] != other["train"]["idx"][:]


def test_more_train_rows_than_there_are_means_all(pocket, tmp_path):
    splits, _ = data.split(pocket, make_settings(tmp_path, train_rows=10**6))
    assert splits["train"]["idx"][:] == pocket["train"]["idx"][:]


def test_a_split_of_one_class_is_refused(tmp_path):
    source = DatasetDict(train=to_dataset([row | {"label": 1} for row in tiny_rows(60)]))
    with refused("one-label"):
        data.split(source, make_settings(tmp_path))


@pytest.mark.parametrize("label", [None, -1])
def test_a_missing_label_in_train_is_refused(tmp_path, label):
    source = DatasetDict(train=to_dataset([*tiny_rows(60), {"idx": 60, "sentence": "no label", "label": label}]))
    with refused("no-label", "train"):
        data.split(source, make_settings(tmp_path))


def test_data_without_train_is_refused(tmp_path):
    source = DatasetDict(test=table(["good", "bad"], [1, 0]))
    with refused("no-train-split", "test"):
        data.split(standard_columns(source), make_settings(tmp_path))


def test_standard_columns_renames_and_invents_no_meaning():
    source = DatasetDict(train=Dataset.from_dict({"review": ["good", "bad"], "sentiment": [1, 0], "stars": [5, 1]}))
    found = standard_columns(source)["train"]
    assert found.column_names == ["sentence", "label", "stars"]
    assert found.features["label"] == ClassLabel(names=["0", "1"]), "1 may be spam, and need not be positive"
    assert found["label"][:] == [1, 0]


def test_standard_columns_keeps_sst2_as_it_is():
    source = sst2_like(60)
    assert rows(standard_columns(source)) == rows(source)


def test_standard_columns_of_three_classes_and_secret_labels():
    source = DatasetDict(train=table(["a", "b", "c"], [2, 0, 1]), test=table(["d"], [-1]))
    found = standard_columns(source)
    assert found["train"].features["label"].names == ["0", "1", "2"]
    assert found["train"]["label"][:] == [2, 0, 1] and found["test"]["label"][:] == [-1]


def test_standard_columns_of_names():
    source = DatasetDict(train=table(["a", "b", "c"], ["pos", "neg", "pos"]))
    found = standard_columns(source)["train"]
    assert found.features["label"].names == ["neg", "pos"] and found["label"][:] == [1, 0, 1]


def test_standard_columns_gives_a_name_the_same_number_in_every_split():
    source = DatasetDict(train=table(["a", "b", "c"], ["bad", "fair", "good"]), test=table(["d", "e"], ["good", "bad"]))
    found = standard_columns(source)
    names = found["train"].features["label"].names
    assert [names[number] for number in found["test"]["label"]] == ["good", "bad"]


@pytest.mark.parametrize(
    ("columns", "code", "named"),
    [
        ({"words": ["a", "b"], "label": [0, 1]}, "no-column", ["words", "label", "sentence"]),
        ({"text": ["a", "b"], "stars": [0, 1]}, "no-column", ["text", "stars", "sentiment"]),
        ({"text": ["a", "b"], "label": [0.25, 0.75]}, "odd-labels", ["[0.25, 0.75]"]),
        ({"text": ["a", "b"], "label": [1, 2]}, "odd-labels", ["[1, 2]"]),
        ({"text": ["a", "b"], "label": [0, 0]}, "one-label", []),
        ({"text": ["a", None], "label": [0, 1]}, "no-text", ["1 of the 2", "train"]),
    ],
)
def test_standard_columns_refuses(columns, code, named):
    with refused(code, *named):
        standard_columns(DatasetDict(train=Dataset.from_dict(columns)))


def test_labelled():
    assert data.labelled(table(["a"], [0]))
    assert not data.labelled(table(["a", "b"], [0, -1])) and not data.labelled(table(["a", "b"], [0, None]))


def test_baselines_on_the_shipped_data(pocket):
    sentences, labels = pocket["validation"]["sentence"][:], pocket["validation"]["label"][:]
    majority = data.majority_baseline(pocket["train"])
    tfidf = data.tfidf_baseline(pocket["train"])
    commonest = max(set(pocket["train"]["label"]), key=pocket["train"]["label"][:].count)
    assert set(majority.predict(sentences)) == {commonest}
    assert majority.score(sentences, labels) == labels.count(commonest) / len(labels)
    assert tfidf.score(sentences, labels) > majority.score(sentences, labels) + 0.1


def test_tfidf_learns_words():
    train = to_dataset(tiny_rows(200, noise=0))
    test = tiny_rows(50, seed=9, noise=0)
    model = data.tfidf_baseline(train)
    assert model.score([r["sentence"] for r in test], [r["label"] for r in test]) > 0.95


def test_the_splits_are_made_once(tmp_path, capsys):
    settings = make_settings(tmp_path, dataset=tiny_data(tmp_path / "data"))
    first = rows(data.load_or_make(settings))
    assert "preparing it now" in capsys.readouterr().out
    manifest = settings.home / "data" / MANIFEST
    written = manifest.stat().st_mtime_ns
    assert rows(data.load_or_make(settings)) == first
    assert capsys.readouterr().out == "" and manifest.stat().st_mtime_ns == written
    split_info = read_json(settings.home / "data" / "split.json")
    assert split_info["rows"] == {name: len(part) for name, part in first.items()}


def test_the_splits_are_made_again_under_other_settings(tmp_path, capsys):
    folder = tiny_data(tmp_path / "data")
    data.load_or_make(make_settings(tmp_path, dataset=folder))
    assert len(data.load_or_make(make_settings(tmp_path, dataset=folder, train_rows=20))["train"]) == 20
    assert capsys.readouterr().out.count("preparing it now") == 2


def test_a_changed_file_is_read_again(tmp_path):
    folder = tiny_data(tmp_path / "data")
    before = data.load_or_make(make_settings(tmp_path, dataset=folder))["train"]["sentence"][:]
    to_dataset(tiny_rows(96, seed=77)).to_parquet(folder / "train.parquet")
    after = data.load_or_make(make_settings(tmp_path, dataset=folder))["train"]["sentence"][:]
    assert after == pd.read_parquet(folder / "train.parquet")["sentence"].tolist() != before


def test_save_and_load_or_make_give_what_the_notebook_makes(tmp_path, capsys):
    settings = make_settings(tmp_path / "notebook", train_rows=200)
    dataset = load_dataset(settings.dataset, revision=settings.dataset_revision)
    splits, split_info = data.split(standard_columns(dataset), settings)
    folder = data.save(settings, splits, split_info)
    assert rows(data.load_or_make(settings)) == rows(splits) and capsys.readouterr().out == ""
    helper = make_settings(tmp_path / "helper", train_rows=200)
    assert rows(data.load_or_make(helper)) == rows(splits)
    assert read_json(helper.home / "data" / "split.json") == read_json(folder / "split.json") == split_info


def named_splits(**counts) -> DatasetDict:
    """Return labelled splits of so many sentences each, no two alike."""
    return DatasetDict({name: to_dataset(tiny_rows(n, seed)) for seed, (name, n) in enumerate(counts.items(), 20)})


@pytest.mark.parametrize("others", [("dev", "validation", "test"), ("one", "two"), ("test", "eval"), ("odd", "test")])
def test_splits_that_could_be_anything_are_refused_with_their_names(tmp_path, others):
    source = named_splits(train=60, **dict.fromkeys(others, 30))
    with refused("unclear-splits", *others):
        data.split(source, make_settings(tmp_path))


@pytest.mark.parametrize("order", [("validation", "test"), ("test", "validation")])
def test_the_order_in_which_splits_come_does_not_matter(tmp_path, order):
    source = named_splits(train=60, **dict.fromkeys(order, 30))
    splits, _ = data.split(source, make_settings(tmp_path))
    assert all(splits[name]["sentence"][:] == source[name]["sentence"][:] for name in order)


@pytest.mark.parametrize("name", ["validation", "anything"])
def test_one_labelled_split_alone_is_the_test_set(tmp_path, name):
    source = named_splits(train=120, **{name: 30})
    splits, split_info = data.split(source, make_settings(tmp_path))
    assert splits["test"]["sentence"][:] == source[name]["sentence"][:] and split_info["held_out"] == ["validation"]
