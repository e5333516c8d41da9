#!/usr/bin/env python3
"""Make a reveal.js deck of each notebook, one file each that needs no network and no other file.

    python tools/slides.py [FOLDER]        (default: _slides/ in the clone; make slides does this)

Open a deck in a browser: space goes on, S opens the speaker's view with the notes, F fills the screen.
For paper add ?view=print to the address and print.
"""

import base64
import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from helpers.classroom import lesson  # noqa: E402
from helpers.durable.errors import LessonError  # noqa: E402
from tools import badges  # noqa: E402

WEB = ROOT / "tools" / "web"
FONTS = (
    ("Source Sans 3", "@fontsource/source-sans-3/files/source-sans-3-latin-400-normal.woff2", "normal 400"),
    ("Source Sans 3", "@fontsource/source-sans-3/files/source-sans-3-latin-400-italic.woff2", "italic 400"),
    ("Source Sans 3", "@fontsource/source-sans-3/files/source-sans-3-latin-700-normal.woff2", "normal 700"),
    ("Inconsolata", "@fontsource/inconsolata/files/inconsolata-latin-500-normal.woff2", "normal 500"),
    ("Inconsolata", "@fontsource/inconsolata/files/inconsolata-latin-700-normal.woff2", "normal 700"),
)
CODE = re.compile(r"```.*?```|`[^`\n]*`", re.S)
FORMULA = re.compile(r"\$(?=\S)([^$\n]+?)(?<=\S)\$(?!\d)")
NOTEBOOK_LINK = re.compile(r"\]\((?!https?:)([^)#]+)\.ipynb\)")
REMOTE_PICTURE = re.compile(r"!\[([^\]]*)\]\(https?://[^)]*\)")


def node(command: list[str], what: str, **options) -> str:
    """Run a program of Node.js in tools/web; return what it printed.

    Raises:
        LessonError: it is not installed, or it failed.
    """
    try:
        done = subprocess.run(command, cwd=WEB, capture_output=True, text=True, timeout=300, **options)
    except FileNotFoundError:
        raise LessonError(
            f"{what} needs {command[0]}, which is not installed. "
            "Install Node.js 18 or newer with npm (Debian, Ubuntu: sudo apt install nodejs npm), and try again.",
            "no-node",
        ) from None
    if done.returncode:
        raise LessonError(
            f"{what} failed. {' '.join(command[:3])} said:\n{(done.stdout + done.stderr).strip()}", "node-failed"
        )
    return done.stdout


def fetch() -> Path:
    """Install reveal.js, fonts and KaTeX, exactly as tools/web/package-lock.json says; return their folder.

    What is there already, with that lock, is left as it is: the second time needs no network.
    """
    modules, lock = WEB / "node_modules", (WEB / "package-lock.json").read_bytes()
    mark = modules / "installed-lock.json"
    if not mark.exists() or mark.read_bytes() != lock:
        node(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], "Fetching reveal.js for the slides")
        mark.write_bytes(lock)
    return modules


def stylesheet(modules: Path) -> str:
    """Return all style rules of a deck, with its fonts inside."""
    faces = []
    for family, file, look in FONTS:
        style, weight = look.split()
        data = base64.b64encode((modules / file).read_bytes()).decode()
        source = f"url(data:font/woff2;base64,{data})"
        faces.append(f"@font-face{{font-family:'{family}';font-style:{style};font-weight:{weight};src:{source}}}")
    parts = [modules / "reveal.js/dist/reset.css", modules / "reveal.js/dist/reveal.css", WEB / "deck.css"]
    return "\n".join(faces + [part.read_text(encoding="utf-8") for part in parts])


def with_formulas(texts: list[str]) -> list[str]:
    """Return Markdown texts with each formula, $...$ outside code, as MathML, which browsers show by themselves."""
    pieces = [re.split(f"({CODE.pattern})", text, flags=re.S) for text in texts]
    formulas = [tex for text in pieces for plain in text[::2] for tex in FORMULA.findall(plain)]
    if not formulas:
        return texts
    script = (
        "const tex = JSON.parse(require('fs').readFileSync(0, 'utf8'));"
        "console.log(JSON.stringify(tex.map((t) => require('katex').renderToString(t, {output: 'mathml'}))))"
    )
    made = iter(json.loads(node(["node", "-e", script], "Setting the formulas", input=json.dumps(formulas))))
    for text in pieces:
        text[::2] = [FORMULA.sub(lambda _: next(made), plain) for plain in text[::2]]
    return ["".join(text) for text in pieces]


def with_links(text: str, path: Path) -> str:
    """Return Markdown without pictures of other hosts, and with links to notebooks that lead somewhere from a deck."""
    decks, here = {p.resolve() for p in lesson.notebooks()}, path.parent

    def target(found: re.Match) -> str:
        notebook = (here / f"{found[1]}.ipynb").resolve()
        if notebook in decks:
            return f"]({notebook.stem}.html)"
        place = notebook.relative_to(ROOT).as_posix()
        return f"](https://github.com/{badges.repository()}/blob/main/{place})"

    return NOTEBOOK_LINK.sub(target, REMOTE_PICTURE.sub(r"\1", text))  # of the badge its link stays, as text


def deck(path: Path, modules: Path) -> str:
    """Return the deck of a notebook as HTML."""
    import nbformat
    from nbconvert import SlidesExporter

    notebook = nbformat.read(path, as_version=4)
    prose = [cell for cell in notebook.cells if cell.cell_type == "markdown"]
    for cell, text in zip(prose, with_formulas([cell.source for cell in prose]), strict=True):
        cell.source = with_links(text, path)
    title = re.search(r"^# (.+)$", prose[0].source, re.M)[1]
    scripts = [modules / "reveal.js/dist/reveal.js", modules / "reveal.js/plugin/notes/notes.js", WEB / "deck.js"]
    exporter = SlidesExporter(
        template_name="deck", extra_template_basedirs=[str(WEB)], exclude_input_prompt=True, exclude_output_prompt=True
    )
    about = {"title": title, "css": stylesheet(modules), "scripts": [s.read_text(encoding="utf-8") for s in scripts]}
    html, _ = exporter.from_notebook_node(notebook, resources={"deck": about})
    return html


def build(folder: Path) -> list[Path]:
    """Write the deck of each notebook into folder; return the files."""
    modules = fetch()
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for path in lesson.notebooks():
        made.append(folder / f"{path.stem}.html")
        made[-1].write_text(deck(path, modules), encoding="utf-8")
    return made


def main() -> int:
    """Make the decks and say where they are."""
    try:
        for path in build(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "_slides"):
            print(f"{path.name}: {path.stat().st_size / 1e6:.1f} MB")
    except LessonError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
