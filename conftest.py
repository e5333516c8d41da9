"""pytest runs everything in the pocket edition, in a folder of its own, unless the environment says otherwise.

The notebooks (`pytest --nbmake`) run with a guard in every kernel that notes and refuses each connection that would
leave this machine: the pocket edition needs no network.
"""

import importlib.machinery
import json
import os
import shutil
import sys
import tempfile
import types
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent / "tests"

import helpers  # noqa: E402, F401  before any test loads PyTorch: it sets how PyTorch's threads wait

# Set before any test or kernel starts: kernels and the workers of pytest-xdist inherit it.
os.environ.setdefault("LESSON_EDITION", "pocket")
if "LESSON_HOME" not in os.environ:
    SCRATCH = tempfile.mkdtemp(prefix="lesson-")
    os.environ["LESSON_HOME"] = os.path.join(SCRATCH, "home")
    os.environ["HF_HOME"] = os.path.join(SCRATCH, "hf")
else:
    SCRATCH = None


def pytest_configure(config):
    """Put the guard before every Python process that notebooks start."""
    if getattr(config.option, "nbmake", False) and "SOCKET_GUARD_LOG" not in os.environ:
        folder = Path(tempfile.mkdtemp(prefix="guard-"))
        shutil.copy(TESTS / "socket_guard.py", folder / "sitecustomize.py")
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
        os.environ["SOCKET_GUARD_LOG"] = str(folder / "attempts.log")
        config.guard = folder


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session):
    """Let the run of the notebooks fail where one of them tried to leave this machine, or ran without the guard."""
    folder = getattr(session.config, "guard", None)
    if folder is None:
        return
    log = folder / "attempts.log"
    seen = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    session.config.guarded = {entry["process"] for entry in seen if entry["what"] == "start"}
    session.config.outside = [entry for entry in seen if entry["outside"]]
    notebooks = session.config.pluginmanager.get_plugin("terminalreporter").stats.get("passed", [])
    if session.config.outside or len(session.config.guarded) < len(notebooks):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter, config):
    """Say what the guard saw."""
    if getattr(config, "guard", None):
        found, kernels = config.outside, len(config.guarded)
        terminalreporter.write_line(
            f"network guard: {kernels} Python processes, {len(found)} attempts to leave: {found}"
        )


def pytest_unconfigure(config):
    """Remove the folders, in the process that made them."""
    for folder in (SCRATCH, getattr(config, "guard", None)):
        if folder:
            shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def no_stopwatch(monkeypatch):
    """Let no measurement of this process take any time: every piece of work lasts a millisecond."""
    from helpers import gpu, threads

    monkeypatch.setattr(gpu, "median_seconds", lambda work, seconds: 0.001)
    monkeypatch.setattr(threads, "busy", lambda *_, **__: 0.0)


@pytest.fixture
def in_colab(tmp_path, monkeypatch):
    """Make this process believe that it runs in Colab.

    Returns an object with `place` (where its Drive will be), `opened` (the list of folders that were mounted) and
    `module` (what stands in for google.colab.drive).
    """
    from helpers.durable import drive, files

    place, opened = tmp_path / "drive" / "MyDrive", []
    module = types.ModuleType("google.colab.drive")
    module.mount = lambda path: (opened.append(path), place.mkdir(parents=True))
    for name, stand_in in (("google.colab", types.ModuleType("google.colab")), ("google.colab.drive", module)):
        stand_in.__spec__ = importlib.machinery.ModuleSpec(name, None)
        monkeypatch.setitem(sys.modules, name, stand_in)
    sys.modules["google.colab"].drive = module
    if "google" not in sys.modules:
        monkeypatch.setitem(sys.modules, "google", types.ModuleType("google"))
    monkeypatch.delenv("KAGGLE_KERNEL_RUN_TYPE", raising=False)
    for user in (drive, files):
        monkeypatch.setattr(user, "DRIVE", place)
    return types.SimpleNamespace(place=place, opened=opened, module=module)
