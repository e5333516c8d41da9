"""Every address of the course, written from one place: badges, links between notebooks, the notebooks' setup cell.

The place is pyproject.toml, [tool.course]: the repository, and the two wheels that the setup cell installs. Colab's
links name the release, not the main branch: what they open fits the wheel that is there to be installed, whatever has
been pushed since.
"""

import json
import re
import tomllib
from pathlib import Path

from helpers.durable.errors import LessonError
from helpers.durable.files import write_text

ROOT = Path(__file__).resolve().parents[1]
PLACEHOLDER = "your--name/finetune-step-by-step"  # GitHub gives no name with two hyphens: nobody can take it
IMAGE = "https://colab.research.google.com/assets/colab-badge.svg"
BEGIN, END = "<!-- badges: begin -->", "<!-- badges: end -->"
HOSTS = r"(?:github\.com|raw\.githubusercontent\.com|colab\.research\.google\.com/github)"
COLAB = re.compile(r"(https://colab\.research\.google\.com/github/[\w.-]+/[\w.-]+/blob/)[^/\s)]+(/notebooks/)")
NOTEBOOK_LINK = re.compile(r"(\[[^\]]+\]\(((?:\.\./|solutions/)?[\w-]+\.ipynb)\))(?: \(\[in Colab\]\([^)]*\)\))?")
SETUP = "# @title Setup"
NO_ADDRESS = '    raise Stop("This copy has no address yet: python -m helpers badges OWNER/REPO")\n'


def course(root: Path = ROOT) -> dict:
    """Return pyproject.toml's table [tool.course]: `repository`, and `wheels`, each FILE#sha256=HASH."""
    return tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["course"]


def repository(root: Path = ROOT) -> str:
    """Return the course's OWNER/REPO."""
    return course(root)["repository"]


def wheels(root: Path = ROOT) -> list[str]:
    """Return the two files that the setup cell installs, the helpers and evaluate, each FILE#sha256=HASH."""
    return course(root)["wheels"]


def version(root: Path = ROOT) -> str:
    """Return the version of the helpers that the notebooks install."""
    return wheels(root)[0].split("-")[1]


def colab(repo: str, name: str, root: Path = ROOT) -> str:
    """Return the address that opens a notebook of the release (a path below notebooks/) in Colab."""
    return f"https://colab.research.google.com/github/{repo}/blob/v{version(root)}/notebooks/{name}"


def badge(repo: str, name: str, root: Path = ROOT) -> str:
    """Return the Markdown of a notebook's badge."""
    return f"[![Open in Colab]({IMAGE})]({colab(repo, name, root)})"


def table(repo: str, root: Path = ROOT) -> str:
    """Return a Markdown table with a row for each notebook: its title, its first sentence, its badge."""
    rows = ["| Notebook | What you learn | |", "| --- | --- | --- |"]
    for path in sorted((root / "notebooks").glob("[0-9]*.ipynb")):
        text = "".join(json.loads(path.read_text(encoding="utf-8"))["cells"][0]["source"])
        title = re.search(r"^# (.+)$", text, re.M).group(1)
        goal = re.search(r"^\*\*(.+)\*\*$", text, re.M).group(1)
        rows.append(f"| [{title}](notebooks/{path.name}) | {goal} | {badge(repo, path.name, root)} |")
    return "\n".join(rows)


def setup_cell(repo: str, root: Path = ROOT) -> str:
    """Return the notebooks' first code cell: tools/setup_cell.py with the address, the version and the wheels."""
    cell = (Path(__file__).parent / "setup_cell.py").read_text(encoding="utf-8").rstrip("\n")
    for place, wheel in zip(("HELPERS", "EVALUATE"), wheels(root), strict=True):
        name, _, sha256 = wheel.partition("#sha256=")
        cell = cell.replace("sha256=HASH", f"sha256={sha256}", 1).replace(f'"{place}"', f'"{name}"')
    cell = cell.replace("OWNER/REPO", repo).replace("VERSION", version(root))
    return cell.replace("    # NO ADDRESS\n", NO_ADDRESS if repo == PLACEHOLDER else "")


def texts(root: Path = ROOT) -> list[Path]:
    """Return the files that may name the repository: notebooks, solutions, and pages of text."""
    notebooks = [p for p in (root / "notebooks").rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts]
    written = [p for p in (root / "docs").rglob("*.md") if "_build" not in p.parts]
    return sorted([*notebooks, *written, *root.glob("*.md")])


