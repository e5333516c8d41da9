"""Wrong input: each either works, or ends in one error that names the cause and the next step."""

import json
import struct
from datetime import date
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value, load_dataset
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from scipy.special import softmax
from support import make_settings, sst2_like, tiny_model, tiny_rows
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from helpers import columns, course, data, evaluation, models, settings, tokenization
from helpers.durable.errors import LessonError

ODD = {
    "empty": "",
    "blank": " \t\r\n ",
    "ten thousand words": "word " * 10_000,
    "one long word": "x" * 20_000,
    "emoji": "🎬👍🏽 a family of one: 👩‍👩‍👧‍👦",
    "right to left": "פילם נפלא وفيلم رائع \u202e backwards",
    "control characters": "bell\x07 escape\x1b[31m delete\x7f",
    "null bytes": "before\0after\0",
    "noncharacters": "\ufffe\uffff\U0010ffff",
    "special tokens": "[SEP] [PAD] [CLS] [MASK] [UNK]",
}
GOOD = tiny_rows(60)
TEXTS, LABELS = [row["sentence"] for row in GOOD], [row["label"] for row in GOOD]
WORKS = None


def table(labels: list = LABELS, text: list = TEXTS, **more) -> Dataset:
    """Return a data set with the columns text and label."""
    return Dataset.from_dict({"text": text, "label": labels, **more})


def stored(folder: Path, **splits: Dataset) -> Path:
    """Write splits as parquet files, as a data set's folder has them."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, part in splits.items():
        part.to_parquet(folder / f"{name}.parquet")
    return folder


def named(labels: list) -> Dataset:
    """Return a data set whose labels are described as negative and positive, whatever they are."""
    names = {"info": {"features": {"text": {"dtype": "string", "_type": "Value"}, "label": {
        "names": ["negative", "positive"], "_type": "ClassLabel"}}}}  # fmt: skip
    made = table(labels)
    schema = made.data.table.schema.with_metadata({"huggingface": json.dumps(names)})
    return Dataset(made.data.table.cast(schema), info=None)


TABLES = {
    "labels 0 and 1": (table(), WORKS),
    "labels that are names": (table([("bad", "good")[n] for n in LABELS]), WORKS),
    "three classes": (table([n % 3 for n in range(60)]), WORKS),
    "text instead of sentence, sentiment instead of label": (
        Dataset.from_dict({"review": TEXTS, "sentiment": LABELS}), WORKS),
    "no text column": (Dataset.from_dict({"words": TEXTS, "label": LABELS}), "no-column"),
    "no label column": (Dataset.from_dict({"text": TEXTS, "stars": LABELS}), "no-column"),
    "a label of -1 among train": (table([-1, *LABELS[1:]]), "no-label"),
    "a label missing": (table([None, *LABELS[1:]]), "no-label"),
    "a name missing": (table([None, *["good", "bad"] * 29, "bad"]), "no-label"),
    "all labels missing": (table([None] * 60), "odd-labels"),
    "all labels -1": (table([-1] * 60), "odd-labels"),
    "labels that are fractions": (table([n / 4 for n in LABELS]), "odd-labels"),
    "labels 0.0 and 1.0": (table([float(n) for n in LABELS]), "odd-labels"),
    "labels that are no numbers": (table([float("nan")] * 60), "odd-labels"),
    "labels that are yes or no": (table([n == 1 for n in LABELS]), "odd-labels"),
    "labels that are lists": (table([[n] for n in LABELS]), "odd-labels"),
    "labels that are dates": (table([date(2020, 1, 1 + n) for n in LABELS]), "odd-labels"),
    "labels 1 and 2": (table([n + 1 for n in LABELS]), "odd-labels"),
    "labels with a gap": (table([3 * n for n in LABELS]), "odd-labels"),
    "a label beyond its names": (named([7, *LABELS[1:]]), "unknown-label"),
    "labels of one class only": (table([1] * 60), "one-label"),
    "names of one class only": (table(["good"] * 60), "one-label"),
    "no rows": (table([], []), "data-unreadable"),
    "ten rows": (table(LABELS[:10], TEXTS[:10]), "too-few-rows"),
    "a sentence missing": (table(text=[None, *TEXTS[1:]]), "no-text"),
    "sentences that are numbers": (table(text=list(range(60))), "no-text"),
    "sentences that are lists": (table(text=[[text] for text in TEXTS]), "no-text"),
    "the same sentence everywhere": (table(text=["good film here"] * 60), "too-few-rows"),
    "sentences without a word": (table(text=[""] * 60), "too-few-rows"),
}  # fmt: skip


def is_paragraph(error: LessonError) -> bool:
    """Whether an error's text is one paragraph that people read to its end."""
    return "\n" not in str(error) and 40 < len(str(error)) < 600


