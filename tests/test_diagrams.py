"""The diagrams: whole on their sheet, readable at any length of input, and told in words."""

import itertools
import warnings

import matplotlib

matplotlib.use("Agg")

import matplotlib.colors
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from transformers import BertConfig, DistilBertConfig

from helpers import diagrams, models, plots, settings, sheet
from tests.test_plots import GRAPHIC, TEXT, contrast

ODD = [
    "unaussprechlichkeitshalber",
    "好",
    "🙂",
    "$x_1$",
    "$",
    "##é",
    "العربية",
    "\t",
    "‰",
]  # too long, no glyph, formulas
LABELS = {number: f"a label with a long name, number {number}" for number in range(20)}


def shown_attention(tokens: list[str]):
    """Draw attention that is the same for each token, but for the first, which looks at the last but one."""
    weights = np.full((len(tokens), len(tokens)), 1 / len(tokens))
    weights[0] = 0.5 / (len(tokens) - 1)
    weights[0, -2] = 0.5
    return diagrams.attention(tokens, weights)


def untrained(config):
    """Return a model for classification that has shapes only."""
    with torch.device("meta"):
        return models.AutoModelForSequenceClassification.from_config(config)


def rectangle(tokens: list[str], rows: int):
    """Draw a batch in which each row but the second has only half of these tokens."""
    real = [len(tokens) if row == 1 else len(tokens) // 2 for row in range(rows)]
    words = [tokens[:kept] + ["[PAD]"] * (len(tokens) - kept) for kept in real]
    mask = [[1] * kept + [0] * (len(tokens) - kept) for kept in real]
    return diagrams.batch_rectangle(words, [[30_000 + bit for bit in row] for row in mask], mask)


SHORT, LONG = ["[CLS]", "not", "good", "[SEP]"], ["[CLS]", *(ODD * 40), "[SEP]"]
TWO = DistilBertConfig(n_layers=2, n_heads=4, dim=64, id2label={0: "negative", 1: "positive"}, num_labels=2)
TWENTY = DistilBertConfig(n_layers=24, dim=4096, id2label=LABELS, num_labels=20)
ROWS = {"train": 6100, "validation": 400, "test": 600}
FIGURES = {
    "road": lambda: diagrams.road("Not good.", SHORT, [2, 200, 358, 3], [1.0, -1.0], TWO),
    "training_step": lambda: diagrams.training_step(3_728_898, 32, 0.69315),
    "batch_rectangle": lambda: rectangle(SHORT, 2),
    "attention": lambda: shown_attention(SHORT),
    "body_and_head": lambda: diagrams.body_and_head(untrained(TWO)),
    "three_sets": lambda: diagrams.three_sets(ROWS, ["validation"]),
}
HARD = {
    "road": lambda: diagrams.road(" ".join(ODD * 40), LONG, [30_000] * len(LONG), [n / 9 for n in range(20)], TWENTY),
    "road of nothing": lambda: diagrams.road("", ["[CLS]", "[SEP]"], [2, 3], [0.0, 0.0], TWO),
    "training_step": lambda: diagrams.training_step(2_999_999_999, 4_096, 123.4567),
    "batch_rectangle": lambda: rectangle(LONG, 256),
    "batch_rectangle of one": lambda: diagrams.batch_rectangle([["[CLS]"]], [[2]], [[1]]),
    "attention": lambda: shown_attention(LONG),
    "body_and_head": lambda: diagrams.body_and_head(untrained(BertConfig(num_hidden_layers=24, num_labels=20))),
    "body_and_head, small": lambda: diagrams.body_and_head(untrained(DistilBertConfig(n_layers=60, dim=12))),
    "three_sets": lambda: diagrams.three_sets({"train": 10**9, "validation": 1, "test": 10**6}, ["validation", "test"]),
}
# What a listener must hear: the title, and what a reader sees.
SAID = {
    "road": [
        "From a sentence to a verdict. Diagram: the sentence “Not good.”",
        "[CLS] 2, not 200, good 358, [SEP] 3",
        "64 numbers for each token; 2 layers",
        "only the numbers at [CLS] go on",
        "negative +1.00, that is 88.1%, positive -1.00, that is 11.9%; verdict negative",
    ],
    "training_step": [
        "One training step. Diagram of a loop: batch: 32 rows and their true labels; forward: ",
        "loss: how wrong are they? 0.693; backward: gradient: how each weight moves the loss; optimizer: ",
        "3,728,898 weights, 4 bytes each: 15 MB; the optimizer keeps two more numbers for each weight: 30 MB",
        "activations",
    ],
    "batch_rectangle": [
        "row 1: [CLS] not [PAD] [PAD]; ids 30001, 30001, 30000, 30000; mask 1, 1, 0, 0; row 2: [CLS] not good [SEP]",
        "2 rows of 4 make 8 positions; 2 of them are padding (25%)",
    ],
    "attention": ["[CLS] looks most at good 50%, ", "the head reads only what stands at [CLS]"],
    "body_and_head": ["layer 2 ", "body: ", "pretrained; head: 4,290 parameters (", "new and random"],
    "three_sets": [
        "train, 6,100 rows, came with the data: the model may look at every step, and changes its weights; ",
        "validation, 400 rows, held out of train: you may look after each epoch",
        "dashed, a leak: choosing by its score",
    ],
}

INPUTS = FIGURES | {f"hard {name}": make for name, make in HARD.items()}
every_figure = pytest.mark.parametrize("figure", FIGURES, indirect=True)
every_input = pytest.mark.parametrize("figure", INPUTS, indirect=True)


@pytest.fixture(scope="module")
def figure(request):
    """A figure by its name, drawn once for all tests; a character that the font lacks would be an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = INPUTS[request.param]()
        made.canvas.draw()
    yield made
    plt.close(made)


def frames(figure, artists) -> list:
    """Return the rectangles that drawn things take up, in inches from the sheet's lower left corner."""
    return [one.get_window_extent().transformed(figure.dpi_scale_trans.inverted()) for one in artists]


@every_input
def test_nothing_is_outside_the_sheet_and_no_words_overlap(figure):
    words = [text for text in figure.axes[0].texts if text.get_text()]
    width, height = figure.get_size_inches()
    assert width == sheet.WIDTH
    for one in frames(figure, [*words, *figure.axes[0].patches, *figure.axes[0].lines]):
        assert min(one.x0, one.y0) >= -0.01 and one.x1 <= width + 0.01 and one.y1 <= height + 0.01
    placed = zip(words, frames(figure, words), strict=True)
    for (one, first), (two, second) in itertools.combinations(placed, 2):
        shared = (
            min(first.x1, second.x1) - max(first.x0, second.x0),
            min(first.y1, second.y1) - max(first.y0, second.y0),
        )
        assert min(shared) < 0.02, f"{one.get_text()!r} runs into {two.get_text()!r}"


@every_input
def test_words_stay_in_their_boxes(figure):
    words, boxes = figure.axes[0].texts, [one for one in figure.axes[0].patches if isinstance(one, plt.Rectangle)]
    edges = frames(figure, boxes)
    for text, one in zip(words, frames(figure, words), strict=True):
        across, up = (one.x0 + one.x1) / 2, (one.y0 + one.y1) / 2
        around = [e for e in edges if e.x0 < across < e.x1 and e.y0 < up < e.y1]
        if around and text.get_text():
            box = max(around, key=lambda edge: edge.width)
            assert box.x0 - 0.01 <= one.x0 and one.x1 <= box.x1 + 0.01, text.get_text()


@every_input
def test_words_can_be_read(figure):
    boxes = [one for one in figure.axes[0].patches if isinstance(one, plt.Rectangle) and not one.get_hatch()]
    edges = frames(figure, boxes)
    assert matplotlib.colors.to_hex(figure.get_facecolor()) == "#ffffff", "a white sheet on a dark page, too"
    for text, one in zip(figure.axes[0].texts, frames(figure, figure.axes[0].texts), strict=True):
        assert text.get_fontsize() >= 10
        across, up = (one.x0 + one.x1) / 2, (one.y0 + one.y1) / 2
        under = [box for box, e in zip(boxes, edges, strict=True) if e.x0 < across < e.x1 and e.y0 < up < e.y1]
        field = text.get_bbox_patch() or (under[-1] if under else figure)
        assert contrast(text.get_color(), field.get_facecolor()) >= TEXT, text.get_text()


@every_figure
def test_words_on_a_hatch_have_a_plate(figure):
    words, hatched = figure.axes[0].texts, [one for one in figure.axes[0].patches if one.get_hatch()]
    areas = frames(figure, hatched)
    for text, one in zip(words, frames(figure, words), strict=True):
        middle = (one.x0 + one.x1) / 2, (one.y0 + one.y1) / 2
        if text.get_text() and any(area.contains(*middle) for area in areas):
            assert text.get_bbox_patch() is not None, text.get_text()


@every_figure
def test_what_is_drawn_stands_out_from_the_page(figure):
    ax = figure.axes[0]
    strokes = {matplotlib.colors.to_hex(line.get_color()) for line in ax.lines}
    for patch in ax.patches:
        face, edge = (matplotlib.colors.to_hex(colour) for colour in (patch.get_facecolor(), patch.get_edgecolor()))
        strokes.add(edge if face == "#ffffff" else face)
    assert strokes and strokes <= {*plots.COLOURS, "#000000"}
    assert min(contrast(colour, "white") for colour in strokes) >= GRAPHIC


def test_kinds_of_boxes_are_told_apart_without_colour():
    looks = [(look["facecolor"] == "white", look.get("hatch")) for look in sheet.KINDS.values()]
    assert len(set(looks)) == len(looks)


@every_figure
def test_figures_say_what_they_show(figure, request):
    said, expected = figure.alt, SAID[request.node.callspec.params["figure"]]
    assert all(part in said for part in expected), said
    assert said.endswith(".") and ".." not in said


@every_input
def test_what_is_said_stays_short(figure):
    assert len(figure.alt) < 2500


def test_a_notebook_keeps_the_words_with_the_picture():
    from IPython.core.interactiveshell import InteractiveShell

    figure = FIGURES["road"]()
    data, metadata = InteractiveShell.instance().display_formatter.format(figure)
    assert data["image/png"].startswith("iVBOR") and metadata["image/png"] == {"alt": figure.alt}


def texts(figure) -> list[str]:
    """Return all that is written on a sheet."""
    return [text.get_text() for text in figure.axes[0].texts]


def test_a_long_sentence_is_cut_and_keeps_its_end():
    written = texts(HARD["road"]())
    assert written.count("[CLS]") == written.count("[SEP]") == 1 and "…" in written
    assert "… and 17 more labels" in written


@every_input
def test_tokens_are_never_taken_for_formulas(figure):
    assert not any(text.get_parse_math() for text in figure.axes[0].texts if text.get_text())


def test_attention_leaves_out_what_is_looked_at_least():
    tokens = ["[CLS]", *[f"word{number}" for number in range(30)], "joy", "[SEP]"]
    figure = shown_attention(tokens)
    written = texts(figure)
    assert "joy" in written and "50%" in written
    shares = [int(text.removesuffix("%")) for text in written if text.endswith("%")]
    assert sum(shares) == pytest.approx(100, abs=len(shares) / 2), "the gaps stand for what is left out"


def test_attention_draws_lines_as_thick_as_the_weights():
    weights = np.array([[0.1, 0.7, 0.2], [0.0, 0.1, 0.9], [0.8, 0.1, 0.1]])
    lines = diagrams.attention(["[CLS]", "fine", "[SEP]"], weights).axes[0].lines
    assert [line.get_linewidth() for line in lines if line.get_linestyle() == "-"] == pytest.approx([1, 7, 2])
    aims = [line.get_xdata() for line in lines if line.get_linestyle() == "--"]
    solid = [line.get_xdata()[1] for line in lines if line.get_linestyle() == "-"]
    assert [end for _, end in aims] == [solid[2], solid[0]], "each other token's line goes where it looks most"


def test_parts_of_the_shipped_model():
    model = models.untrained_model(settings.read({"LESSON_EDITION": "pocket"}))
    parts = diagrams.count_parts(model)
    assert list(parts) == ["embeddings", "layer 1", "layer 2", "layer 3", "head"]
    assert sum(parts.values()) == model.num_parameters()
    head = sum(p.numel() for name, p in model.named_parameters() if "classifier" in name)
    assert parts["head"] == head
    drawn = [one.get_width() for one in diagrams.body_and_head(model).axes[0].patches if isinstance(one, plt.Rectangle)]
    assert np.divide(drawn, sum(drawn)) == pytest.approx(np.divide(list(parts.values()), sum(parts.values())))
    with pytest.raises(ValueError, match="without a head"):
        diagrams.body_and_head(model.base_model)


def test_sizes_of_the_sets_are_to_scale():
    bars = [one for one in FIGURES["three_sets"]().axes[0].patches if getattr(one, "get_height", float)() == 0.12]
    assert np.divide([bar.get_width() for bar in bars], bars[0].get_width()) == pytest.approx(
        [1, 400 / 6100, 600 / 6100]
    )


def test_every_function_that_draws_is_tried_here():
    drawing = {name for name, value in vars(diagrams).items() if getattr(value, "__module__", "") == diagrams.__name__}
    assert drawing - {"count_parts"} == set(FIGURES)
