"""The diagrams: how things hang together, drawn from the notebook's own values in the style of `plots`."""

import re

import matplotlib.pyplot as plt
import numpy as np
from scipy.special import softmax

from helpers.plots import COLOURS
from helpers.sheet import KINDS, PLATE, WIDTH, Sheet, some


def road(sentence: str, tokens: list[str], ids: list[int], logits: list[float], config):
    """Return the road of one sentence through the model, from words to a verdict.

    Args:
        tokens, ids: of the sentence, special tokens included, in equal number.
        logits: the model's score for each label.
        config: the model's, for the names of its labels, its layers and the numbers that it keeps for each token.
    """
    names = [str(config.id2label[number]) for number in range(len(logits))]
    chances, size, layers = softmax(logits), config.hidden_size, config.num_hidden_layers
    ranking = np.argsort(-chances, kind="stable")
    rows = ranking[:3] if len(names) > 3 else range(len(names))
    sheet, left = Sheet("From a sentence to a verdict", 5.0), 1.4
    columns = sheet.columns(tokens, ids, left)
    end = columns[-1][1] + columns[-1][2]
    middle = (left + end) / 2

    def step(y: float, text: str, x: float = middle) -> None:
        sheet.arrow((x, y), (x, y + 0.3))
        sheet.write(x + 0.1, y + 0.14, text, WIDTH - x - 0.15, ha="left")

    def numbers(y: float, after: bool) -> None:
        for number, x, width in columns:
            sheet.box(x, y, width, 0.24, "…" if number is None else "", "unused" if after and number else "data")
            for part in np.linspace(x, x + width, 6)[1:-1] if number is not None and not (after and number) else ():
                sheet.ax.plot([part, part], [y, y + 0.24], color=COLOURS[0], linewidth=0.8)

    labels = {0.58: "sentence", 1.24: "tokens", 1.52: "ids", 2.14: f"{size:,} numbers\nfor each token"}
    labels |= {2.82: "layers", 3.5: f"{size:,} numbers,\nnow in context", 4.42: "head,\nand verdict"}
    for y, label in labels.items():
        sheet.write(0.05, y, label, 1.3, ha="left", weight="bold")
    sheet.box(left, 0.44, max(end - left, 3), 0.28, sentence)
    step(0.75, "the tokenizer cuts and looks up")
    for number, x, width in columns:
        sheet.box(x, 1.1, width, 0.28, "…" if number is None else tokens[number])
        sheet.box(x, 1.38, width, 0.28, "…" if number is None else ids[number])
    step(1.69, "a table gives each id its numbers")
    numbers(2.02, after=False)
    step(2.29, "")
    sheet.box(left, 2.62, max(end - left, 3), 0.4, f"{layers} layers: each token looks at all tokens", "body")
    step(3.05, "")
    numbers(3.38, after=True)
    first = left + columns[0][2] / 2
    step(3.65, f"only the numbers at {tokens[0]} go on", first)
    sheet.box(left, 3.98, 0.75, 0.88, "head", "new")
    sheet.arrow((left + 0.75, 4.42), (left + 0.97, 4.42))
    sheet.write(left + 3.2, 4.02, "score (logit)", ha="right")
    sheet.write(left + 4.14, 4.02, "probability", ha="right")
    for row, number in enumerate(rows):
        y = 4.25 + 0.2 * row
        sheet.write(left + 1.02, y, names[number], 1.55, ha="left")
        sheet.write(left + 3.2, y, f"{logits[number]:+.2f}".replace("-", "−"), ha="right")
        sheet.write(left + 4.14, y, f"{chances[number]:.1%}", ha="right")
    if len(names) > 3:
        sheet.write(left + 1.02, 4.85, f"… and {len(names) - 3} more labels", ha="left")
    sheet.arrow((left + 4.2, 4.42), (left + 4.4, 4.42))
    sheet.box(left + 4.42, 4.22, 1.13, 0.4, names[ranking[0]], weight="bold")
    said = some(f"{token} {number}" for token, number in zip(tokens, ids, strict=True))
    scores = ", ".join(f"{names[n]} {logits[n]:+.2f}, that is {chances[n]:.1%}" for n in rows)
    parts = [f"the sentence “{sentence[:200]}”", f"its tokens with their ids: {said}"]
    parts += [f"{size:,} numbers for each token"]
    parts += [f"{layers} layers, in which each token looks at all tokens", f"only the numbers at {tokens[0]} go on"]
    parts += [f"the head makes of them a score for each label, and a probability: {scores}"]
    return sheet.figure.describe(sheet.title, "Diagram", [*parts, f"verdict {names[ranking[0]]}"])


