"""The pocket edition needs no network: all notebooks run while every attempt to reach one is noted and refused."""

import json
from pathlib import Path

import pytest
from support import NOTEBOOKS, ROOT, clean_environ, run

GUARD = Path(__file__).with_name("socket_guard.py")
ROWS = 2000  # fewer, and one epoch would teach the model too little for the notebooks' own checks


def guarded(folder: Path, **more) -> tuple[dict[str, str], Path]:
    """Return an environment whose Python processes all load the guard, and the file where they note attempts."""
    (folder / "guard").mkdir()
    (folder / "guard" / "sitecustomize.py").write_text(GUARD.read_text())
    log = folder / "attempts.log"
    path = f"{folder / 'guard'}:{ROOT}"
    return clean_environ(folder, SOCKET_GUARD_LOG=log, **more) | {"PYTHONPATH": path}, log


def attempts(log: Path) -> list[dict]:
    """Return the noted attempts."""
    return [json.loads(line) for line in log.read_text().splitlines()]


@pytest.fixture(scope="module")
def lesson(tmp_path_factory):
    """Run the whole pocket lesson under the guard; return the home of the edition and the attempts."""
    folder = tmp_path_factory.mktemp("offline")
    values = {"LESSON_TRAIN_ROWS": ROWS, "LESSON_EPOCHS": 1, "OMP_NUM_THREADS": 1}
    environ, log = guarded(folder, **values)
    done = run("-m", "helpers", "lesson", "--edition", "pocket", cwd=ROOT, env=environ, timeout=900)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return folder / "lesson_home" / "pocket", attempts(log)


@pytest.mark.parametrize(
    "code",
    [
        "import socket; socket.create_connection(('192.0.2.1', 80), 1)",
        "import socket; socket.socket().connect_ex(('192.0.2.1', 80))",
        "import socket; socket.getaddrinfo('example.org', 80)",
        "import socket; socket.gethostbyname('example.org')",
        "import urllib.request; urllib.request.urlopen('http://example.org/')",
        "import huggingface_hub; huggingface_hub.HfApi().model_info('org/name')",
    ],
)
def test_the_guard_notes_and_refuses_attempts(tmp_path, code):
    environ, log = guarded(tmp_path)
    done = run("-c", code, env=environ)
    assert done.returncode != 0 and "the network is closed" in done.stderr
    assert any(attempt["outside"] for attempt in attempts(log))


def test_the_guard_was_in_every_kernel(lesson):
    processes = {attempt["process"] for attempt in lesson[1] if attempt["what"] == "start"}
    assert len(processes) > len(NOTEBOOKS)


def test_nothing_tried_to_leave_this_machine(lesson):
    assert [attempt for attempt in lesson[1] if attempt["outside"]] == []


def test_the_lesson_came_to_its_end(lesson):
    results = json.loads((lesson[0] / "results.json").read_text(encoding="utf-8"))
    assert results["edition"] == "pocket" and results["rows"]["train"] == ROWS
    assert results["accuracy"] > results["majority_accuracy"]
    assert {path.name for path in (lesson[0] / "lesson").glob("*.ipynb")} == {path.name for path in NOTEBOOKS}


def test_the_settings_reached_every_notebook(lesson):
    for path in NOTEBOOKS:
        text = (lesson[0] / "lesson" / path.name).read_text(encoding="utf-8")
        assert f"{ROWS:,} rows, 1 epoch, seed 42" in text
