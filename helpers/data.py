"""Notebook 02: open the data, split it honestly, know the score that any model must beat."""

import random
import re
from collections import defaultdict
from pathlib import Path

from datasets import Dataset, DatasetDict, load_dataset, load_from_disk
from sklearn.dummy import DummyClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from helpers.columns import standard_columns
from helpers.errors import POCKET, explain, first_line, unreadable_data
from helpers.files import LessonError, is_complete, lock, read_json, replace_folder, room_for, write_json
from helpers.settings import Settings

DEVELOPMENT_ROWS = 1000  # sentences held out of train where the data brings no development split


def words(sentence: str) -> tuple[str, ...]:
    """Return the lower-case words and punctuation marks of a sentence."""
    return tuple(re.findall(r"\w+|[^\w\s]", sentence.lower()))


def find_contained(sentences: list[str], inside: list[str], proper: bool = False) -> set[int]:
    """Return the positions of those sentences whose words stand, in one run, within some row of `inside`.

    Args:
        proper: leave out a sentence that is the whole row (needed when both lists are the same).

    A sentence without any word counts as contained. Time grows with the number of words in `inside`.
    """
    rows, lengths = defaultdict(list), defaultdict(set)
    for position, sentence in enumerate(sentences):
        tokens = words(sentence)
        rows[tokens].append(position)
        lengths[tokens[:2]].add(len(tokens))  # only these lengths can begin with these two words
    found = set(rows.pop((), []))
    for row in inside:
        tokens = words(row)
        for start in range(len(tokens)):
            for first in {tokens[start : start + 1], tokens[start : start + 2]}:
                for length in lengths.get(first, ()):
                    run = tokens[start : start + length]
                    if len(run) == length and not (proper and length == len(tokens)) and run in rows:
                        found.update(rows[run])
    return found


def open_dataset(settings: Settings) -> DatasetDict:
    """Return the data set as it is stored, all splits.

    Raises:
        LessonError: it cannot be opened, or the Hub is away and the cache holds another version than the pinned one.
    """
    try:
        dataset = load_dataset(settings.dataset, revision=settings.dataset_revision, cache_dir=settings.cache)
    except Exception as error:
        raise explain(error) or unreadable_data(error) from error
    return check_revision(dataset, settings)


def check_revision(dataset: DatasetDict, settings: Settings) -> DatasetDict:
    """Return the data if it is of the pinned commit: `load_dataset` takes whatever is cached when the Hub is away."""
    for file in (file["filename"] for part in dataset.values() for file in part.cache_files):
        commits = [name for name in Path(file).parts if re.fullmatch("[0-9a-f]{40}", name)]
        if settings.dataset_revision and commits and settings.dataset_revision not in commits:
            raise LessonError(
                f"The Hub is away, and this machine has kept another version of {settings.dataset_name} "
                f"({commits[-1][:8]}) than the course's ({settings.dataset_revision[:8]}). Run the notebook again when "
                f"the network is back. {POCKET}"
            )
    return dataset


def labelled(dataset: Dataset) -> bool:
    """True when every row has a label (SST-2's test split has -1 everywhere: its labels are secret)."""
    return all(label is not None and label >= 0 for label in dataset["label"])