@pytest.mark.parametrize("name", TABLES)
def test_a_data_set(tmp_path, name):
    rows, outcome = TABLES[name]
    known = make_settings(tmp_path, dataset=stored(tmp_path / "data", train=rows))
    if outcome is WORKS:
        splits = data.load_or_make(known)
        assert set(splits) == {"train", "validation", "test"} and all(len(part) for part in splits.values())
        assert all(0 <= label < splits["train"].features["label"].num_classes for label in splits["test"]["label"])
        return
    with pytest.raises(LessonError) as caught:
        data.load_or_make(known)
    assert caught.value.code == outcome and is_paragraph(caught.value)
    assert not (known.home / "data").exists(), "nothing is left that could pass for data"


SPLITS = {
    "test without a label column": ({"test": Dataset.from_dict({"text": TEXTS[:9]})}, WORKS),
    "test whose labels are all missing": ({"test": table([None] * 9, TEXTS[:9])}, WORKS),
    "test without rows": ({"test": table(LABELS, TEXTS).select([])}, WORKS),
    "test of one class": ({"test": table([1] * 9, TEXTS[:9])}, "one-label"),
    "test with a sentence missing": ({"test": table([0, 1], ["a", None])}, "no-text"),
    "test with a label that train has not": ({"test": table([0, 5], ["a", "b"])}, "unknown-label"),
    "test with a name that train has not": (
        {"train": table(["good", "bad"] * 30), "test": table(["good", "odd"], ["a", "b"])},
        "unknown-label",
    ),
}


@pytest.mark.parametrize("name", SPLITS)
def test_another_split(tmp_path, name):
    more, outcome = SPLITS[name]
    source = DatasetDict({"train": table(), **more})
    known = make_settings(tmp_path)
    if outcome is WORKS:
        splits, split_info = data.split(columns.standard_columns(source), known)
        assert all(len(part) for part in splits.values()) and "test" in split_info["held_out"]
        return
    with pytest.raises(LessonError) as caught:
        data.split(columns.standard_columns(source), known)
    assert caught.value.code == outcome


def write_folder(folder: Path, files: dict[str, bytes]) -> Path:
    """Write files into a new folder."""
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


FOLDERS = {
    "empty": {},
    "only a text about it": {"README.md": b"# nothing"},
    "a torn parquet file": {"train.parquet": b"PAR1 and then nothing"},
    "an empty csv file": {"train.csv": b""},
    "csv files with other columns": {"train.csv": b"text,label\na,0\n", "test.csv": b"words,stars\nb,1\n"},
    "a csv file that is no text": {"train.csv": bytes(range(256))},
    "a torn json file": {"train.json": b'[{"text": "a", '},
    "no split named train": {"test.csv": b"text,label\na,0\nb,1\n"},
}


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_that_is_no_data_set(tmp_path, name):
    known = make_settings(tmp_path, dataset=write_folder(tmp_path / "data", FOLDERS[name]))
    with pytest.raises(LessonError) as caught:
        data.load_or_make(known)
    assert caught.value.code in ("data-unreadable", "no-train-split") and is_paragraph(caught.value)


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    """Return the splits and token ids that come of data with all odd sentences in every split."""
    folder = tmp_path_factory.mktemp("odd")
    labels = [number % 2 for number in range(len(ODD))]
    parts = {name: table([*LABELS, *labels], [*TEXTS, *ODD.values()]) for name in ("train", "validation", "test")}
    known = make_settings(folder, dataset=stored(folder / "data", **parts))
    return data.load_or_make(known), *tokenization.load_or_make(known), known


@pytest.mark.parametrize("name", ODD)
def test_an_odd_sentence_is_kept_and_tokenized(odd, name):
    splits, tokenized, tokenizer, known = odd
    place = len(TEXTS) + list(ODD).index(name)
    for split in splits:
        assert splits[split][place]["sentence"] == ODD[name]
        ids = tokenized[split][place]["input_ids"]
        assert 2 <= len(ids) <= known.recipe.max_length and max(ids) < len(tokenizer)


def test_odd_sentences_are_judged_like_any_other(odd, tmp_path):
    splits, tokenized, tokenizer, known = odd
    model = models.untrained_model(known, 2, "cpu").eval()
    probabilities = evaluation.predict_probabilities(model, tokenizer, tokenized["test"], tmp_path)
    assert probabilities.shape == (len(splits["test"]), 2) and np.allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    assert len(data.tfidf_baseline(splits["train"]).predict(splits["test"]["sentence"][:])) == len(splits["test"])
    assert len(evaluation.length_groups(splits["test"]["sentence"][:])) == len(splits["test"])


