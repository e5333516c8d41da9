"""The pocket reviews are what their data card says: sizes, balance, no duplicates, neither easy nor hopeless."""

import random
import re
from collections import Counter, defaultdict

import numpy as np
import pytest
from datasets import load_dataset
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from helpers.data import find_contained, words
from helpers.settings import SHIPPED

KINDS = {"plain", "negation", "contrast", "hedging", "comparison", "irony", "mixed", "idiom", "expectation"}
# Type/token ratio of SST-2's official validation set, measured as `type_token_ratio` does (see the data card).
SST2_VALIDATION_RATIO = 0.3172
SST2_VALIDATION_WORDS = 21.14  # mean, counted as `helpers.data.words` counts: punctuation marks too


@pytest.fixture(scope="module")
def splits(tmp_path_factory):
    return load_dataset(str(SHIPPED / "data"), cache_dir=str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module")
def sentences(splits):
    """Every whole sentence of the three splits, as (split, sentence, label, phenomenon)."""
    rows = [(name, row["sentence"], row["label"], row["phenomenon"]) for name, part in splits.items() for row in part]
    return [row for row in rows if row[3] != "phrase"]


def plain_words(sentence: str) -> list[str]:
    return re.findall(r"\w+", sentence.lower())


def type_token_ratio(texts: list[str], tokens: int = 10_000) -> float:
    """Mean share of different words among `tokens` running words, over five shuffles."""
    ratios = []
    for seed in range(5):
        running = [w for text in random.Random(seed).sample(texts, len(texts)) for w in plain_words(text)][:tokens]
        ratios.append(len(set(running)) / tokens)
    return sum(ratios) / len(ratios)


def test_sizes_columns_and_balance(splits, sentences):
    assert Counter(row[0] for row in sentences) == {"train": 2000, "validation": 400, "test": 600}
    assert splits["train"].num_rows >= 2000 + 4000
    for part in splits.values():
        assert part.column_names == ["idx", "sentence", "label", "phenomenon"]
        assert part.features["label"].names == ["negative", "positive"]
        assert part["idx"][:] == list(range(len(part)))
        assert 0.48 <= sum(part["label"]) / len(part) <= 0.52


def test_every_kind_is_there_often_enough_and_half_positive(sentences):
    counts = Counter(row[3] for row in sentences)
    assert set(counts) == KINDS
    assert all(counts[kind] >= 150 for kind in KINDS)
    for kind in KINDS:
        assert 0.45 <= sum(row[2] for row in sentences if row[3] == kind) / counts[kind] <= 0.55


def test_lengths_are_those_of_sst2_validation(sentences):
    lengths = [len(words(row[1])) for row in sentences]
    assert abs(sum(lengths) / len(lengths) - SST2_VALIDATION_WORDS) <= 1.5
    assert min(lengths) >= 3 and max(lengths) <= 60


def test_no_near_duplicates(sentences):
    """Word 3-gram Jaccard similarity stays under 0.4 for every pair of sentences, within and across splits."""
    grams, holders = [], defaultdict(list)
    for number, row in enumerate(sentences):
        w = plain_words(row[1])
        grams.append({tuple(w[i : i + 3]) for i in range(max(1, len(w) - 2))})
        for gram in grams[-1]:
            holders[gram].append(number)
    for together in holders.values():
        for a in together:
            for b in together:
                if a < b:
                    assert len(grams[a] & grams[b]) / len(grams[a] | grams[b]) < 0.4, (sentences[a], sentences[b])


def test_no_five_words_in_more_than_six_sentences(sentences):
    counts = Counter()
    for row in sentences:
        w = plain_words(row[1])
        counts.update({tuple(w[i : i + 5]) for i in range(len(w) - 4)})
    assert counts.most_common(1)[0][1] <= 6


def test_phrases_are_cut_from_train_sentences(splits):
    train = splits["train"]
    phrases = [row["sentence"] for row in train if row["phenomenon"] == "phrase"]
    whole = [row["sentence"] for row in train if row["phenomenon"] != "phrase"]
    assert len(find_contained(phrases, whole)) == len(phrases)


def test_words_are_as_various_as_in_sst2(sentences):
    assert type_token_ratio([row[1] for row in sentences]) >= SST2_VALIDATION_RATIO


def test_counting_words_is_neither_enough_nor_useless(sentences):
    """If bags of words did better, the text would be too easy; if they failed, it would be unlearnable."""
    train = [row for row in sentences if row[0] == "train"]
    test = [row for row in sentences if row[0] == "test"]
    for pairs in ((1, 1), (1, 2)):
        model = make_pipeline(TfidfVectorizer(ngram_range=pairs), LogisticRegression(max_iter=1000))
        model.fit([row[1] for row in train], [row[2] for row in train])
        score = model.score([row[1] for row in test], [row[2] for row in test])
        assert 0.60 < score <= 0.80


def form(sentence: str) -> list[float]:
    """Return what a sentence looks like without its words: its length, the letters a word, its punctuation marks."""
    tokens = words(sentence)
    return [len(tokens), len(sentence) / len(tokens), *(sentence.count(mark) for mark in ",;:'\"-!.?")]


def test_form_does_not_give_the_label_away(sentences):
    """Writers who revise one label more than the other leave traces: an early revision scored 0.68 here."""
    hard = [row for row in sentences if row[3] != "plain"]
    train, rest = [row for row in hard if row[0] == "train"], [row for row in hard if row[0] != "train"]
    model = GradientBoostingClassifier(n_estimators=60, max_depth=2, random_state=0)
    model.fit([form(row[1]) for row in train], [row[2] for row in train])
    assert model.score([form(row[1]) for row in rest], [row[2] for row in rest]) <= 0.57
    lengths = [[len(words(row[1])) for row in hard if row[2] == label] for label in (0, 1)]
    assert abs(np.mean(lengths[0]) - np.mean(lengths[1])) <= 2
    assert 0.8 <= np.std(lengths[0]) / np.std(lengths[1]) <= 1.25
