"""The figures: told apart by people who see colours otherwise, or none, and described for those who cannot see them.

Colours are compared as people with a colour-vision deficiency see them (Machado, Oliveira and Fernandes 2009, full
severity), by their distance in CIELAB, where 2 is just noticeable side by side.
"""

import itertools

import matplotlib

matplotlib.use("Agg")

import matplotlib.colors
import matplotlib.pyplot as plt
import numpy as np
import pytest

from helpers import plots

EYES = {
    "usual": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
LUMINANCE = np.array([0.2126, 0.7152, 0.0722])
XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
APART, LIGHTER = 15, 7  # least distance, and least difference of lightness (0 is black, 100 white)
GRAPHIC, TEXT = 3, 4.5  # least contrasts (WCAG 2.2, 1.4.11 and 1.4.3)

FIGURES = {
    "bars": lambda: plots.bars(
        {"a": 1.0, "b": 2.0, "c": 3.0, "d": 2.5}, "Which is longer?", "length", line=(2, "limit")
    ),
    "histogram": lambda: plots.histogram({"a": [1, 2, 3, 4, 9], "b": [2, 2, 5]}, "Lengths", "words", "share"),
    "training_curves": lambda: plots.training_curves(HISTORY, best_epoch=2),
    "lines": lambda: plots.lines({n: [0.1 * k, 0.2 * k] for k, n in enumerate("abcd", 1)}, "Four", "epoch", "accuracy"),
    "intervals": lambda: plots.intervals({"a": (0.8, 0.7, 0.9), "b": (0.6, 0.5, 0.7, 120)}, "Who is right?"),
    "confusion": lambda: plots.confusion(np.array([[40, 10], [29, 21]]), ["bad", "good"]),
    "reliability": lambda: plots.reliability(BINS),
}
HISTORY = [
    {"epoch": 0.5, "loss": 0.9},
    {"epoch": 1.0, "eval_loss": 0.6, "eval_accuracy": 0.7},
    {"epoch": 2.0, "loss": 0.3},
    {"epoch": 2.0, "eval_loss": 0.5, "eval_accuracy": 0.75},
]
BINS = [{"confidence": 0.6, "accuracy": 0.55, "rows": 12}, {"confidence": 0.9, "accuracy": 0.8, "rows": 88}]
# What a listener must hear: the title, and the numbers that a reader sees.
SAID = {
    "bars": ["Which is longer? Bar chart, length", "a 1.00", "d 2.50", "limit, at 2.00"],
    "histogram": ["Lengths. Histogram, share by words", "a: half of them from 2 to 4, the middle one 3, the largest 9"],
    "training_curves": ["from 0.900 to 0.300", "0.600 after epoch 1, 0.500 after epoch 2", "0.750", "epoch 2 kept"],
    "lines": ["Four. Line chart, accuracy at each epoch", "a: 0.100, 0.200", "d: 0.400, 0.800"],
    "intervals": ["Who is right? Dots with intervals, accuracy", "a 0.800 (0.700 to 0.900)", "b 0.600"],
    "confusion": ["truly bad, answered bad 40, good 10", "truly good, answered bad 29, good 21"],
    "reliability": ["12 rows, mean confidence 0.60, right 0.55", "88 rows, mean confidence 0.90, right 0.80"],
}

every_figure = pytest.mark.parametrize("name", FIGURES)


@pytest.fixture
def draw():
    """A function: make a figure by its name; all are closed in the end."""
    yield lambda name: FIGURES[name]()
    plt.close("all")


def linear(colour) -> np.ndarray:
    """Return a colour's linear red, green and blue."""
    values = np.array(matplotlib.colors.to_rgb(colour))
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def lab(light: np.ndarray) -> np.ndarray:
    """Return linear red, green and blue in CIELAB: lightness and two axes of colour."""
    xyz = XYZ @ light / (XYZ @ np.ones(3))
    x, y, z = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def contrast(one, other) -> float:
    """Return the contrast of two colours, from 1 to 21, as WCAG defines it."""
    low, high = sorted(float(LUMINANCE @ linear(colour)) + 0.05 for colour in (one, other))
    return high / low


def seen(colours, eyes: str) -> list[np.ndarray]:
    """Return the colours in CIELAB as these eyes see them."""
    return [lab(np.clip(EYES[eyes] @ linear(colour), 0, 1)) for colour in colours]


def drawn_colours(figure) -> set[str]:
    """Return the colours of all lines and areas that stand for data."""
    found = set()
    for ax in figure.axes:
        found |= {matplotlib.colors.to_hex(line.get_color()) for line in ax.lines}
        for patch in ax.patches:
            filled = patch.get_fill() and patch.get_facecolor()[3]
            found.add(matplotlib.colors.to_hex(patch.get_facecolor() if filled else patch.get_edgecolor()))
    return found


def test_the_measures_are_right():
    assert contrast("white", "black") == pytest.approx(21) and contrast("#777777", "white") == pytest.approx(4.48, 0.01)
    assert lab(linear("white")) == pytest.approx([100, 0, 0], abs=0.05)
    assert lab(linear("red")) == pytest.approx([53.24, 80.09, 67.20], abs=0.1)
    for eyes in EYES:
        assert seen(["white"], eyes)[0] == pytest.approx([100, 0, 0], abs=0.1), "white stays white for everybody"
    far = {eyes: np.subtract(*seen(["#c03030", "#408030"], eyes)) for eyes in EYES}
    assert np.linalg.norm(far["deuteranopia"]) < np.linalg.norm(far["usual"]) / 2, "red and green come close"
    assert np.linalg.norm(far["tritanopia"]) > np.linalg.norm(far["usual"]) / 2, "but not for those who miss blue"


@pytest.mark.parametrize("eyes", EYES)
def test_colours_are_told_apart(eyes):
    for one, other in itertools.combinations(seen(plots.COLOURS, eyes), 2):
        assert np.linalg.norm(one - other) >= APART
        assert abs(one[0] - other[0]) >= LIGHTER, "by lightness alone, too: as a grey print shows them"


@every_figure
def test_what_is_drawn_stands_out_from_the_page(name, draw):
    colours = drawn_colours(draw(name))
    assert colours <= {*plots.COLOURS, "#000000"} and (colours or name == "confusion")
    assert {colour: contrast(colour, "white") for colour in colours if contrast(colour, "white") < GRAPHIC} == {}


@every_figure
def test_series_are_told_apart_without_colour(name, draw):
    for ax in draw(name).axes:
        styles = [(line.get_linestyle(), line.get_marker()) for line in ax.lines if line.get_label()[0] != "_"]
        styles += [(patch.get_hatch(), patch.get_linestyle()) for patch in ax.patches]
        assert len(set(styles)) == len(styles)


@pytest.mark.parametrize("count", [1, 4, 5, 8, 16])
@pytest.mark.parametrize("kind", ["lines", "histogram", "bars", "intervals"])
def test_every_series_is_drawn_and_told_apart(kind, count, draw):
    """However many classes or runs there are: none is named in the text and missing in the picture."""
    names = [f"series {number}" for number in range(count)]
    figure = {
        "lines": lambda: plots.lines({name: [0.1, 0.2, 0.3] for name in names}, "T", "epoch", "accuracy"),
        "histogram": lambda: plots.histogram({name: [1, 2, 3] for name in names}, "T", "words", "share"),
        "bars": lambda: plots.bars({name: 1.0 for name in names}, "T", "length"),
        "intervals": lambda: plots.intervals({name: (0.5, 0.4, 0.6) for name in names}, "T"),
    }[kind]()
    (ax,) = figure.axes
    assert all(name in figure.alt for name in names)
    if kind in ("lines", "histogram"):
        drawn = [line for line in ax.lines if line.get_label() in names] if kind == "lines" else ax.patches
        assert len(drawn) == count and [text.get_text() for text in ax.get_legend().get_texts()] == names
        looks = {
            (matplotlib.colors.to_hex(d.get_color() if kind == "lines" else d.get_edgecolor()), d.get_linestyle())
            for d in drawn
        }
        assert len(looks) == count
    else:
        assert [label.get_text() for label in ax.get_yticklabels()] == names
        assert kind == "intervals" or len(ax.patches) == count


@pytest.mark.parametrize("top", [0, 1, 59, 60, 61, 65, 120, 121, 125, 512])
def test_every_row_is_in_a_bin(top, draw):
    """Also the longest: the last bin ends beyond it."""
    lengths = [top, top, 0 if top < 2 else 2]
    (ax,) = plots.histogram({"all": lengths}, "T", "words", "share").axes
    outline = ax.patches[0].get_xy()
    assert min(outline[:, 0]) <= max(min(lengths), 0.5) and max(outline[:, 0]) > top
    heights = np.histogram(lengths, np.unique(outline[:, 0]))[0].sum() / len(lengths)
    assert heights == pytest.approx(1 if min(lengths) else np.mean(np.array(lengths) > 0))


def test_a_matrix_of_many_classes_shows_every_count(draw):
    matrix = np.arange(144).reshape(12, 12)
    ax = plots.confusion(matrix, [f"class {n}" for n in range(12)]).axes[0]
    assert sorted(int(text.get_text()) for text in ax.texts) == list(range(144))


@pytest.mark.parametrize("top", [1, 7, 100])
def test_numbers_in_the_matrix_can_be_read(top, draw):
    for count in np.linspace(0, top, 24):
        ax = plots.confusion(np.array([[top, count], [0, 0]]), ["no", "yes"]).axes[0]
        for text, value in zip(ax.texts, (top, count, 0, 0), strict=True):
            field = ax.images[0].cmap(ax.images[0].norm(value))
            assert contrast(text.get_color(), field) >= TEXT
        plt.close()


@every_figure
def test_figures_say_what_they_show(name, draw):
    said = draw(name).alt
    assert all(part in said for part in SAID[name]), said
    assert said.endswith(".") and ".." not in said


@every_figure
def test_a_notebook_keeps_the_words_with_the_picture(name, draw):
    from IPython.core.interactiveshell import InteractiveShell

    figure = draw(name)
    data, metadata = InteractiveShell.instance().display_formatter.format(figure)
    assert data["image/png"].startswith("iVBOR") and metadata["image/png"] == {"alt": figure.alt}


def test_every_function_that_draws_is_tried_here():
    drawing = {name for name, value in vars(plots).items() if getattr(value, "__module__", "") == plots.__name__}
    assert drawing - {"Figure", "axes"} == set(FIGURES)
