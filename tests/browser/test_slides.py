"""The decks of `make slides` as an audience sees them: Chromium at 1280 x 720, straight from the file."""

import importlib.util
import re
from pathlib import Path

import pytest
from selenium.webdriver.support.ui import WebDriverWait

from helpers.classroom import lesson

ROOT = Path(__file__).resolve().parents[2]
WIDTH, HEIGHT = 1280, 720
SMALLEST_CODE, SMALLEST_TEXT, LEAST_FIGURE = 20, 24, 240

# What is on the slide that is shown: where its content ends, what is wider than its box, the smallest sizes.
LOOK = """
const slide = Reveal.getCurrentSlide(), seen = {right: 0, bottom: 0, top: 9999, left: 9999, wide: [], figures: []};
const shown = [...slide.querySelectorAll("*")].filter((e) => !e.closest("aside, annotation"));
for (const element of shown) {
  const box = element.getBoundingClientRect();
  if (!box.width || !box.height) continue;
  seen.right = Math.max(seen.right, box.right);
  seen.bottom = Math.max(seen.bottom, box.bottom);
  seen.top = Math.min(seen.top, box.top);
  seen.left = Math.min(seen.left, box.left);
  if (["PRE", "TABLE", "P", "LI"].includes(element.tagName) && element.scrollWidth > element.clientWidth + 1
      && element.clientWidth) seen.wide.push(element.textContent.slice(0, 60));
  if (element.tagName === "IMG") {
    seen.figures.push({height: box.height, alt: element.alt, loaded: element.naturalWidth});
  }
}
const size = (e) => parseFloat(getComputedStyle(e).fontSize) * Reveal.getScale();
seen.code = Math.min(99, ...shown.filter((e) => e.matches("pre, code")).map(size));
seen.text = Math.min(99, ...shown.filter((e) => e.matches("p, li, td, h1, h2, h3")).map(size));
seen.scroll = [slide.scrollWidth, slide.scrollHeight];
seen.words = shown.length;
seen.last = Reveal.isLastSlide();
return seen;
"""


@pytest.fixture(scope="module")
def decks(tmp_path_factory):
    """The decks of all notebooks, in a folder with nothing else."""
    spec = importlib.util.spec_from_file_location("slides_tool", ROOT / "tools" / "slides.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    return {path.stem: path for path in tool.build(tmp_path_factory.mktemp("slides"))}


def show(browser, address: str) -> None:
    """Open a deck in a window whose page is 1280 x 720."""
    inner, outer = browser.execute_script("return [[innerWidth, innerHeight], [outerWidth, outerHeight]]")
    browser.set_window_size(WIDTH + outer[0] - inner[0], HEIGHT + outer[1] - inner[1])
    assert browser.execute_script("return [innerWidth, innerHeight]") == [WIDTH, HEIGHT]
    browser.get(address)
    ready = "return document.documentElement.dataset.ready === 'yes'"
    WebDriverWait(browser, 20).until(lambda _: browser.execute_script(ready), "the deck is ready")


def walk(browser):
    """Yield what is seen on each slide, pressing the space bar from the first to the last."""
    number = browser.execute_script("return Reveal.getTotalSlides()")
    for place in range(number):
        there = f"return Reveal.getSlidePastCount() === {place}"
        WebDriverWait(browser, 5).until(lambda _, script=there: browser.execute_script(script), f"slide {place + 1}")
        seen = browser.execute_script(LOOK)
        assert seen["last"] == (place == number - 1)
        yield seen
        browser.switch_to.active_element.send_keys(" ")


@pytest.fixture(scope="module")
def axe():
    """A function: what axe-core finds on the page that is shown, of serious and critical faults."""
    file = Path(__file__).parent / "node_modules" / "axe-core" / "axe.min.js"
    if not file.exists():
        raise RuntimeError("There is no axe-core here. Next: npm ci --ignore-scripts in tests/browser.")
    script = file.read_text(encoding="utf-8")

    def run(browser, place: str = "document") -> list[str]:
        if not browser.execute_script("return typeof axe === 'object'"):
            browser.execute_script(script)
        found = browser.execute_async_script(f"axe.run({place}).then(arguments[0])")
        assert "color-contrast" in [rule["id"] for rule in found["passes"]], "axe has looked at it"
        return [
            f"{fault['impact']}, {fault['id']}: {fault['help']}: {[node['html'][:120] for node in fault['nodes'][:3]]}"
            for fault in found["violations"]
            if fault["impact"] in ("serious", "critical")
        ]

    return run


def requests(browser) -> list[str]:
    """Return the addresses of what the page has loaded."""
    return browser.execute_script("return performance.getEntriesByType('resource').map((entry) => entry.name)")


@pytest.mark.parametrize("name", [path.stem for path in lesson.notebooks()])
def test_a_deck_advances_to_its_end_and_nothing_is_cut_off(browser, decks, name):
    show(browser, decks[name].as_uri())
    slides = list(walk(browser))
    assert 8 <= len(slides) <= 20
    for number, seen in enumerate(slides, 1):
        where = f"{name}, slide {number}: {seen}"
        assert seen["words"] > 0, where
        assert seen["left"] >= 0 and seen["top"] >= 0 and seen["right"] <= WIDTH and seen["bottom"] <= HEIGHT, where
        assert seen["scroll"][0] <= WIDTH and seen["scroll"][1] <= HEIGHT and seen["wide"] == [], where
        assert seen["code"] >= SMALLEST_CODE and seen["text"] >= SMALLEST_TEXT, where
        for figure in seen["figures"]:
            assert figure["height"] >= LEAST_FIGURE and figure["loaded"], where
            assert len(figure["alt"]) > 20 and "No description" not in figure["alt"], where
    assert [entry for entry in browser.get_log("browser") if entry["level"] in ("WARNING", "SEVERE")] == []
    assert [address for address in requests(browser) if not address.startswith("data:")] == [], "all is in the one file"
    assert any(figure for seen in slides for figure in seen["figures"]) or name[:2] in ("00", "10")


def test_links_between_the_decks_and_notes_for_the_speaker(browser, decks):
    show(browser, decks["03_tokenize"].as_uri())
    links = browser.execute_script("return [...document.querySelectorAll('.slides a[href]')].map((a) => a.href)")
    local = [link for link in links if link.startswith("file:")]
    assert decks["04_train"].as_uri() in local
    for link in local:
        assert Path(link.removeprefix("file://").partition("#")[0]).is_file(), link
    show(browser, decks["01_gpu_check"].as_uri())
    notes = browser.execute_script("return [...document.querySelectorAll('aside.notes')].map((e) => e.textContent)")
    assert any("edition" in text for text in notes)
    assert browser.execute_script("return document.querySelectorAll('.slides math').length") >= 2
    assert not re.search(r"\$\d*n", browser.execute_script("return document.querySelector('.slides').textContent"))


@pytest.mark.parametrize("name", [path.stem for path in lesson.notebooks()])
def test_a_deck_has_no_serious_fault_of_accessibility(browser, decks, axe, name):
    show(browser, decks[name].as_uri())
    assert axe(browser) == []
    for _ in walk(browser):
        assert axe(browser, "Reveal.getCurrentSlide()") == []