# Models. A change makes a good folder bad.
def rewrite(name: str, text: str):
    """Return a change: this file holds this text."""
    return lambda folder: (folder / name).write_text(text)


def edit(name: str, **values):
    """Return a change: this JSON file has these values, or lacks those that are None."""

    def change(folder):
        old = json.loads((folder / name).read_text()) | values
        (folder / name).write_text(json.dumps({key: value for key, value in old.items() if value is not None}))

    return change


def remove(*names: str):
    """Return a change: these files are gone."""
    return lambda folder: [(folder / name).unlink() for name in names]


def shorten(share: float):
    """Return a change: only this share of the weight file is there."""

    def change(folder):
        content = (folder / "model.safetensors").read_bytes()
        (folder / "model.safetensors").write_bytes(content[: int(share * len(content))])

    return change


def pickle(folder):
    """Keep the weights as a pickle file alone."""
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    remove("model.safetensors")(folder)


def padless(folder):
    """Take the padding token away."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.pad_token = None
    tokenizer.save_pretrained(folder)


def header(sizes: dict[str, int]) -> bytes:
    """Return a safetensors file's header that tells of such tensors, which are not there."""
    entries = {name: {"dtype": "F32", "shape": [size], "data_offsets": [0, 4 * size]} for name, size in sizes.items()}
    text = json.dumps(entries).encode()
    return struct.pack("<Q", len(text)) + text


def giant(folder):
    """Let the weight file tell of 3 billion parameters, whatever config.json says."""
    (folder / "model.safetensors").write_bytes(header({"a": 2_000_000_000, "b": 1_000_000_000}))


def giant_in_shards(folder):
    """The same, in two files."""
    for number in (1, 2):
        (folder / f"model-{number}.safetensors").write_bytes(header({f"w{number}": 1_500_000_000}))
    index = {"metadata": {}, "weight_map": {f"w{number}": f"model-{number}.safetensors" for number in (1, 2)}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    remove("model.safetensors")(folder)


CODE = "from pathlib import Path\nPath({mark!r}).touch()\nclass Thing: ...\n"
AUTO = {name: f"evil.{name}" for name in ("AutoConfig", "AutoTokenizer", "AutoModelForSequenceClassification")}


def foreign_code(folder, model_type="evil"):
    """Let the repository bring Python code of its own, which leaves a mark when it runs."""
    (folder / "evil.py").write_text(CODE.format(mark=str(folder / "ran")))
    edit("config.json", auto_map=AUTO, model_type=model_type)(folder)
    edit("tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.AutoTokenizer", None]})(folder)