def training_step(parameters: int, batch_size: int, loss: float):
    """Return one step of training as a loop of five parts, and below it what is in memory while it runs.

    Args:
        parameters: how many the model has, each of 4 bytes. loss: of the batch.
    """
    sheet, width, gap = Sheet("One training step", 4.6), 1.16, 0.275
    parts = {
        "batch": f"{batch_size:,} rows\nand their\ntrue labels",
        "forward": "the model\ngives its\nanswers",
        "loss": f"how wrong\nare they?\n{loss:.3f}",
        "backward": "gradient: how\neach weight\nmoves the loss",
        "optimizer": "each weight\nmoves a little\ndownhill",
    }
    starts = [0.05 + number * (width + gap) for number in range(5)]
    for x, (name, text) in zip(starts, parts.items(), strict=True):
        sheet.box(x, 0.45, width, 0.28, name, "body", weight="bold")
        sheet.box(x, 0.73, width, 0.66, text)
        if name != "batch":
            sheet.arrow((x - gap, 0.9), (x, 0.9))
    first, last = starts[0] + width / 2, starts[4] + width / 2
    sheet.ax.plot([last, last, first], [1.39, 1.68, 1.68], color="black", linewidth=1.2)
    sheet.arrow((first, 1.68), (first, 1.39))
    sheet.write(WIDTH / 2, 1.68, "again, with the next batch and the changed weights", bbox=PLATE)

    def memory(numbers: int) -> str:
        size = 4 * numbers * parameters / 1e6
        return f"{size:,.0f} MB" if size < 1000 else f"{size / 1000:,.1f} GB"

    weights = f"{parameters:,} weights, 4 bytes each: {memory(1)}"
    kept = f"the optimizer keeps two more numbers for each weight: {memory(2)}"
    sheet.write(0.05, 2.12, "In memory meanwhile (left to right, as the step goes on)", ha="left", weight="bold")
    sheet.box(0.05, 2.29, WIDTH - 0.1, 0.3, weights, "body")
    sheet.box(0.05, 2.65, WIDTH - 0.1, 0.6, kept, "body")
    corners = [(starts[1], 4.1), (starts[2], 3.35), (starts[3], 3.35), (starts[4] - gap, 4.1)]
    sheet.ax.add_patch(plt.Polygon(corners, linewidth=1.2, **KINDS["new"]))
    sheet.write((starts[2] + starts[3]) / 2, 3.74, "activations:\nwhat each\nlayer gave", bbox=PLATE)
    sheet.write(starts[4] - 0.1, 3.7, "more of them\nfor a larger batch", ha="left")
    sheet.write(starts[3] - 0.1, 4.33, "gradients, one for each weight", ha="right")
    sheet.box(starts[3], 4.18, WIDTH - 0.05 - starts[3], 0.3, memory(1), "brief")
    told = [f"{name}: {' '.join(text.split())}" for name, text in parts.items()]
    told += ["then again, with the next batch and the changed weights", f"always in memory, {weights}", kept]
    told += ["activations, what each layer gave, grow in forward and go in backward, more of them for a larger batch"]
    told += [f"from backward to the end gradients, one for each weight: {memory(1)}"]
    return sheet.figure.describe(sheet.title, "Diagram of a loop", told)


def batch_rectangle(tokens: list[list[str]], ids, mask):
    """Return a batch as the rectangle that it is, three times: its tokens, their ids, and the mask; padding hatched.

    Args:
        tokens, ids, mask: equally many rows of equal length; lists, arrays or tensors on the CPU.
            The first 5 rows are drawn.
    """
    ids, mask = np.asarray(ids), np.asarray(mask)
    rows, more = min(len(ids), 5), len(ids) - 5
    high, left, gap = 0.25, 1.5, 0.16
    blocks = {"tokens": tokens, "input_ids": ids, "attention_mask": mask}
    block = high * (rows + (more > 0))
    sheet = Sheet("A batch is a rectangle", 1.1 + 3 * block + 2 * gap)
    longest = [max((row[i] for row in tokens[:rows]), key=len) for i in range(ids.shape[1])]
    columns = sheet.columns(longest, ids[:rows].max(axis=0), left, 1.3)
    end = columns[-1][1] + columns[-1][2]
    sheet.arrow((left, 0.62), (end, 0.62), arrowstyle="<|-|>", shrinkB=0)
    sheet.write((left + end) / 2, 0.62, f"{ids.shape[1]} positions", bbox=PLATE)
    for number, (name, values) in enumerate(blocks.items()):
        top = 0.78 + number * (block + gap)
        sheet.write(0.05, top + high / 2, name, ha="left", weight="bold")
        for row in range(rows):
            for position, x, width in columns:
                text = "…" if position is None else values[row][position]
                kind = "data" if position is None or mask[row][position] else "unused"
                sheet.box(x, top + row * high, width, high, text, kind)
        if more > 0:
            sheet.write(left, top + (rows + 0.5) * high, f"… and {more:,} more rows", ha="left")
    empty = int(mask.size - mask.sum())
    share = f"{empty:,} of them are padding ({empty / mask.size:.0%})"
    said = f"{len(ids)} rows of {ids.shape[1]} make {mask.size:,} positions; {share}"
    sheet.write(left, 0.95 + 3 * block + 2 * gap, said, WIDTH - left, ha="left")
    parts = [
        f"row {number}: {some(row, ' ')}; ids {some(ids[number - 1])}; mask {some(mask[number - 1])}"
        for number, row in enumerate(tokens[:rows], 1)
    ]
    return sheet.figure.describe(sheet.title, "Tables of tokens, ids and mask with padding hatched", [*parts, said])


