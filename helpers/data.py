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
from threadpoolctl import threadpool_limits

from helpers.columns import standard_columns
from helpers.durable import handoff
from helpers.durable.errors import OFFLINE_HINT, LessonError, explain, first_line, unreadable_data
from helpers.durable.files import write_json
from helpers.settings import Settings

HELD_OUT_ROWS = 1000  # sentences held out of train for a set that the data does not bring
NAMES = {"validation": ("validation", "valid", "val", "development", "dev"), "test": ("test", "final", "eval")}


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
                f"the network is back. {OFFLINE_HINT}",
                "other-revision",
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

    Raises:
        LessonError: there are fewer than 20 whole sentences.
    """
    sentences = train["sentence"][:]
    fragments = find_contained(sentences, sentences, proper=True)
    whole = [i for i in range(len(sentences)) if i not in fragments and len(words(sentences[i])) > 2]
    if len(whole) < 20:
        raise LessonError(
            f"Only {len(whole)} rows of train are whole sentences (longer than two words, and no part of another row): "
            "too few to hold some out. Choose data with more of them, or bring a validation and a test split.",
            "too-few-rows",
        )
    chosen = sorted(random.Random(seed).sample(whole, min(rows, len(whole) // 10)))
    gone = find_contained(sentences, [sentences[i] for i in chosen])
    return train.select([i for i in range(len(sentences)) if i not in gone]), train.select(chosen)


def assign_roles(dataset: DatasetDict) -> dict[str, str]:
    """Return which of the data's labelled splits is the course's "validation", and which its "test".

    Splits are known by their names. One alone is "test", whatever its name: SST-2's own validation split is our test
    set, because its test labels are secret.

    Raises:
        LessonError: there are labelled splits beside train whose names do not tell what they are for.
    """
    given = [name for name in dataset if name != "train" and len(dataset[name]) and labelled(dataset[name])]
    if len(given) == 1:
        return {"test": given[0]}
    roles = {}
    for name in given:
        role = next((role for role, names in NAMES.items() if name.lower() in names), None)
        if role is None or role in roles:
            raise LessonError(
                f"Beside train the data has the splits {', '.join(given)}, and the course cannot tell which of them is "
                "for validation and which is the test set. Name them validation and test, and leave the others out.",
                "unclear-splits",
            )
        roles[role] = name
    return roles


def split(dataset: DatasetDict, settings: Settings) -> tuple[DatasetDict, dict]:
    """Return train, validation and test as the course uses them, and what was done to get them.

    Where the data brings a validation and a test split with labels, they are used as such. Where one comes (SST-2), it
    is the test set, and the validation sentences are held out of train. Where none comes, both are held out.

    Returns:
        The three splits, and {"rows": {...}, "held_out": split names held out of train, "removed": rows taken away}.

    Raises:
        LessonError: no train split, a label missing in train, or a split with only one class.
    """
    if not labelled(dataset["train"]):
        raise LessonError(
            "Some rows of train have no label. Remove them with dataset.filter, or choose other data.", "no-label"
        )
    train, removed, held_out = dataset["train"], 0, []
    splits = {role: dataset[name] for role, name in assign_roles(dataset).items()}
    for name in ("test", "validation"):
        if name not in splits:
            before = len(train)
            train, splits[name] = hold_out_sentences(train, HELD_OUT_ROWS, settings.seed)
            removed += before - len(train) - len(splits[name])
            held_out.append(name)
    if settings.train_rows and settings.train_rows < len(train):
        train = train.shuffle(seed=settings.seed).select(range(settings.train_rows)).flatten_indices()
    splits = DatasetDict(train=train, validation=splits["validation"], test=splits["test"])
    for name, part in splits.items():
        if len(set(part["label"])) < 2:
            raise LessonError(
                f"All rows of {name} have the same label: nothing can be learned. Choose other data.", "one-label"
            )
    return splits, {"rows": splits.num_rows, "held_out": held_out, "removed": removed}


def majority_baseline(train: Dataset) -> DummyClassifier:
    """Return a fitted classifier that always answers train's commonest label: the least a model must beat."""
    return DummyClassifier(strategy="most_frequent").fit(train["sentence"][:], train["label"][:])


def tfidf_baseline(train: Dataset):
    """Return a fitted TF-IDF + logistic regression pipeline: weighted words and word pairs, no order, no context.

    Raises:
        LessonError: the rows have no words.
    """
    model = make_pipeline(TfidfVectorizer(ngram_range=(1, 2)), LogisticRegression(C=10, max_iter=1000))
    try:
        with threadpool_limits(1):  # vectors this short: more threads only wait for each other, and spin meanwhile
            return model.fit(train["sentence"][:], train["label"][:])
    except ValueError as error:
        raise LessonError(
            f"TF-IDF cannot learn from these rows ({first_line(error)}). They need words of two letters or more, "
            "and two labels. Choose other data.",
            "no-words",
        ) from error


def save(settings: Settings, splits: DatasetDict, split_info: dict) -> Path:
    """Leave the splits for the next notebooks, complete or not at all. Returns their folder.

    Raises:
        LessonError: they are of another commit than the pinned one.
    """
    check_revision(splits, settings)
    return handoff.save(settings.home / "data", settings.fingerprint("data"), writer(splits, split_info))


def writer(splits: DatasetDict, split_info: dict):
    """Return a function that writes the splits, and what was done to get them, into an empty folder."""

    def write(folder: Path) -> None:
        splits.save_to_disk(str(folder))
        write_json(folder / "split.json", split_info)

    return write


def load_or_make(settings: Settings) -> DatasetDict:
    """Return the splits that notebook 02 left; make them first when they are not there. Says which."""

    def make(folder: Path) -> None:
        splits, split_info = split(standard_columns(open_dataset(settings)), settings)
        writer(check_revision(splits, settings), split_info)(folder)

    return handoff.load_or_make(
        settings.home / "data",
        settings.fingerprint("data"),
        make,
        load=lambda folder: load_from_disk(str(folder)),
        told="The data is not ready yet for these settings: preparing it now, as notebook 2 does.",
    )
