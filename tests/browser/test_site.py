"""The web site in a real browser: `make browser` builds it, and then runs this."""

import re
import tomllib
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.expected_conditions import element_to_be_clickable, url_contains
from selenium.webdriver.support.ui import WebDriverWait

ROOT = Path(__file__).resolve().parent.parent.parent
SITE = ROOT / "_site"
AXE = ROOT / "tests" / "browser" / "node_modules" / "axe-core" / "axe.min.js"
COURSE = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["course"]
REPOSITORY = f"https://github.com/{COURSE['repository']}"
RELEASE = COURSE["wheels"][0].split("-")[1]  # its version
ON_GITHUB = f"{REPOSITORY}/blob/main/"
COLAB = f"https://colab.research.google.com/github/{REPOSITORY.removeprefix('https://github.com/')}/blob/v{RELEASE}/"
NOTEBOOKS = [path.relative_to(ROOT) for path in sorted((ROOT / "notebooks").rglob("[0-9]*.ipynb"))]
OTHER = [path.relative_to(ROOT) for path in sorted((ROOT / "docs").glob("*.md"))]
OTHER += [Path(name) for name in ("README.md", "SECURITY.md", "benchmarks/README.md", "tests/faults/README.md")]
MODES = ("light", "dark")
WAIT = 30  # seconds at most for anything to appear

LOOK = """
return {
  errors: [],
  resources: performance.getEntriesByType("resource").map(entry => entry.name),
  links: Array.from(document.links, link => link.href),
  ids: Array.from(document.querySelectorAll("[id]"), element => element.id),
  pictures: Array.from(document.images, image => ({
    source: image.getAttribute("src"), alt: image.getAttribute("alt") || "",
    drawn: image.complete && image.naturalWidth > 0,
    output: image.closest(".cell_output") !== null})),
  dollars: Array.from(document.querySelectorAll("main p, main li, main td"), element => {
    const text = element.cloneNode(true);
    text.querySelectorAll("code, pre").forEach(code => code.remove());
    return text.textContent;
  }).filter(text => text.includes("$")),
  wide: document.documentElement.scrollWidth - document.documentElement.clientWidth,
}
"""
SWITCH = """
document.querySelector(`.theme-change-button[data-mode="${arguments[0]}"]`).click();
document.getAnimations().forEach(animation => animation.finish());
return document.documentElement.dataset.theme;
"""
AUDIT = """
const done = arguments[arguments.length - 1];
axe.run(document, {resultTypes: ["violations"]}).then(
  result => done(result.violations.filter(flaw => ["serious", "critical"].includes(flaw.impact)).map(
    flaw => `${flaw.id}: ${flaw.help}: ` + flaw.nodes.slice(0, 3).map(node => node.html.slice(0, 200)).join(" | "))),
  error => done([`axe failed: ${error}`]));
"""


@pytest.fixture(scope="module")
def site(serve) -> str:
    """Return the address of the built site."""
    assert (SITE / "index.html").exists(), "there is no site yet: run `make site`"
    assert AXE.exists(), "there is no axe-core yet: run `npm ci --ignore-scripts` in tests/browser"
    return serve(SITE) + "/"


@pytest.fixture(scope="module")
def visits(site, shared_browser) -> dict[str, dict]:
    """Visit each page once; return {page: what was found there}."""
    driver, axe, found = shared_browser, AXE.read_text(encoding="utf-8"), {}
    driver.set_script_timeout(WAIT * 4)
    for path in sorted(SITE.rglob("*.html")):
        page = path.relative_to(SITE).as_posix()
        if page.startswith("_static/"):
            continue
        driver.get(site + page)
        found[page] = driver.execute_script(LOOK)
        driver.execute_script(axe)
        for mode in MODES:
            assert driver.execute_script(SWITCH, mode) == mode
            found[page][mode] = driver.execute_async_script(AUDIT)
        found[page]["errors"] = [entry["message"] for entry in driver.get_log("browser") if entry["level"] == "SEVERE"]
    return found


def of_notebook(path: Path) -> str:
    """Return the page of a file of the repository."""
    return path.with_suffix(".html").as_posix()


def flaws(visits: dict, find) -> dict:
    """Return {page: what `find` finds wrong in its visit}, for the pages where that is anything."""
    return {page: wrong for page, visit in visits.items() if (wrong := find(visit))}


def wait(driver) -> WebDriverWait:
    """Return something that waits until a condition holds."""
    return WebDriverWait(driver, WAIT)


def choose_mode(driver, mode: str) -> None:
    """Choose light or dark as a reader does: open the menu, press the entry."""
    driver.find_element(By.CSS_SELECTOR, ".theme-switch-button").click()
    entry = f".theme-change-button[data-mode='{mode}']"
    wait(driver).until(element_to_be_clickable((By.CSS_SELECTOR, entry))).click()


def brightness(driver, selector: str, name: str) -> float:
    """Return how bright a colour of an element is, from 0 to 255."""
    colour = driver.find_element(By.CSS_SELECTOR, selector).value_of_css_property(name)
    return sum(map(float, re.findall(r"[\d.]+", colour)[:3])) / 3


def test_every_part_of_the_course_has_its_page(visits):
    assert {of_notebook(path) for path in NOTEBOOKS + OTHER} | {"index.html", "search.html"} == set(visits)


def test_pages_load_without_a_console_error(visits):
    assert flaws(visits, lambda visit: visit["errors"]) == {}


