#!/usr/bin/env python3
"""Make a release: a wheel of the helpers, the same byte for byte on every machine, and its name in every notebook.

    python tools/release.py                 build dist/*.whl from the tree, and write its fingerprint everywhere
    python tools/release.py --version 1.2.0   first set the version; refused while the course has no address

`make release VERSION=1.2.0` is the second. What a notebook installs is named in pyproject.toml, [tool.course]; from
there `tools/badges.py` writes it, with the course's address, into the setup cell of all notebooks. The wheel holds
`helpers/` and nothing that names an address or a notebook, so that its fingerprint depends on neither.
"""

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from helpers.durable.errors import LessonError  # noqa: E402
from helpers.durable.files import write_text  # noqa: E402
from tools import badges  # noqa: E402

PACKED = ["helpers", "pyproject.toml", "LICENSE"]  # what the wheel is made of
DATE = (2026, 1, 1, 0, 0, 0)  # of every file in the wheel: a zip archive needs one
VERSION = re.compile(r'^__version__ = "(.*)"$', re.M)


def tracked(root: Path) -> list[Path]:
    """Return the files that the wheel is made of: those that git knows, or would add.

    Raises:
        LessonError: this is no clone.
    """
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", *PACKED]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, encoding="utf-8")
    if done.returncode:
        raise LessonError(f"A release is made in a clone: git tells which files belong to it. {done.stderr.strip()}")
    return sorted(path for path in (root / name for name in set(done.stdout.split("\0")) - {""}) if path.is_file())


def build(folder: Path, root: Path = ROOT) -> Path:
    """Build the wheel from the working tree into folder; return its path.

    The same tree gives the same bytes on every machine: no compression (its result depends on zlib's version), one
    date, one order, one mode, and nothing that happens to lie in the tree without belonging to it.
    """
    try:
        from flit_core import buildapi
    except ModuleNotFoundError as error:
        raise LessonError("To build the wheel: pip install -r requirements.txt -c constraints.txt") from error
    with tempfile.TemporaryDirectory() as scratch:
        source, built = Path(scratch, "source"), Path(scratch, "built")
        built.mkdir()
        for path in tracked(root):
            copy = source / path.relative_to(root)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
        here = Path.cwd()
        os.chdir(source)  # where a build back end works: the standard (PEP 517) asks for it
        try:
            name = buildapi.build_wheel(str(built))
        finally:
            os.chdir(here)
        folder.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(built / name) as made, zipfile.ZipFile(folder / name, "w") as wheel:
            for item in made.infolist():  # in flit's order: by name, RECORD last
                plain = zipfile.ZipInfo(item.filename, DATE)
                plain.create_system, plain.external_attr = 3, 0o100644 << 16
                wheel.writestr(plain, made.read(item))
    return folder / name


def fingerprint(path: Path) -> str:
    """Return a file's name with its SHA-256, in the form that pip checks."""
    return f"{path.name}#sha256={hashlib.sha256(path.read_bytes()).hexdigest()}"


def set_version(version: str, root: Path = ROOT) -> None:
    """Write the version into helpers/__init__.py.

    Raises:
        LessonError: it is not three numbers, or the course has no address yet.
    """
    if not re.fullmatch(r"\d+\.\d+\.\d+", version):
        raise LessonError(f"{version!r} is no version. Give three numbers, such as 1.0.0.")
    if badges.repository(root) == badges.PLACEHOLDER:
        raise LessonError(
            f"The course has no address yet: {badges.PLACEHOLDER} stands for it, which GitHub gives to nobody. "
            "Write yours first: python -m helpers badges OWNER/REPO"
        )
    path = root / "helpers" / "__init__.py"
    write_text(path, VERSION.sub(f'__version__ = "{version}"', path.read_text(encoding="utf-8")))


def stamp(folder: Path, root: Path = ROOT) -> tuple[Path, list[Path]]:
    """Build the wheel into folder and name it wherever it is named; return its path and the files that changed."""
    wheel = build(folder, root)
    path = root / "pyproject.toml"
    text = path.read_text(encoding="utf-8")
    named = re.sub(r'"finetune_step_by_step-[^"]*"', f'"{fingerprint(wheel)}"', text)
    if named != text:
        write_text(path, named)
    return wheel, [path] * (named != text) + badges.write(root=root)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status: 0, or 2 when the maintainer has something to mend first."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--version", help="three numbers, such as 1.0.0 (default: the version that is there)")
    version = parser.parse_args(arguments).version
    try:
        if version:
            set_version(version)
        wheel, changed = stamp(ROOT / "dist")
    except LessonError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{wheel.relative_to(ROOT)}: {len(changed)} files name it anew.")
    if version:
        address = f"https://github.com/{badges.repository()}"
        print(
            f"Next: run the tests, commit, `git tag v{version}`, push both, and make the release v{version} at\n"
            f"{address}/releases/new with two files: {wheel.name}, and\n{badges.wheels()[1].partition('#')[0]} from "
            "PyPI (pip download --no-deps evaluate==0.4.6). Then open a badge and run the first cell."
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