MODELS = {
    "as it should be": (lambda folder: None, WORKS),
    "no config.json": (remove("config.json"), "no-model"),
    "config.json is no JSON": (rewrite("config.json", "{"), "model-unreadable"),
    "config.json is a list": (rewrite("config.json", "[]"), "model-unreadable"),
    "config.json without a model type": (edit("config.json", model_type=None), "model-unreadable"),
    "an unknown model type": (edit("config.json", model_type="nonesuch"), "model-unreadable"),
    "no weights": (remove("model.safetensors"), "no-safetensors"),
    "weights only in a pickle file": (pickle, "no-safetensors"),
    "weights cut short": (shorten(0.5), "model-unreadable"),
    "weights empty": (shorten(0), "model-unreadable"),
    "an index that is no JSON": (
        lambda f: (remove("model.safetensors")(f), rewrite("model.safetensors.index.json", "{")(f)),
        "model-unreadable"),
    "an index of weights that are not there": (
        lambda f: (giant_in_shards(f), remove("model-2.safetensors")(f)), "model-unreadable"),
    "no tokenizer": (remove("tokenizer.json", "tokenizer_config.json"), "no-vocabulary"),
    "tokenizer.json is no JSON": (rewrite("tokenizer.json", "{"), "model-unreadable"),
    "no padding token": (padless, "no-padding"),
    "a tokenizer of another model": (edit("config.json", vocab_size=50), "other-tokenizer"),
    "code of its own": (foreign_code, "remote-code"),
    "code of its own beside a known type": (lambda folder: foreign_code(folder, "distilbert"), WORKS),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_a_model_folder(tmp_path, name):
    change, outcome = MODELS[name]
    change(tiny_model(tmp_path / "mine"))
    if outcome is WORKS:
        models.check(make_settings(tmp_path, model=tmp_path / "mine"))
    else:
        with pytest.raises(LessonError) as caught:
            models.check(make_settings(tmp_path, model=tmp_path / "mine"))
        assert caught.value.code == outcome and is_paragraph(caught.value)
    assert not (tmp_path / "mine" / "ran").exists(), "the repository's code was not run"


ON_THE_HUB = {name: MODELS[name] for name in (
    "as it should be", "no config.json", "config.json is no JSON", "an unknown model type", "no weights",
    "weights only in a pickle file", "no padding token", "code of its own")} | {
    "3 billion parameters": (giant, "too-large"),
    "3 billion parameters in two files": (giant_in_shards, "too-large"),
}  # fmt: skip


@pytest.mark.parametrize("name", ON_THE_HUB)
def test_a_model_on_the_hub_is_judged_before_its_weights_are_downloaded(hub, copied, tmp_path, monkeypatch, name):
    change, outcome = ON_THE_HUB[name]
    change(tiny_model(copied / "models" / "some" / "one"))
    monkeypatch.setenv("LESSON_MODEL", "some/one")
    monkeypatch.setenv("LESSON_EDITION", "pocket")
    monkeypatch.setenv("LESSON_HOME", str(tmp_path / "home"))
    hub.requests.clear()
    if outcome is WORKS:
        assert course.start().model_revision == "f" * 40, "pinned to the commit that the Hub has now"
    else:
        with pytest.raises(LessonError) as caught:
            course.start()
        assert caught.value.code == outcome.replace("no-model", "model-unreadable") and is_paragraph(caught.value)
    fetched = [path for method, path in hub.requests if method == "GET" and "/resolve/" in path]
    assert not [path for path in fetched if path.endswith((".bin", ".py"))]
    assert not list((tmp_path / "hf").rglob("*.safetensors")), "no weights are kept: none were downloaded"


@pytest.mark.parametrize("kind", ["model", "dataset"])
def test_a_name_that_the_hub_does_not_know(hub, tmp_path, monkeypatch, kind):
    monkeypatch.setenv(f"LESSON_{kind.upper()}", "no/such")
    monkeypatch.setenv("LESSON_EDITION", "pocket")
    with pytest.raises(LessonError) as caught:
        course.start()
    assert caught.value.code == "hub-refused" and "no/such" in str(caught.value)


ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
ANY_LABEL = st.one_of(
    *[st.lists(kind | st.none(), min_size=8, max_size=8) for kind in (
        st.integers(-3, 3), st.floats(), st.booleans(), st.text(max_size=3), st.lists(st.integers(), max_size=2))]
)  # fmt: skip
quick = hypothesis_settings(
    deadline=None, max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip


@given(ANY_TEXT)
def test_words_of_any_text(text):
    found = data.words(text)
    assert all(word and not word.isspace() for word in found) and data.words(" ".join(found)) == found


@given(st.lists(ANY_TEXT, max_size=6), st.lists(ANY_TEXT, max_size=6), st.booleans())
def test_find_contained_in_any_text(sentences, inside, proper):
    found = data.find_contained(sentences, inside, proper)
    assert found <= set(range(len(sentences)))
    assert {i for i, s in enumerate(sentences) if not data.words(s)} <= found


@given(ANY_LABEL, st.lists(ANY_TEXT | st.none(), min_size=8, max_size=8))
@quick
def test_any_columns_are_put_in_order_or_refused(labels, texts):
    try:
        source = DatasetDict(train=Dataset.from_dict({"text": texts, "label": labels}))
    except Exception:  # pyarrow has no column for such values: no file could hold them
        return
    try:
        found = columns.standard_columns(source)["train"]
    except LessonError as error:
        assert error.code in ("odd-labels", "one-label", "no-text", "unknown-label")
        return
    assert found["sentence"][:] == texts and isinstance(found.features["label"], ClassLabel)
    assert all(label is None or -1 <= label < found.features["label"].num_classes for label in found["label"])


@given(st.lists(st.tuples(ANY_TEXT, st.integers(-1, 2)), max_size=12), st.integers(0, 60), st.integers(1, 99))
@quick
def test_any_rows_are_split_or_refused(tmp_path, rows, good, seed):
    features = Features(sentence=Value("string"), label=ClassLabel(names=["a", "b", "c"]))
    rows = [*rows, *zip(TEXTS[:good], LABELS, strict=False)]
    made = {"sentence": [text for text, _ in rows], "label": [label for _, label in rows]}
    source = DatasetDict(train=Dataset.from_dict(made, features))
    try:
        splits, split_info = data.split(columns.standard_columns(source), make_settings(tmp_path, seed=seed))
    except LessonError as error:
        assert error.code in ("odd-labels", "one-label", "no-text", "no-label", "too-few-rows")
        return
    assert sum(split_info["rows"].values()) + split_info["removed"] == len(rows)
    assert all(len(set(part["label"])) >= 2 for part in splits.values())
    assert not data.find_contained(splits["test"]["sentence"][:], splits["train"]["sentence"][:])


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    """Return the shipped tokenizer."""
    return models.load_tokenizer(make_settings(tmp_path_factory.mktemp("home")))


@given(st.lists(ANY_TEXT, min_size=1, max_size=4))
@quick
def test_any_text_becomes_tokens(tokenizer, sentences):
    splits = DatasetDict(train=Dataset.from_dict({"sentence": sentences, "label": [0] * len(sentences)}))
    tokenized = tokenization.tokenize(splits, tokenizer, 128)
    assert len(tokenized["train"]) == len(sentences)
    assert all(2 <= length <= 128 for length in tokenization.lengths(tokenized["train"]))


NAMES = ("edition", "train_rows", "epochs", "seed", "colour")
FORM = st.none() | st.integers() | st.text(max_size=12) | st.sampled_from(["auto", "pocket", "full", "0", "1e3", "∞"])


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(NAMES, FORM)))
@quick
def test_any_form_is_read_or_refused(tmp_path, form):
    try:
        found = settings.read({"LESSON_HOME": str(tmp_path)}, **form)
    except LessonError as error:
        assert error.code in ("no-such-setting", "no-such-edition", "no-number", "too-few-rows")
        return
    assert found.edition in settings.EDITIONS and found.recipe.epochs >= 1 and found.seed >= 0


