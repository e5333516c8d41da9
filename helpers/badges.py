"""The "Open in Colab" badges of notebooks, README and colab_badge.md, all written from one place."""

import json
import re
import tomllib
from pathlib import Path

from helpers.files import LessonError, write_text
from helpers.settings import ROOT

IMAGE = "https://colab.research.google.com/assets/colab-badge.svg"
BEGIN, END = "<!-- badges: begin -->", "<!-- badges: end -->"
SOURCE = re.compile(r"git\+https://github\.com/[\w.-]+/[\w.-]+")


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


def pages(repo: str, root: Path = ROOT) -> dict[Path, str]:
    """Return the text that each file with a badge should have, for this repository."""
    wanted = {}
    for path in sorted(p for p in (root / "notebooks").rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts):
        notebook = json.loads(path.read_text(encoding="utf-8"))
        first = "".join(notebook["cells"][0]["source"])
        name = path.relative_to(root / "notebooks").as_posix()
        first = re.sub(r"\[!\[Open in Colab\].*", badge(repo, name), first, count=1)
        notebook["cells"][0]["source"] = first.splitlines(keepends=True)
        for cell in notebook["cells"]:
            text = SOURCE.sub(f"git+https://github.com/{repo}", "".join(cell["source"]))
            cell["source"] = text.splitlines(keepends=True)
        wanted[path] = json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"
    for name in ("README.md", "colab_badge.md"):
        text = (root / name).read_text(encoding="utf-8")
        if BEGIN not in text or END not in text:
            raise LessonError(f"{name} has lost its lines {BEGIN} and {END}. Put them back around the table of badges.")
        begin, end = text.index(BEGIN) + len(BEGIN), text.index(END)
        wanted[root / name] = SOURCE.sub(
            f"git+https://github.com/{repo}", f"{text[:begin]}\n{table(repo, root)}\n{text[end:]}"
        )
    pyproject = (root / "pyproject.toml").read_text(encoding="utf-8")
    wanted[root / "pyproject.toml"] = re.sub(r"(Repository = )\".*\"", rf'\1"https://github.com/{repo}"', pyproject)
    return wanted


def write(repo: str | None = None, root: Path = ROOT) -> list[Path]:
    """Write all badges for OWNER/REPO (default: what pyproject.toml names). Returns the files that changed."""
    repo = repo or repository(root)
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repo):
        raise LessonError(f"{repo!r} is not a repository. Give it as OWNER/REPO, as it stands in its GitHub address.")
    changed = []
    for path, text in pages(repo, root).items():
        if path.read_text(encoding="utf-8") != text:
            write_text(path, text)
            changed.append(path)
    return changed
