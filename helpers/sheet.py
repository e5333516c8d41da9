"""A sheet for the diagrams of `diagrams`: boxes, words that are cut where they do not fit, arrows, columns."""

import functools
import itertools

import matplotlib.font_manager as fonts
import matplotlib.pyplot as plt

from helpers.plots import COLOURS, HATCHES, Figure

WIDTH, SIZE = 7, 10  # inches, points
KINDS = {  # the looks of a box; told apart without colour by fill and hatch
    "data": {"facecolor": "white", "edgecolor": COLOURS[0]},
    "body": {"facecolor": COLOURS[0], "edgecolor": "white"},
    "new": {"facecolor": "white", "edgecolor": COLOURS[1], "hatch": HATCHES[1]},
    "unused": {"facecolor": "white", "edgecolor": COLOURS[2], "hatch": HATCHES[2]},
    "brief": {"facecolor": "white", "edgecolor": COLOURS[3], "hatch": HATCHES[3]},
}
PLATE = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}  # behind words on a hatch


@functools.cache
def glyphs() -> set[int]:
    """Return the characters that the font in use can draw."""
    return set(fonts.get_font(fonts.findfont(fonts.FontProperties())).get_charmap())


def some(items, by: str = ", ", most: int = 20) -> str:
    """Return items as a list in words, cut after the first `most`."""
    items = [str(item) for item in items]
    return by.join(items[:most]) + (f"{by}… and {len(items) - most:,} more" if len(items) > most else "")


class Sheet:
    """A white sheet for boxes, words and arrows, measured in inches from its upper left corner."""

    def __init__(self, title: str, height: float):
        self.figure = plt.figure(figsize=(WIDTH, height), FigureClass=Figure)
        self.ax = self.figure.add_axes((0, 0, 1, 1), xlim=(0, WIDTH), ylim=(height, 0))
        self.ax.axis("off")
        self.title = title
        self.write(0.05, 0.2, title, ha="left", fontsize=11, weight="bold")

    def write(self, x: float, y: float, text, room: float = WIDTH, ha: str = "center", **style):
        """Write text, its middle at y; what is wider than room ends in "…", what the font lacks becomes "□"."""
        known = "".join(sign if ord(sign) in glyphs() or sign == "\n" else "□" for sign in str(text)[:200])
        if "\n" not in known and "rotation" not in style:  # one line: so that words side by side stand on one line
            y, style = y + 0.05, {"va": "baseline"} | style
        style = {"fontsize": SIZE, "va": "center", "linespacing": 1.25} | style
        drawn = self.ax.text(x, y, known, ha=ha, parse_math=False, **style)
        while len(known) > 1 and drawn.get_window_extent().width / self.figure.dpi > room:
            known = known.removesuffix("…")[:-1]
            drawn.set_text(known := known.rstrip() + "…")
        return drawn

    def wide(self, text, most: float = WIDTH) -> float:
        """Return how wide a text is in inches, at most `most`."""
        drawn = self.write(0, 0, text)
        width = drawn.get_window_extent().width / self.figure.dpi
        drawn.remove()
        return min(width, most)

    def box(self, x: float, y: float, width: float, height: float, text="", kind: str = "data", **style):
        """Draw a box from its upper left corner, with text in its middle."""
        self.ax.add_patch(plt.Rectangle((x, y), width, height, linewidth=1.2, **KINDS[kind]))
        look = {"color": "white" if kind == "body" else "black"} | style
        if "hatch" in KINDS[kind]:
            look["bbox"] = PLATE
        if str(text):
            self.write(x + width / 2, y + height / 2, text, width - 0.06, **look)

    def arrow(self, start: tuple, end: tuple, **look):
        """Draw an arrow from a point to a point."""
        look = {"arrowstyle": "-|>", "color": "black", "linewidth": 1.2, "shrinkA": 0, "shrinkB": 1} | look
        self.ax.annotate("", end, start, arrowprops=look)

    def columns(self, tokens, below, left: float, stretch: float = 1.5, worth=None) -> list[tuple]:
        """Return (number of the token, x, width) of the columns that there is room for; a gap has the number None.

        Args:
            tokens, below: what each column has to hold. stretch: how much wider than that it may be.
            worth: of each token, the greater the sooner shown; None: the first ones first. Both ends are shown.
        """
        room, end = WIDTH - 0.05 - left, len(tokens) - 1
        widths = [max(self.wide(one, 1.1), self.wide(two, 1.1)) + 0.14 for one, two in zip(tokens, below, strict=True)]

        def needed(shown: list) -> float:
            return sum(0.3 if number is None else widths[number] for number in shown)

        best = list(range(len(tokens)))
        order = best if worth is None else sorted(best, key=lambda number: -worth[number])
        if needed(best) > room:
            chosen, best = {0, end}, [0, None, end]
            for number in order:
                inner = sorted(chosen := chosen | {number})
                shown = [0]
                for one, two in itertools.pairwise(inner):
                    shown += [None, two] if two - one > 1 else [two]
                if needed(shown) > room:
                    break
                best = shown
        scale, x, found = min(stretch, room / needed(best)), left, []
        for number in best:
            found.append((number, x, scale * needed([number])))
            x += found[-1][2]
        return found