@given(st.integers(1, 500).flatmap(lambda rows: st.tuples(st.integers(0, rows), st.just(rows))))
def test_any_count_has_an_interval_around_its_share(pair):
    low, high = evaluation.wilson_interval(*pair)
    assert 0 <= low <= pair[0] / pair[1] + 1e-12 and pair[0] / pair[1] - 1e-12 <= high <= 1


@given(st.lists(st.tuples(st.floats(-50, 50), st.floats(-50, 50), st.integers(0, 1)), min_size=1, max_size=30))
def test_any_answers_are_calibrated_against_their_labels(rows):
    probabilities = softmax(np.array([row[:2] for row in rows]), axis=-1)
    bins = evaluation.calibration_table(probabilities, np.array([row[2] for row in rows]))
    assert sum(entry["rows"] for entry in bins) == len(rows)
    assert 0 <= evaluation.expected_calibration_error(bins) <= 1


@given(st.lists(ANY_TEXT, min_size=1, max_size=30))
def test_any_sentences_are_grouped_by_length(sentences):
    assert len(evaluation.length_groups(sentences)) == len(sentences)


@given(st.text(max_size=80), st.sampled_from(["hf_CanaryCanary", "https://user:secret@host/x?Signature=abc"]))
def test_a_quoted_error_is_one_line_without_secrets(text, secret):
    from helpers.durable.errors import first_line

    line = first_line(ValueError(f"{text} {secret} {text}"))
    assert len(line) <= 300 and not set("\n\r") & set(line)
    assert not any(word in line for word in ("CanaryCanary", "user:secret", "Signature=abc"))


def test_data_is_told_apart_by_version(tmp_path, hub, copied, pins, client, waits, monkeypatch):
    """The cache holds another version than the pinned one, and the Hub is away: load_dataset would take the other."""
    name, commit = pins["dataset"]
    other = make_settings(tmp_path, dataset=f"{name}@{'0' * 40}")
    assert data.open_dataset(other)["train"].num_rows == sst2_like()["train"].num_rows
    client("http://127.0.0.1:9")
    pinned = make_settings(tmp_path, dataset=f"{name}@{commit}")
    with pytest.raises(LessonError) as caught:
        data.load_or_make(pinned)
    assert caught.value.code == "other-revision"
    taken = load_dataset(name, revision=commit)  # as in notebook 02
    splits, split_info = data.split(columns.standard_columns(taken), pinned)
    with pytest.raises(LessonError) as caught:
        data.save(pinned, splits, split_info)
    assert caught.value.code == "other-revision"
    assert not (pinned.home / "data").exists()
    client(hub.url)
    assert data.load_or_make(make_settings(tmp_path, dataset=f"{name}@{commit}"))["train"].num_rows
