"""The glossary and the teaching guide: every term linked from its first use, every exercise in the teacher's hands."""

import re

import pytest
from support import NOTEBOOKS, ROOT, load_notebook, source

from helpers import badges, check, progress

GLOSSARY, TEACHING = ROOT / "docs" / "glossary.md", ROOT / "docs" / "teaching.md"
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
    for number, path in enumerate(NOTEBOOKS, 1):
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
    number, target = re.fullmatch(r"First used in notebook \[(\d)\]\(\.\./notebooks/(.+)\)\.", first_used).groups()
    assert NOTEBOOKS[int(number) - 1].name == target


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
    told = {anchor(term): int(re.search(r"notebook \[(\d)\]", text)[1]) for term, text in entries().items()}
    assert {place: number for number, place, _ in links() if told[place] != number} == {}


def test_links_stand_in_prose_only():
    for path in NOTEBOOKS:
        for cell in load_notebook(path)["cells"]:
            closed = re.findall(r"(?s)<details>.*?</details>|```.*?```", source(cell)) + [
                line for line in source(cell).splitlines() if line.startswith("#") or cell["cell_type"] == "code"
            ]
            assert not [text for text in closed if SITE in text], path.name
