"""The image, a release on loopback, and a student's folder with one notebook in it."""

import functools
import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(ROOT), str(HERE)]

import image as colab  # noqa: E402

from tools import badges, release  # noqa: E402

GITHUB = "https://github.com"
REPOSITORY = "own-er/course"


@dataclass
class Release:
    """A release at the path that it has on GitHub, on a server of this machine."""

    folder: Path  # what is served
    host: str
    asked: list[str] = field(default_factory=list)  # the paths that were asked for

    @property
    def files(self) -> Path:
        """The folder of the release's files."""
        return self.folder / REPOSITORY / "releases" / "download" / f"v{badges.version()}"

    def cell(self) -> str:
        """Return the notebooks' setup cell as it is stamped for a real repository, with this host for GitHub's.

        The path, the version and the fingerprints are the real ones. (A stand-in for github.com itself would need a
        certificate that pip believes, and would test no more of the cell.)
        """
        return badges.setup_cell(REPOSITORY).replace(GITHUB, self.host)


@pytest.fixture(scope="session")
def image(tmp_path_factory) -> Path:
    """The Python of the newest image: COLAB_IMAGE, a folder that image.py has built, or one built now."""
    folder = os.environ.get("COLAB_IMAGE")
    if not folder:
        folder = tmp_path_factory.mktemp("colab") / "image"
        colab.build(folder)
    return Path(folder).resolve() / "bin" / "python"


@pytest.fixture(scope="session")
def made(tmp_path_factory) -> Path:
    """A folder with the two wheels: the helpers', built from the tree, and evaluate's, from the package index."""
    folder = tmp_path_factory.mktemp("wheels")
    release.build(folder)
    name = badges.wheels()[1].partition("-py3")[0].replace("-", "==")
    colab.run(sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", folder, name)
    assert sorted(map(release.fingerprint, folder.iterdir())) == sorted(badges.wheels()), "run: make notebooks"
    return folder


@pytest.fixture
def served(made, tmp_path) -> Release:
    """The release, on loopback."""
    there = Release(tmp_path / "served", "")

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *parts):
            there.asked.append(self.path)

    handler = functools.partial(Handler, directory=there.folder)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    there.host = f"http://127.0.0.1:{server.server_port}"
    there.files.parent.mkdir(parents=True)
    shutil.copytree(made, there.files)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield there
    server.shutdown()
    server.server_close()


@dataclass
class Student:
    """A folder in which notebooks are run, with a HOME of its own."""

    python: Path
    folder: Path
    environ: dict[str, str]

    def run(self, notebook: dict, name: str, timeout: int = 600) -> list[dict]:
        """Run a notebook in the folder with the image's kernel; return its code cells. An error ends it, as it does
        with *Run all*."""
        path = self.folder / name
        path.write_text(json.dumps(notebook), encoding="utf-8")
        command = [self.python, HERE / "execute.py", path, str(timeout)]
        done = subprocess.run(command, cwd=self.folder, env=self.environ, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        return [cell for cell in cells if cell["cell_type"] == "code"]

    def cells(self, *sources: str) -> list[dict]:
        """Run code cells; return them."""
        return self.run(notebook(*sources), "Untitled.ipynb")

    def freeze(self) -> list[str]:
        """Return what `pip freeze` lists in the image."""
        return colab.run(self.python, "-m", "pip", "freeze", "--all", env=self.environ).splitlines()


def notebook(*sources: str) -> dict:
    """Return a notebook of code cells."""
    cells = [
        {"cell_type": "code", "id": f"c{n}", "metadata": {}, "outputs": [], "execution_count": None, "source": text}
        for n, text in enumerate(sources)
    ]
    return {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}


@pytest.fixture
def student(image, tmp_path) -> Student:
    """A student of Colab: an empty folder, an empty HOME."""
    folder = tmp_path / "content"
    folder.mkdir()
    return Student(image, folder, colab.home(tmp_path / "root"))
