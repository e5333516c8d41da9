"""The "Open in Colab" badges and every other address of the repository, all written from one place."""

import json
import re
import tomllib
from pathlib import Path

from helpers.files import LessonError, write_text
from helpers.settings import ROOT

IMAGE = "https://colab.research.google.com/assets/colab-badge.svg"
BEGIN, END = "<!-- badges: begin -->", "<!-- badges: end -->"
COURSE = re.compile(r'COURSE = \\?"git\+https://github\.com/([\w.-]+/[\w.-]+)')  # where Colab installs from
HOSTS = r"(?:github\.com|raw\.githubusercontent\.com|colab\.research\.google\.com/github)"


def repository(root: Path = ROOT) -> str:
    """Return the OWNER/REPO that pyproject.toml names."""
    urls = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]
    return urls["Repository"].removeprefix("https://github.com/")


def badge(repo: str, name: str) -> str:
    """Return the Markdown of a notebook's badge."""
    return f"[![Open in Colab]({IMAGE})](https://colab.research.google.com/github/{repo}/blob/main/notebooks/{name})"


def table(repo: str, root: Path = ROOT) -> str:
    """Return a Markdown table with a row for each notebook: its badge, its title, its first sentence."""
    rows = ["| Notebook | What you learn | |", "| --- | --- | --- |"]
    for path in sorted((root / "notebooks").glob("[0-9]*.ipynb")):
        text = "".join(json.loads(path.read_text(encoding="utf-8"))["cells"][0]["source"])
        title = re.search(r"^# (.+)$", text, re.M).group(1)
        goal = re.search(r"^\*\*(.+)\*\*$", text, re.M).group(1)
        rows.append(f"| [{title}](notebooks/{path.name}) | {goal} | {badge(repo, path.name)} |")
    return "\n".join(rows)


def texts(root: Path = ROOT) -> list[Path]:
    """Return the files that may name the repository: notebooks, solutions, and pages of text."""
    notebooks = [p for p in (root / "notebooks").rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts]
    written = [p for p in (root / "docs").rglob("*.md") if "_build" not in p.parts]
    return sorted([*notebooks, *written, *root.glob("*.md")])


def readdress(text: str, known: set[str], repo: str) -> str:
    """Return text with the addresses of the known repositories, on GitHub, its pages and Colab, changed to repo's."""

    def pages_of(name: str) -> str:
        owner, _, title = name.partition("/")
        return f"{owner.lower()}.github.io/{title}"

    for name in sorted(known - {repo}):
        text = re.sub(rf"({HOSTS}/){re.escape(name)}(?![\w-])", rf"\g<1>{repo}", text)
        text = re.sub(rf"(?i:{re.escape(pages_of(name))})(?![\w-])", pages_of(repo), text)
    return text


def pages(repo: str, root: Path = ROOT) -> dict[Path, str]:
    """Return the text that each file with a badge or an address of the course should have, for this repository."""
    paths, wanted = texts(root), {}
    stored = {path: path.read_text(encoding="utf-8") for path in paths}
    known = {repository(root)}.union(*(COURSE.findall(text) for text in stored.values()))
    for path, text in stored.items():
        if path.suffix == ".ipynb":
            notebook, name = json.loads(text), path.relative_to(root / "notebooks").as_posix()
            for number, cell in enumerate(notebook["cells"]):
                text = readdress("".join(cell["source"]), known, repo)
                if number == 0:
                    text = re.sub(r"\[!\[Open in Colab\].*", badge(repo, name), text, count=1)
                cell["source"] = text.splitlines(keepends=True)
            wanted[path] = json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"
        else:
            wanted[path] = readdress(text, known, repo)
    for name in ("README.md", "colab_badge.md"):
        text = wanted[root / name]
        if BEGIN not in text or END not in text:
            raise LessonError(f"{name} has lost its lines {BEGIN} and {END}. Put them back around the table of badges.")
        begin, end = text.index(BEGIN) + len(BEGIN), text.index(END)
        wanted[root / name] = f"{text[:begin]}\n{table(repo, root)}\n{text[end:]}"
    pyproject = (root / "pyproject.toml").read_text(encoding="utf-8")
    # The last one to be written: if something goes wrong before, the old name is still known.
    wanted[root / "pyproject.toml"] = re.sub(r"(Repository = )\".*\"", rf'\1"https://github.com/{repo}"', pyproject)
    return wanted


def write(repo: str | None = None, root: Path = ROOT) -> list[Path]:
    """Write badges and addresses for OWNER/REPO (default: what pyproject.toml names). Returns what changed."""
    repo = repo or repository(root)
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repo):
        raise LessonError(f"{repo!r} is not a repository. Give it as OWNER/REPO, as it stands in its GitHub address.")
    changed = []
    for path, text in pages(repo, root).items():
        if path.read_text(encoding="utf-8") != text:
            write_text(path, text)
            changed.append(path)
    return changed