def attention(tokens: list[str], weights):
    """Return who looks at whom in one layer, and what the head reads.

    Solid lines go from the first token to those it looks at, as thick as its attention; a dashed line goes from each
    other token to the one it looks at most. Where there is no room for all, those to which the first token pays the
    least attention are left out.

    Args:
        weights: shape (tokens, tokens); row i says how much token i looks at each token, and sums to 1.
    """
    weights, left, cls = np.asarray(weights, dtype=float), 1.45, tokens[0]
    shares = [f"{share:.0%}" for share in weights[0]]
    sheet = Sheet("Who looks at whom in one layer", 4.1)
    columns = sheet.columns(tokens, shares, left, worth=weights[0])
    for y, text in ((0.62, f"{cls} looks at"), (0.95, "before the layer"), (3.05, "after the layer")):
        sheet.write(0.05, y, text, 1.35, ha="left", weight="bold")
    for place, (number, x, width) in enumerate(columns):
        text, share, weight = "…", 0, "normal"
        if number is None:
            share = weights[0][columns[place - 1][0] + 1 : columns[place + 1][0]].sum()
        else:
            text, share, weight = tokens[number], weights[0][number], "normal" if number else "bold"
        sheet.write(x + width / 2, 0.62, f"{share:.0%}")
        sheet.box(x, 0.8, width, 0.3, text, weight=weight)
        sheet.box(x, 2.9, width, 0.3, text, weight=weight)
    middles = {number: x + width / 2 for number, x, width in columns if number is not None}
    for other, end in middles.items():
        if weights[0][other] >= 0.03:
            look = {"color": COLOURS[0], "linewidth": max(10 * weights[0][other], 0.8), "zorder": 3}
            sheet.ax.plot([middles[0], end], [2.9, 1.1], **look)
    for one, start in list(middles.items())[1:]:
        most = int(np.argmax(weights[one]))
        if most in middles:
            sheet.ax.plot([start, middles[most]], [2.9, 1.1], color=COLOURS[2], linewidth=1.2, linestyle="--")
    sheet.write(WIDTH - 0.05, 3.35, "dashed: where each other token looks most", ha="right")
    sheet.arrow((middles[0], 3.2), (middles[0], 3.52))
    sheet.box(left, 3.54, 0.75, 0.45, "head", "new")
    reads = f"reads only what stands at {cls} after the last layer"
    sheet.write(left + 0.85, 3.77, reads, WIDTH - left - 0.9, ha="left")
    parts = []
    for number in list(middles)[:20]:
        best = np.argsort(-weights[number], kind="stable")[:3]
        said = ", ".join(f"{tokens[other]} {weights[number][other]:.0%}" for other in best)
        parts.append(f"{tokens[number]} looks most at {said}")
    return sheet.figure.describe(sheet.title, "Diagram, lines from token to token", [*parts, f"the head {reads}"])


def count_parts(model) -> dict[str, int]:
    """Return the number of parameters of a model's parts, from the first to the last, which is "head"."""
    sizes = {}
    for name, values in model.named_parameters():
        layer = re.search(r"\.(\d+)\.", name)
        if not name.startswith(f"{model.base_model_prefix}."):
            part = "head"
        else:
            part = f"layer {int(layer[1]) + 1}" if layer else "embeddings" if "embed" in name else "other"
        sizes[part] = sizes.get(part, 0) + values.numel()
    return sizes


