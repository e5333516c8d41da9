"""The exercises of notebook 03, in the order in which they come. `run` holds the notebook's variables."""

import contextlib
import copy
import itertools
import random

import numpy as np

from helpers.exercises.judging import NotebookVariables, Reply, call_safely, number, right, wrong
from helpers.tokenization import padding_share

SHORT = 10  # the max_length of exercise 3.2
SIZE = 16  # the batches of exercise 3.5


def continued_pieces(answer, run: NotebookVariables) -> Reply:
    """Read the output: how many of the pieces go on with a word that another piece has begun?"""
    pieces, later = run.pieces, _continues(run.tokenizer, run.text, run.pieces)
    marked = any(piece.startswith("##") for piece in pieces)
    sign = "begin with ##" if marked else "stand within a word, not at its start"
    many = sum(second and not first for first, second in zip(later, later[1:], strict=False))  # words in many pieces
    return number(
        answer,
        sum(later),
        yes=f"So {len(run.tokenizer):,} tokens are enough to write nearly every word, also one that nobody has used "
        "before. The price is that a rare word takes several places in the row.",
        mistakes=[
            (len(pieces), "these are all the pieces. Count only those that continue a word."),
            (many, "so many words are in several pieces. Count the pieces that continue them."),
            (sum(later) + many, f"the first piece of a word does not continue it. Count those that {sign}."),
            (len(pieces) - sum(later), "these are the pieces that begin a word. Count the others."),
        ],
        hint=f"it is the number of pieces that {sign}. Count them in the output above.",
        tolerance=0,
    )


def _continues(tokenizer, text: str, pieces: list[str]) -> list[bool]:
    """Return for each piece of text whether it continues a word, whatever sign this tokenizer has for that.

    Raises:
        ValueError: the pieces are not those of text.
    """
    if not tokenizer.is_fast:  # only the Rust tokenizers know which word a piece comes from
        return [piece.startswith("##") for piece in pieces]
    words = tokenizer(text, add_special_tokens=False).word_ids()
    if len(words) != len(pieces):
        raise ValueError("`pieces` are not the pieces of `text`")
    return [False] + [one == other for one, other in itertools.pairwise(words)]


def lost_pieces(answer, run: NotebookVariables) -> Reply:
    """Predict: how many pieces of the sentence are lost when it is cut at ten tokens?"""
    whole, special = len(run.tokenizer(run.text)["input_ids"]), run.tokenizer.num_special_tokens_to_add()
    kept = len(run.tokenizer(run.text, truncation=True, max_length=SHORT)["input_ids"])
    places = (
        f"`max_length` counts the special tokens too: of {SHORT} places {special} are taken before the first word. "
    )
    return number(
        answer,
        whole - kept,
        yes=(places if special else "")
        + "What stands at the end of a long text, often its verdict, is what the model never sees.",
        mistakes=[
            (whole - special - SHORT, "you forgot the special tokens. They need places, too."),
            (whole - kept - (special == 2), "the sentence has 2 special tokens, not one: count both ends."),
            (kept - special, "so many pieces are kept. The others are lost."),
            (whole - special, "these are all the pieces. Some of them are kept."),
        ],
        hint="what is lost is the number of all tokens, with the special ones, minus those that there is room for.",
        tolerance=0,
    )


def padded(answer, run: NotebookVariables) -> Reply:
    """Build it: a function that pads the rows of a batch, and makes the mask that tells real tokens from padding."""
    real = run.tokenizer(run.three)["input_ids"]
    front = run.tokenizer.padding_side == "left"  # as decoders are fed when they write
    trials = [
        (real, run.tokenizer.pad_token_id or 0),
        ([[7, 8], [5], [6, 4, 9, 1]], 99),
        ([[3, 2], [8, 1]], 50),
        ([[4]], 7),
    ]
    for rows, pad_id in trials:
        result, problem = call_safely(answer, copy.deepcopy(rows), pad_id)
        hint = None if problem else _padding_hint(_lists(result), rows, pad_id, run.settings.recipe.max_length, front)
        if problem or hint:
            return problem or wrong(hint)
    return right(
        "This is what the tokenizer and the data collator do for every batch. The mask is all that the model has to "
        "tell a sentence from its padding: were it 1 everywhere, the padding would change the answers."
    )


