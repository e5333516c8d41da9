"""The glossary and the teaching guide: every term linked from its first use, every exercise in the teacher's hands."""

import re

import pytest
from support import NOTEBOOKS, ROOT, load_notebook, source

from helpers.exercises import registry
from helpers.settings import EDITIONS, NAMES
from tools import badges

GLOSSARY, TEACHING = ROOT / "docs" / "glossary.md", ROOT / "docs" / "teaching.md"
TITLES = {90: ["One session of 90 minutes"], 60: ["First session", "Second session", "Third session"]}
SITE = f"https://github.com/{badges.repository()}/blob/main/docs/glossary.md"
MOST_WORDS, MOST_SENTENCES = 45, 2


def entries() -> dict[str, str]:
    """Return {term: what the glossary says of it}."""
    parts = re.split(r"^### (.+)$", GLOSSARY.read_text(encoding="utf-8"), flags=re.M)
    return dict(zip(parts[1::2], map(str.strip, parts[2::2]), strict=True))


def anchor(heading: str) -> str:
    """Return the anchor that GitHub makes of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def links() -> list[tuple[int, str, str]]:
    """Return (number of the notebook, anchor, text) of each link to the glossary, in the order of the course."""
    found = []
    for path in NOTEBOOKS:
        number = int(path.name[:2])
        for cell in load_notebook(path)["cells"]:
            if cell["cell_type"] == "markdown":
                pattern = rf"\[([^\]\n]+)\]\({re.escape(SITE)}#([^)\s]*)\)"
                found += [(number, place, text) for text, place in re.findall(pattern, source(cell))]
    return found


def test_terms_are_in_alphabetical_order_each_once():
    terms = list(entries())
    assert terms == sorted(set(terms), key=str.casefold) and len(terms) > 50
    assert len({anchor(term) for term in terms}) == len(terms)


@pytest.mark.parametrize("term", entries())
def test_a_term_is_explained_in_one_or_two_sentences(term):
    explained, first_used = entries()[term].split("\n\n")
    sentences = re.findall(r"[.?!](?:\s|$)", explained)
    assert 1 <= len(sentences) <= MOST_SENTENCES and explained.endswith(".")
    assert 3 <= len(explained.split()) <= MOST_WORDS
    number, target = re.fullmatch(r"First used in notebook \[(\d+)\]\(\.\./notebooks/(.+)\)\.", first_used).groups()
    assert int(target[:2]) == int(number) and (ROOT / "notebooks" / target).is_file()


def test_links_lead_to_terms():
    anchors = {anchor(term) for term in entries()}
    everything = "".join(path.read_text(encoding="utf-8") for path in NOTEBOOKS)
    assert {place for _, place, _ in links()} - anchors == set()
    assert len(links()) == everything.count("docs/glossary.md"), "all links are written in the same way"


def test_every_term_is_linked_once():
    linked = [place for _, place, _ in links()]
    missing = [term for term in entries() if anchor(term) not in linked]
    twice = sorted({place for place in linked if linked.count(place) > 1})
    assert (missing, twice) == ([], []), f"without a link: {missing}; linked more than once: {twice}"


def test_the_glossary_names_the_notebook_where_the_link_is():
    told = {anchor(term): int(re.search(r"notebook \[(\d+)\]", text)[1]) for term, text in entries().items()}
    assert {place: number for number, place, _ in links() if told[place] != number} == {}


def test_links_stand_in_prose_only():
    for path in NOTEBOOKS:
        for cell in load_notebook(path)["cells"]:
            closed = re.findall(r"(?s)<details>.*?</details>|```.*?```", source(cell)) + [
                line for line in source(cell).splitlines() if line.startswith("#") or cell["cell_type"] == "code"
            ]
            assert not [text for text in closed if SITE in text], path.name


def guide() -> str:
    """Return the teaching guide."""
    return TEACHING.read_text(encoding="utf-8")


def plan(title: str) -> str:
    """Return the guide from the heading, or line in bold, that begins with title, to the next one."""
    return re.search(rf"(?ms)^(?:#+ |\*\*){re.escape(title)}.*?(?=^#|^\*\*|\Z)", guide())[0]


def notebook_part(number: int) -> str:
    """Return what the guide says of a notebook."""
    return re.search(rf"(?ms)^## Notebook {number}: .*?(?=^## )", guide())[0]


def test_every_exercise_is_in_the_guide_and_nothing_else():
    known = {
        (f"{book}.{place}", name)
        for book, notebook in enumerate(registry.TITLES, 1)
        for place, name in enumerate(registry.EXERCISES[notebook], 1)
    }
    assert set(re.findall(r"\b([1-9]\.[1-9]) `(\w+)`", guide())) == known


@pytest.mark.parametrize("number", range(1, 7))
def test_each_goal_of_a_notebook_has_its_exercise(number):
    table = re.findall(r"^\| .+ \| (\d\.\d) `(\w+)` \| \d+ \|$", notebook_part(number), re.M)
    names = list(registry.EXERCISES[list(registry.TITLES)[number - 1]])
    assert table == [(f"{number}.{place}", name) for place, name in enumerate(names, 1)]


@pytest.mark.parametrize("number", range(1, 7))
def test_the_table_of_minutes_has_each_section_of_the_notebook(number):
    text = "\n".join(source(c) for c in load_notebook(NOTEBOOKS[number])["cells"] if c["cell_type"] == "markdown")
    sections = re.findall(r"^\| (.+?) \| [\d.]+ \| .* \| .* \|$", notebook_part(number), re.M)
    assert sections[0] == "Title, setup, settings"
    assert sections[1:] == re.findall(r"^## (.+)$", text, re.M)


@pytest.mark.parametrize(("minutes", "title"), [(m, title) for m, titles in TITLES.items() for title in titles])
def test_a_plan_fills_its_time(minutes, title):
    assert sum(map(int, re.findall(r"^\| (\d+) \|", plan(title), re.M))) == minutes


@pytest.mark.parametrize("page", [GLOSSARY, TEACHING], ids=lambda page: page.stem)
def test_links_lead_to_files_and_headings(page):
    targets = {t for t in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")) if "://" not in t}
    assert targets
    for target in targets:
        file, _, place = target.partition("#")
        text = (page.parent / file if file else page).read_text(encoding="utf-8")
        headings = re.findall(r"^#+ (.+)$", text, re.M) if place else []
        assert not place or place in map(anchor, headings), target


def test_the_guide_quotes_the_courses_commits_and_settings():
    pins = {EDITIONS["full"][kind].rpartition("@")[2] for kind in ("model", "dataset")}
    assert set(re.findall(r"\b[0-9a-f]{40}\b", guide())) == pins
    named = set(re.findall(r"\bLESSON_([A-Z_]+)\b", guide()))
    assert named and named <= {name.upper() for name in NAMES}