def readdress(text: str, known: set[str], repo: str, root: Path = ROOT) -> str:
    """Return text with the addresses of the known repositories, on GitHub, its pages and Colab, changed to repo's."""

    def pages_of(name: str) -> str:
        owner, _, title = name.partition("/")
        return f"{owner.lower()}.github.io/{title}"

    for name in sorted(known - {repo}):
        text = re.sub(rf"({HOSTS}/){re.escape(name)}(?![\w-])", rf"\g<1>{repo}", text)
        text = re.sub(rf"(?i:{re.escape(pages_of(name))})(?![\w-])", pages_of(repo), text)
    ours = f"github/{repo}/"
    return COLAB.sub(lambda found: f"{found[1]}v{version(root)}{found[2]}" if ours in found[1] else found[0], text)


def link(text: str, here: str, repo: str, root: Path = ROOT) -> str:
    """Return a cell's text in which each link to another notebook has a second one, to Colab.

    A copy in Google Drive has no neighbours: there the first one leads nowhere. `here` is the folder of the cell's
    notebook below notebooks/: "" or "solutions".
    """

    def both(found: re.Match) -> str:
        parts = [*here.split("/"), *found[2].split("/")]
        name = "/".join(parts[parts.index("..") + 1 :] if ".." in parts else filter(None, parts))
        return f"{found[1]} ([in Colab]({colab(repo, name, root)}))"

    return NOTEBOOK_LINK.sub(both, text)


def notebook(path: Path, known: set[str], repo: str, root: Path) -> str:
    """Return the text of a notebook's file with its badge, its links and its setup cell."""
    content, name = json.loads(path.read_text(encoding="utf-8")), path.relative_to(root / "notebooks")
    for number, cell in enumerate(content["cells"]):
        text = readdress("".join(cell["source"]), known, repo, root)
        if cell["cell_type"] == "markdown":
            text = link(text, name.parent.as_posix().strip("."), repo, root)
        elif text.startswith(SETUP):
            text = setup_cell(repo, root)
        if number == 0:
            title, rest = text.split("\n", 1)
            rest = re.sub(r"\n*\[!\[Open in Colab\].*\n*", "\n\n", rest).strip("\n").split("\n\n")
            # below the goal, **in bold**, where there is one
            rest.insert(int(rest[0].startswith("**")), badge(repo, name.as_posix(), root))
            text = "\n\n".join([title, *rest])
        cell["source"] = text.splitlines(keepends=True)
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def pages(repo: str, root: Path = ROOT) -> dict[Path, str]:
    """Return the text that each file with an address of the course should have, for this repository."""
    paths, wanted = texts(root), {}
    stored = {path: path.read_text(encoding="utf-8") for path in paths}
    named = re.compile(r"COURSE = \\?\"(?:git\+)?https://github\.com/([\w.-]+/[\w.-]+)")  # in the setup cells
    known = {repository(root), PLACEHOLDER}.union(*(named.findall(text) for text in stored.values()))
    for path, text in stored.items():
        ipynb = path.suffix == ".ipynb"
        wanted[path] = notebook(path, known, repo, root) if ipynb else readdress(text, known, repo, root)
    for name in ("README.md", "colab_badge.md"):
        text = wanted[root / name]
        if BEGIN not in text or END not in text:
            raise LessonError(f"{name} has lost its lines {BEGIN} and {END}. Put them back around the table of badges.")
        begin, end = text.index(BEGIN) + len(BEGIN), text.index(END)
        wanted[root / name] = f"{text[:begin]}\n{table(repo, root)}\n{text[end:]}"
    pyproject = (root / "pyproject.toml").read_text(encoding="utf-8")
    # The last one to be written: if something goes wrong before, the old name is still known.
    wanted[root / "pyproject.toml"] = re.sub(r"(?m)^(repository = )\".*\"", rf'\1"{repo}"', pyproject)
    return wanted


def write(repo: str | None = None, root: Path = ROOT) -> list[Path]:
    """Write all addresses for OWNER/REPO (default: what pyproject.toml names). Returns the files that changed.

    Raises:
        LessonError: OWNER/REPO is not a repository's name, or a page has lost the marks around its badges.
    """
    repo = repo or repository(root)
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repo):
        raise LessonError(f"{repo!r} is not a repository. Give it as OWNER/REPO, as it stands in its GitHub address.")
    changed = []
    for path, text in pages(repo, root).items():
        if path.read_text(encoding="utf-8") != text:
            write_text(path, text)
            changed.append(path)
    return changed