def hold_out_sentences(train: Dataset, rows: int, seed: int) -> tuple[Dataset, Dataset]:
    """Hold out whole sentences, and take every phrase that is contained in one of them away from train.

    Args:
        train: rows with "sentence" and "label"; most may be phrases cut from other rows.
        rows: how many sentences to hold out; at most a tenth of the whole sentences are.

    Returns:
        (what is left of train, the held-out sentences).
    """
    sentences = train["sentence"][:]
    fragments = find_contained(sentences, sentences, proper=True)
    whole = [i for i in range(len(sentences)) if i not in fragments and len(words(sentences[i])) > 2]
    if len(whole) < 20:
        raise LessonError(
            f"Only {len(whole)} whole sentences are in train: too few to hold some out. Choose data with more rows."
        )
    chosen = sorted(random.Random(seed).sample(whole, min(rows, len(whole) // 10)))
    gone = find_contained(sentences, [sentences[i] for i in chosen])
    return train.select([i for i in range(len(sentences)) if i not in gone]), train.select(chosen)


def split(dataset: DatasetDict, settings: Settings) -> tuple[DatasetDict, dict]:
    """Return train, development and final as the course uses them, and what was done to get them.

    Where two labelled splits come beside train, the first is for development, the second is final. Where one comes
    (SST-2), it is final, and the development sentences are held out of train. Where none comes, both are held out.

    Returns:
        The three splits, and {"rows": {...}, "held_out": split names held out of train, "removed": rows taken away}.

    Raises:
        LessonError: no train split, a label missing in train, or a split with only one class.
    """
    if not labelled(dataset["train"]):
        raise LessonError("Some rows of train have no label. Remove them with dataset.filter, or choose other data.")
    train, removed, held_out = dataset["train"], 0, []
    given = [name for name in dataset if name != "train" and len(dataset[name]) and labelled(dataset[name])]
    given.sort(key=lambda name: ("dev" not in name, "val" not in name, "test" not in name and "final" not in name))
    roles = ["development", "final"] if len(given) > 1 else ["final"]
    splits = {role: dataset[name] for role, name in zip(roles, given, strict=False)}
    for name in ("final", "development"):
        if name not in splits:
            before = len(train)
            train, splits[name] = hold_out_sentences(train, DEVELOPMENT_ROWS, settings.seed)
            removed += before - len(train) - len(splits[name])
            held_out.append(name)
    if settings.train_rows and settings.train_rows < len(train):
        train = train.shuffle(seed=settings.seed).select(range(settings.train_rows)).flatten_indices()
    splits = DatasetDict(train=train, development=splits["development"], final=splits["final"])
    for name, part in splits.items():
        if len(set(part["label"])) < 2:
            raise LessonError(f"All rows of {name} have the same label: nothing can be learned. Choose other data.")
    return splits, {"rows": splits.num_rows, "held_out": held_out, "removed": removed}


def majority_baseline(train: Dataset) -> DummyClassifier:
    """Return a fitted classifier that always answers train's commonest label: the least a model must beat."""
    return DummyClassifier(strategy="most_frequent").fit(train["sentence"][:], train["label"][:])


def tfidf_baseline(train: Dataset):
    """Return a fitted TF-IDF + logistic regression pipeline: weighted words and word pairs, no order, no context."""
    model = make_pipeline(TfidfVectorizer(ngram_range=(1, 2)), LogisticRegression(C=10, max_iter=1000))
    try:
        return model.fit(train["sentence"][:], train["label"][:])
    except ValueError as error:
        raise LessonError(
            f"TF-IDF cannot learn from these rows ({first_line(error)}). They need words of two letters or more, "
            "and two labels. Choose other data."
        ) from error


def keep(settings: Settings, splits: DatasetDict, report: dict) -> Path:
    """Leave the splits for the next notebooks, complete or not at all. Returns their folder.

    Raises:
        LessonError: they are of another commit than the pinned one.
    """
    folder = settings.home / "data"
    check_revision(splits, settings)
    with lock(folder), replace_folder(folder, settings.identity("data")) as aside:
        splits.save_to_disk(str(aside))
        write_json(aside / "split.json", report)
    return folder


def prepare(settings: Settings) -> DatasetDict:
    """Return the splits that notebook 02 left; make them first when they are not there. Says which."""
    folder = settings.home / "data"
    with lock(folder), room_for("the data", settings.home):
        if not is_complete(folder, settings.identity("data")):
            print("Notebook 02 has left no data for these settings: preparing it now.")
            keep(settings, *split(standard_columns(open_dataset(settings)), settings))
        return load_from_disk(str(folder))


def report(settings: Settings) -> dict:
    """Return what `split` reported about the data that is kept."""
    return read_json(settings.home / "data" / "split.json")