def _padding_hint(result, rows: list[list[int]], pad_id: int, fixed: int, front: bool) -> str | None:
    """Return what is wrong with (ids, mask), or None. front: this tokenizer puts the padding before the tokens."""
    width = max(map(len, rows))

    def fill(value: int, before: bool, table=rows) -> list[list[int]]:
        padding = [[value] * (width - len(row)) for row in table]
        return [pad + row if before else row + pad for row, pad in zip(table, padding, strict=True)]

    ids, mask = fill(pad_id, front), fill(0, front, [[1] * len(row) for row in rows])
    if result == [ids, mask]:
        return None
    if not isinstance(result, list) or len(result) != 2 or not all(_is_table(part) for part in result):
        return "the function should return two tables, each a list of lists: `return ids, mask`."
    if result == [mask, ids]:
        return "the ids come first, then the mask: here it is the other way round."
    given = f"for {rows} and pad_id {pad_id} "
    for name, table in zip(("ids", "mask"), result, strict=True):
        if len(table) != len(rows):
            return given + f"there are {len(table)} rows in the {name}, and there should be {len(rows)}."
        widths = sorted({len(row) for row in table})
        if len(widths) > 1:
            return given + f"the rows of the {name} have {widths[0]} to {widths[-1]} places. A batch is a rectangle."
        if widths[0] == fixed > width:
            return f"you pad to the fixed length {fixed}. The longest row of the batch is enough."
        if widths[0] < width:
            return given + f"the {name} have only {widths[0]} places: tokens of the longest row are lost."
        if widths[0] > width:
            return given + f"the {name} have {widths[0]} places. The longest row needs only {width}."
    if result[0] != ids:
        if result[0] == fill(pad_id, not front):
            return "the padding stands on the other side of the tokens than in the batch above."
        if result[0] == fill(0, front):
            return f"you fill up with 0. Use `pad_id`: it is another number for other tokenizers (here {pad_id})."
        return given + f"the ids are {result[0]}. Each row should hold its own ids, and pad_id where it is too short."
    if result[1] == [[1 - value for value in row] for row in mask]:
        return "the mask is upside down: 1 is for a real token, 0 for padding."
    if result[1] == [[1] * width for _ in rows]:
        return "the mask is 1 everywhere. Where there is padding, it should be 0."
    return given + f"the mask is {result[1]}. It should have 1 for each real token, and 0 for each padding."


def wasted_share(answer, run: NotebookVariables) -> Reply:
    """Predict: what share of the positions is padding when every row is padded to the fixed length?"""
    (fixed, per_batch, by_length), places = run.shares.values(), run.settings.recipe.max_length
    return number(
        answer,
        fixed,
        yes="Most of the computing would be spent on nothing. Look for that first when training is slow.",
        mistakes=[
            (100 * fixed, "that is the percentage. Give the share: a number from 0 to 1."),
            (1 - fixed, "that is the share of real tokens. The padding is the rest."),
            (100 * (1 - fixed), "that is the percentage of real tokens. The padding is the rest, as a share."),
            (per_batch, "that is the share when each batch is padded to its own longest row."),
            (by_length, "that is the share with rows grouped by length, the smallest."),
            (places * fixed, f"so many of the {places} positions of a row are padding. Divide by all of them."),
            (1 / (1 - fixed), "so many positions are computed for one real token. Of how many are how many padding?"),
        ],
        hint=f"of the {places} positions of a row only the mean number of tokens is real; it was printed above. "
        "What share are the others?",
    )


