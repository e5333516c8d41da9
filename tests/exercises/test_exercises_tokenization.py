"""The exercises of notebook 03."""

import random
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from cases import Case, exercise_tests
from support import make_settings, tiny_tokenizer
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from transformers import PreTrainedTokenizerFast

from helpers import tokenization
from helpers.exercises.check import Check
from helpers.exercises.judging import RIGHT, WRONG

settings = make_settings(Path(tempfile.mkdtemp(prefix="lesson-")))
TEXT = "The zany film."  # for this tokenizer: the z ##a ##n ##y film .
NAMES = {
    "settings": settings,
    "tokenizer": tiny_tokenizer(),
    "text": TEXT + " The plot is dull, very cold.",
    "three": ["Dull.", "A lovely film with a clever ending.", "The plot is very dull."],
    "lengths": [max(3, round(random.Random(n).expovariate(0.08))) for n in range(500)],
    "shares": {"fixed (128)": 0.8826, "per batch": 0.7076, "grouped by length": 0.0566},
}
NAMES["pieces"] = NAMES["tokenizer"].tokenize(NAMES["text"])


def pad(rows, pad_id, width=None, front=False, real=1, mask=None):
    """Pad rows, rightly unless told otherwise."""
    width = width or max(len(row) for row in rows)
    extra = [width - len(row) for row in rows]
    ids = [[pad_id] * n + row if front else row + [pad_id] * n for row, n in zip(rows, extra, strict=True)]
    made = [[real] * len(row) + [1 - real] * n for row, n in zip(rows, extra, strict=True)]
    return ids, mask if mask is not None else made


def pad_in_place(rows, pad_id):
    """Pad the rows themselves; then the mask cannot know what was real."""
    width = max(len(row) for row in rows)
    for row in rows:
        row += [pad_id] * (width - len(row))
    return rows, [[1] * len(row) for row in rows]


def sampler(lengths, size, seed):
    """The course's own."""
    return list(tokenization.LengthGroupedSampler(lengths, size, seed))


def order(lengths, size, seed, last=True, shuffle=True):
    """Sort all rows by length, shuffle the batches; rightly unless told otherwise."""
    chance = random.Random(seed)
    rows = sorted(range(len(lengths)), key=lambda row: (lengths[row], chance.random()))
    batches = [rows[at : at + size] for at in range(0, len(rows), size)]
    end = [batches.pop()] if last and len(rows) % size else []
    if shuffle:
        chance.shuffle(batches)
    return [row for batch in batches + end for row in batch]


def careless(lengths, size, seed):
    """Let the clock choose the order."""
    return order(lengths, size, random.SystemRandom().random())


CASES = {
    "continued_pieces": Case(
        right=[3, 3.0, np.int64(3)],
        wrong=[(15, "all the pieces"), (1, "in several pieces"), (4, "does not continue"), (2, "begin with ##"),
               (12, "begin a word"), ("3", "without quotation")],
    ),
    "lost_pieces": Case(
        right=[7],  # of 15 pieces
        wrong=[(5, "forgot the special"), (6, "both ends"), (15, "all the pieces"), (3, "room for"), (10, "room for")],
    ),
    "padded": Case(
        right=[pad, lambda rows, pad_id: [np.array(part) for part in pad(rows, pad_id)],
               lambda rows, pad_id: torch.tensor(pad(rows, pad_id))],
        wrong=[
            (lambda rows, pad_id: pad(rows, pad_id, real=0), "upside down"),
            (lambda rows, pad_id: pad(rows, pad_id, front=True), "on the other side"),
            (lambda rows, pad_id: pad(rows, pad_id, width=128), "fixed length 128"),
            (lambda rows, pad_id: pad(rows, pad_id, width=20), "The longest row needs only"),
            (lambda rows, pad_id: pad(rows, 0), "other tokenizers (here 99)"),
            (lambda rows, pad_id: pad(rows, pad_id)[0], "return two tables"),
            (lambda rows, pad_id: pad(rows, pad_id)[::-1], "the other way round"),
            (lambda rows, pad_id: (rows, [[1] * len(row) for row in rows]), "A batch is a rectangle"),
            (lambda rows, pad_id: tuple([row[:1] for row in part] for part in pad(rows, pad_id)), "are lost"),
            (lambda rows, pad_id: tuple(part[:2] for part in pad(rows, pad_id)), "there should be 3"),
            (lambda rows, pad_id: (pad(rows, pad_id)[0], [[1] * len(row) for row in rows]), "the mask have"),
            (lambda rows, pad_id: ([[5] * len(row) for row in pad(rows, 0)[0]], pad(rows, 0)[1]), "its own ids"),
            (lambda rows, pad_id: (pad(rows, pad_id)[0], pad(rows, pad_id)[0]), "1 for each real token"),
            (pad_in_place, "1 everywhere"),
            (lambda rows, pad_id: rows[0][99], "IndexError"),
            (lambda rows: rows, "TypeError"),
            (pad([[1]], 0), "a function is asked for"),
        ],
    ),
    "wasted_share": Case(
        right=[0.8826, 0.88],
        wrong=[(88.26, "from 0 to 1"), (0.1174, "real tokens"), (11.74, "as a share"), (0.7076, "its own longest"),
               (0.0566, "the smallest"), (113, "Divide by all"), (8.52, "for one real token"), (0.5, "What share")],
    ),
    "own_order": Case(
        right=[order, sampler, lambda *given: np.array(order(*given)), lambda *given: torch.tensor(order(*given))],
        wrong=[
            (lambda lengths, size, seed: random.Random(seed).sample(range(len(lengths)), len(lengths)), "side by side"),
            (lambda lengths, size, seed: list(range(len(lengths))), "side by side"),
            (lambda *given: order(*given, shuffle=False), "Shuffle the batches"),
            (lambda *given: order(*given, shuffle=False)[::-1], "Shuffle the batches"),
            (lambda *given: order(*given, last=False), "Keep it at the end"),
            (careless, "random.Random(seed)"),
            (lambda lengths, size, seed: order(lengths, size, 7), "another seed"),
            (lambda lengths, size, seed: sorted(lengths), "lengths themselves"),
            (lambda *given: [row + 1 for row in order(*given)], "not 1"),
            (lambda *given: order(*given)[:-8], "8 of 992 rows never come"),
            (lambda *given: order(*given) + [0], "more than once"),
            (lambda *given: order(*given) + [5000], "only the rows"),
            (lambda *given: [order(*given)], "a list of lists"),
            (lambda *given: "abc", "a list of row numbers"),
            (lambda *given: ["a"], "nothing else"),
            (lambda *given: [], "a list of row numbers"),
        ],
    ),
}  # fmt: skip
TestExercises = exercise_tests("tokenization", NAMES, CASES)