def body_and_head(model):
    """Return the parts of a model, as wide as they have parameters: pretrained body, new head.

    Raises ValueError when it has no head.
    """
    if model.base_model is model:
        loader = "AutoModelForSequenceClassification"
        raise ValueError(f"{type(model).__name__} is a body without a head, so there is nothing new. Use {loader}.")
    sizes = count_parts(model)
    total, head = sum(sizes.values()), sizes["head"]
    sheet, left, middle = Sheet("Pretrained body, new head", 2.7), 0.55, 1.1
    scale, x = (WIDTH - 0.75 - left) / total, left
    for name, size in sizes.items():
        width, numbers = size * scale, f"{size / 1e6:.1f} M"
        sheet.box(x, 0.5, width, 1.2, kind="new" if name == "head" else "body")
        if name != "head" and width > sheet.wide(name) + 0.08:
            sheet.write(x + width / 2, middle, f"{name}\n{numbers}", color="white")
        elif name != "head" and width > 0.18:
            space = "\n" if width > 0.4 else "  "
            sheet.write(x + width / 2, middle, f"{name}{space}{numbers}", color="white", rotation=90)
        x += width
    sheet.write(left - 0.2, middle, "ids", ha="right")
    sheet.arrow((left - 0.18, middle), (left, middle))
    sheet.arrow((x, middle), (x + 0.18, middle))
    sheet.write(x + 0.2, middle, "scores", ha="left")
    body = f"body: {total - head:,} parameters ({1 - head / total:.2%}), pretrained"
    new = f"head: {head:,} parameters ({head / total:.2%}), new and random"
    start = x - head * scale
    sheet.arrow((left, 1.85), (start, 1.85), arrowstyle="|-|,widthA=0.25,widthB=0.25", shrinkB=0)
    sheet.write((left + start) / 2, 2.05, body)
    sheet.arrow(((start + x) / 2, 2.38), ((start + x) / 2, 1.7))
    sheet.write(x, 2.48, new, ha="right")
    parts = [f"{name} {size:,} parameters" for name, size in sizes.items()]
    kind = "Bar of parts, as wide as they have parameters"
    return sheet.figure.describe(sheet.title, kind, [some(parts, "; "), body, new])


def three_sets(rows: dict[str, int], held_out: list[str]):
    """Return the three sets with their sizes to scale, who may look at which and how often, and what would be a leak.

    Args:
        rows: number of rows of "train", "validation" and "test". held_out: names of those that were cut from train.
    """
    sheet, left, right = Sheet("Three sets, and who may look at which", 3.75), 2.15, 4.95
    looks = {
        "train": ("the model", "changes its weights", "at every step"),
        "validation": ("you", "choose the settings", "after each epoch"),
        "test": ("the report", "gets its number", "once, at the end"),
    }
    leaks = {"validation": "its sentences in train", "test": "choosing by its score"}
    parts = []
    for y, (name, (who, does, often)) in zip((0.45, 1.45, 2.45), looks.items(), strict=True):
        origin = "held out of train" if name in held_out else "came with the data"
        sheet.box(0.05, y, left - 0.05, 0.8)
        sheet.write(0.15, y + 0.2, name, ha="left", weight="bold")
        sheet.write(left - 0.1, y + 0.2, f"{rows[name]:,} rows", ha="right")
        sheet.box(0.15, y + 0.36, max((left - 0.25) * rows[name] / max(rows.values()), 0.03), 0.12, kind="body")
        sheet.write(0.15, y + 0.64, origin, ha="left")
        sheet.box(right, y, WIDTH - 0.05 - right, 0.8)
        sheet.write((right + WIDTH) / 2, y + 0.27, who, weight="bold")
        sheet.write((right + WIDTH) / 2, y + 0.55, does)
        sheet.arrow((left, y + 0.4), (right, y + 0.4), linewidth=2)
        sheet.write((left + right) / 2, y + 0.26, often)
        parts.append(f"{name}, {rows[name]:,} rows, {origin}: {who} may look {often}, and {does}")
        if name in leaks:
            sheet.arrow((left, y + 0.1), (right, y - 0.3), linestyle="--")
            sheet.write((left + right) / 2, y - 0.1, f"✗ {leaks[name]}", bbox=PLATE)
            parts.append(f"dashed, a leak: {leaks[name]}")
    leak = "✗ dashed: a leak (from test to train, too). The score gets better, the model does not"
    sheet.write(0.05, 3.53, leak, ha="left")
    return sheet.figure.describe(sheet.title, "Diagram", [*parts, leak[2:]])