def own_order(answer, run: NotebookVariables) -> Reply:
    """Challenge: a function that orders the rows so that batches waste little, as the course's sampler does."""
    trial = random.Random(3).choices(run.lengths, k=63 * SIZE - SIZE // 2)  # the last batch is half full
    whole = trial[: 62 * SIZE]
    orders = []
    for lengths, seed in ((whole, 1), (trial, 1), (trial, 1), *((trial, seed) for seed in range(2, 7))):
        result, problem = call_safely(answer, list(lengths), SIZE, seed)
        hint = None if problem else _order_hint(_lists(result), lengths)
        if problem or hint:
            return problem or wrong(hint)
        orders.append([int(row) for row in _lists(result)])
    plain = padding_share(trial, random.Random(4).sample(range(len(trial)), len(trial)), SIZE)
    even, share = padding_share(whole, orders[0], SIZE), max(padding_share(trial, rows, SIZE) for rows in orders[1:])
    batches = [np.mean([trial[i] for i in orders[1][at : at + SIZE]]) for at in range(0, len(trial), SIZE)]
    if even > plain / 2:
        return wrong(
            f"{even:.0%} of the positions would be padding; in a plain shuffled order it is {plain:.0%}. "
            "Put rows of similar length side by side, before you cut the batches."
        )
    if share > even + (plain - even) / 4:
        return wrong(
            f"with {len(trial)} rows in batches of {SIZE} the last batch is not full. When it comes earlier, it "
            "shifts the borders of all that follow. Keep it at the end, and shuffle the others."
        )
    if np.std(batches) > 0 and abs(np.corrcoef(np.argsort(np.argsort(batches)), range(len(batches)))[0, 1]) > 0.7:
        return wrong("training would see all short rows at one end, all long ones at the other. Shuffle the batches.")
    if orders[1] != orders[2]:
        return wrong("two calls with the same seed give two orders. Take all random choices from random.Random(seed).")
    if orders[2] == orders[3]:
        return wrong("another seed gives the same order. Each epoch should see the rows in an order of its own.")
    return right(
        f"Your batches waste {share:.1%} of their positions, where a plain shuffle wastes {plain:.1%}: the same "
        f"sentences with {(1 - share) / (1 - plain):.1f} times fewer positions to compute."
    )


def _order_hint(order, lengths: list[int]) -> str | None:
    """Return why this is no order of the rows, or None."""
    if not isinstance(order, list) or not order:
        return "the function should return a list of row numbers."
    if all(isinstance(part, list) for part in order):
        return "the function returns a list of lists. Return one list of row numbers, batch after batch."
    if not all(isinstance(row, int | float) for row in order):
        return "the list should hold row numbers, and nothing else."
    if sorted(order) == sorted(lengths):
        return "these are the lengths themselves. Return the numbers of the rows, sorted by their length."
    if sorted(order) == list(range(1, len(lengths) + 1)):
        return "the first row has the number 0, not 1."
    missing, double = len(set(range(len(lengths))) - set(order)), len(order) - len(set(order))
    if double:
        return f"{double} rows come more than once. Each row should come once in an epoch."
    if missing:
        return f"{missing} of {len(lengths)} rows never come. Do not forget a last batch that is not full."
    return None if len(order) == len(lengths) else f"there are only the rows 0 to {len(lengths) - 1}."


def _lists(value):
    """Return lists in place of tuples, arrays and tensors, at any depth; anything else as it is."""
    with contextlib.suppress(Exception):  # whatever a student's function returned
        value = value.tolist() if hasattr(value, "tolist") else value
        return [_lists(part) for part in value] if isinstance(value, list | tuple) else value
    return None


def _is_table(value) -> bool:
    """Return whether this is a list of lists of numbers."""
    rows = isinstance(value, list) and len(value) > 0 and all(isinstance(row, list) for row in value)
    return rows and all(isinstance(number, int | float) for row in value for number in row)