check = Check("tokenization", NAMES, remember=False)


@pytest.mark.parametrize("name", ["padded", "own_order"])
def test_a_function_may_return_anything(name):
    endless = []
    endless.append(endless)
    results = [
        7,
        "ab",
        {},
        {"a": 1},
        object(),
        np.ndarray,
        endless,
        [endless],
        [[], []],
        [[[]], [[]]],
        [None],
        ([1], [1]),
    ]
    results += [[["a"], ["b"]], torch.ones(2, 2), np.array(["x"]), float("nan"), [float("nan")], len]
    for result in results:
        reply = getattr(check, name)(lambda *given, result=result: result)
        assert reply.state == WRONG and len(reply.text) > 15, (result, reply)


def test_pieces_are_lost_only_where_there_is_no_room():
    short = Check("tokenization", NAMES | {"text": "The film."}, remember=False)
    assert short.lost_pieces(0).state == RIGHT


def test_rows_of_one_length_waste_nothing_in_any_order():
    same = Check("tokenization", NAMES | {"lengths": [9] * 40}, remember=False)
    assert same.own_order(order).state == RIGHT


def byte_level_tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer like a decoder's: no ##, no special tokens, and the padding in front."""
    tokenizer = Tokenizer(BPE(unk_token=None))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = BpeTrainer(vocab_size=262, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), special_tokens=["<pad>"])
    tokenizer.train_from_iterator(["the film the film"], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", padding_side="left")


def test_a_decoders_tokenizer_has_other_signs_and_other_sides():
    tokenizer = byte_level_tokenizer()
    pieces = tokenizer.tokenize("the zany")
    changed = {"tokenizer": tokenizer, "text": "the zany", "pieces": pieces}
    other = Check("tokenization", NAMES | changed, remember=False)
    words = len([piece for place, piece in enumerate(pieces) if place == 0 or piece.startswith("Ġ")])
    assert other.continued_pieces(len(pieces) - words).state == RIGHT
    hint = other.continued_pieces(100)
    assert hint.state == WRONG and "##" not in hint.text
    lost = Check("tokenization", NAMES | changed | {"text": "the zany film is long"}, remember=False)
    count = len(tokenizer("the zany film is long")["input_ids"])
    assert "special" not in lost.lost_pieces(count - 10).text and lost.lost_pieces(count - 10).state == RIGHT
    assert other.padded(lambda rows, pad_id: pad(rows, pad_id, front=True)).state == WRONG  # its mask is not turned
    assert other.padded(pad_in_front).state == RIGHT
    assert "on the other side" in other.padded(pad).text
    assert "on the other side" in check.padded(pad_in_front).text


def pad_in_front(rows, pad_id):
    ids, mask = pad(rows, pad_id, front=True)
    return ids, [part[::-1] for part in mask]


def test_pieces_of_another_text_are_not_judged():
    mixed = Check("tokenization", NAMES | {"text": "Another text."}, remember=False)
    assert "Run the cells above" in mixed.continued_pieces(3).text
