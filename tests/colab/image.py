#!/usr/bin/env python3
"""Build the essentials of one of Colab's images as a virtual environment.

    python tests/colab/image.py FOLDER [--freeze 2026-08]

Its Python, where this machine has it (else this one, said aloud); from the published freeze the exact versions of what
the course touches and of all that it depends on; the kernel and the shell of the same versions; and what makes Colab
different from a virtual environment: a second folder with metadata of older versions (shadowed.txt), a package whose
version is "unknown", and pkg_resources imported in every kernel, which puts a third folder on the path.

What it does not have: Google's own kernel class, a GPU, and the 480 packages that the course has nothing to do with.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
NEWEST = "2026-08"
ROOTS = [  # what the notebooks import, and what runs a notebook; `pip -c freeze` adds the rest
    "torch", "transformers", "datasets", "accelerate", "peft", "numpy", "pandas", "matplotlib", "scikit-learn", "scipy",
    "filelock", "huggingface_hub", "ipykernel", "ipython", "ipywidgets", "nbclient", "nbconvert", "nbformat", "PyYAML",
]  # fmt: skip
STAND_IN = {"torch": "2.13.0"}  # on a Python that is not the image's: what this project is tested with
STARTUP = """
# As in Colab's kernels, where google.colab does it.
import warnings
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import pkg_resources
"""


def canonical(name: str) -> str:
    """Return a package's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(path: Path) -> dict[str, str]:
    """Return {name: version} of a file of NAME==VERSION lines, without the local part of a version (+cu128)."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if "==" in line and line[0] != "#"]
    return {name: version.partition("+cu")[0] for name, version in (line.split("==") for line in lines)}


def freeze(month: str) -> tuple[str, dict[str, str]]:
    """Return an image's Python, such as "3.13", and its {name: version}."""
    path = HERE / f"freeze-{month}.txt"
    return re.search(r"Python (\d+\.\d+)", path.read_text(encoding="utf-8")).group(1), pins(path)


def find_python(version: str) -> str | None:
    """Return a Python of this version: on the PATH, or one of pyenv's; None if there is none."""
    home = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    places = [shutil.which(f"python{version}"), *sorted(home.glob(f"versions/{version}.*/bin/python"))]
    for place in filter(None, places):  # pyenv's own `python3.13` is there without a Python 3.13 behind it
        said = subprocess.run([place, "-c", "import sys; print(*sys.version_info[:2])"], capture_output=True, text=True)
        if said.returncode == 0 and said.stdout.split() == version.split("."):
            return str(place)
    return None


def run(*command, **options) -> str:
    """Run a command; return what it printed. Where it fails, print all that it said, and stop."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, **options)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))[:200]}\n{done.stdout}{done.stderr}")
    return done.stdout


def metadata(folder: Path, name: str, version: str) -> None:
    """Write into folder what makes Python believe that a package is installed there."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", encoding="utf-8")


def build(folder: Path, month: str = NEWEST) -> bool:
    """Build the image in an empty folder; return whether its Python and its torch are the image's own."""
    version, wanted = freeze(month)
    found = find_python(version)
    if not found:
        here = ".".join(map(str, sys.version_info[:2]))
        print(f"SKIPPED: the real Python of Colab {month}. This machine has no Python {version}: {here} and torch")
        print(f"{STAND_IN['torch']} stand in, which proves less. (pyenv install {version})", flush=True)
        wanted |= STAND_IN
    run(found or sys.executable, "-m", "venv", folder)
    python, old, lock = folder / "bin" / "python", folder / "dist-packages", folder / "freeze.txt"
    lines = [f"{name}=={version}\n" for name, version in wanted.items() if version != "unknown"]
    lock.write_text("".join(lines), encoding="utf-8")
    pip = [python, "-m", "pip", "install", "-q", "--no-compile", "--disable-pip-version-check"]
    run(*pip, f"pip=={wanted['pip']}", f"setuptools=={wanted['setuptools']}")
    run(*pip, "-r", "/dev/stdin", "-c", lock, input="\n".join(ROOTS))
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    there = {canonical(line.split("==")[0]) for line in run(python, "-m", "pip", "freeze", "--all").splitlines()}
    for name, number in wanted.items():
        if canonical(name) not in there:
            metadata(site, name, number)
    for name, number in pins(HERE / "shadowed.txt").items():
        metadata(old, name, number)
    (site / "dist-packages.pth").write_text(f"{old}\n", encoding="utf-8")
    return bool(found)


def home(folder: Path) -> dict[str, str]:
    """Make a student's HOME in folder, and return the environment of a kernel there."""
    startup = folder / ".ipython" / "profile_default" / "startup"
    startup.mkdir(parents=True)
    (startup / "00-pkg_resources.py").write_text(STARTUP, encoding="utf-8")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LESSON_", "HF_", "PYTHON"))}
    for name in ("VIRTUAL_ENV", "IPYTHONDIR", "JUPYTER_PATH"):
        kept.pop(name, None)
    return kept | {"HOME": str(folder), "USERPROFILE": str(folder)}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--freeze", default=NEWEST, help=f"the image's month (default: {NEWEST})")
    given = parser.parse_args()
    if given.folder.exists():
        shutil.rmtree(given.folder)
    build(given.folder.resolve(), given.freeze)  # a path in a .pth file is read from anywhere