def test_nothing_is_loaded_from_another_host(visits, site):
    assert all(visit["resources"] for visit in visits.values())
    assert flaws(visits, lambda visit: [name for name in visit["resources"] if not name.startswith(site)]) == {}


def test_no_link_within_the_site_is_dead(visits, site):
    def dead(visit) -> set[str]:
        found = set()
        for link in (link for link in visit["links"] if link.startswith(site)):
            page, anchor = unquote(urlsplit(link).path).lstrip("/") or "index.html", unquote(urlsplit(link).fragment)
            if not (SITE / page).is_file() or (anchor and anchor not in visits[page]["ids"]):
                found.add(link.removeprefix(site))
        return found

    assert sum(link.startswith(site) for visit in visits.values() for link in visit["links"]) > 300
    assert flaws(visits, dead) == {}


def test_links_to_the_repository_lead_to_files_that_have_no_page_here(visits):
    paths = {path.as_posix() for path in NOTEBOOKS + OTHER}

    def wrong(visit) -> set[str]:
        targets = {urlsplit(link.removeprefix(ON_GITHUB)).path for link in visit["links"] if link.startswith(ON_GITHUB)}
        return {target for target in targets if target in paths or not (ROOT / target).exists()}

    assert flaws(visits, wrong) == {}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.with_suffix("").as_posix())
def test_the_colab_links_of_a_notebook_are_its_own(visits, path):
    links = [link for link in visits[of_notebook(path)]["links"] if "colab.research.google.com" in link]
    known = {COLAB + other.as_posix() for other in NOTEBOOKS}
    assert set(links) <= known, "each opens a notebook of the release"
    assert links.count(COLAB + path.as_posix()) >= (2 if path.parent.name == "notebooks" else 1), (
        "the button in the text, and the one in the menu"
    )


def test_the_start_page_opens_every_notebook_in_colab(visits):
    links = [link for link in visits["index.html"]["links"] if "colab.research.google.com" in link]
    assert links == [COLAB + path.as_posix() for path in NOTEBOOKS if path.parent.name == "notebooks"]


def test_pictures_are_drawn_and_have_a_text_alternative(visits):
    def wrong(visit) -> list[str]:
        return [
            picture["source"]
            for picture in visit["pictures"]
            if not picture["drawn"] or len(picture["alt"].split()) < (8 if picture["output"] else 2)
        ]

    for path in NOTEBOOKS:
        if path.parent.name == "notebooks" and path.name[:2] not in ("00", "10"):  # these two have no figures
            assert any(picture["output"] for picture in visits[of_notebook(path)]["pictures"])
    assert flaws(visits, wrong) == {}


@pytest.mark.parametrize("mode", MODES)
def test_axe_finds_no_serious_violation(visits, mode):
    assert flaws(visits, lambda visit: visit[mode]) == {}


def test_formulas_are_drawn(visits):
    written = [path for path in NOTEBOOKS if re.search(r"\$[\\\w][^$`]*\$", (ROOT / path).read_text(encoding="utf-8"))]
    assert {path.name for path in written} >= {"01_gpu_check.ipynb"}
    assert flaws(visits, lambda visit: visit["dollars"]) == {}
    assert all("<math" in (SITE / of_notebook(path)).read_text(encoding="utf-8") for path in written)


def test_no_page_is_wider_than_the_window(visits):
    assert flaws(visits, lambda visit: visit["wide"] > 0) == {}


def test_dark_mode_is_dark_and_stays(shared_browser, site):
    driver, page = shared_browser, site + of_notebook(NOTEBOOKS[3])
    driver.get(page)
    choose_mode(driver, "light")
    assert brightness(driver, "body", "background-color") > 230 and brightness(driver, "main p", "color") < 80
    choose_mode(driver, "dark")
    assert brightness(driver, "body", "background-color") < 40 and brightness(driver, "main p", "color") > 180
    assert brightness(driver, ".cell_output img", "background-color") == 255, "black signs need a white field"
    driver.get(site + of_notebook(NOTEBOOKS[0]))
    assert brightness(driver, "body", "background-color") < 40
    choose_mode(driver, "light")
    assert brightness(driver, "body", "background-color") > 230


def test_search_for_padding_finds_the_notebook_on_tokens(shared_browser, site):
    driver = shared_browser
    driver.get(site)
    wait(driver).until(element_to_be_clickable((By.CSS_SELECTOR, ".bd-sidebar-primary .search-button-field"))).click()
    field = wait(driver).until(element_to_be_clickable((By.CSS_SELECTOR, "dialog[open] input[name=q]")))
    field.send_keys("padding", Keys.ENTER)
    wait(driver).until(url_contains("search.html?q=padding"))
    result = (By.CSS_SELECTOR, "#search-results a[href*='notebooks/03_tokenize']")
    wait(driver).until(element_to_be_clickable(result)).click()
    wait(driver).until(url_contains("notebooks/03_tokenize.html"))
    assert "padding" in driver.find_element(By.CSS_SELECTOR, "main article").text.lower()


def test_folded_answers_unfold(shared_browser, site):
    driver = shared_browser
    driver.get(site + of_notebook(NOTEBOOKS[3]))
    folded = driver.find_elements(By.CSS_SELECTOR, "main article details")
    assert len(folded) >= 3, "the self-test has three"
    for block in folded:
        shown = block.size["height"]
        block.find_element(By.TAG_NAME, "summary").click()
        assert block.get_attribute("open") and block.size["height"] > shown
        assert len(block.text.split("\n", 1)[1].split()) >= 3, "there is an answer"
