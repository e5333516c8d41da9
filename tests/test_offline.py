"""The pocket edition needs no network: `pytest --nbmake` runs the notebooks with a guard (conftest.py, socket_guard.py)
that notes and refuses every attempt to reach one, and fails where there was any. This is a test of the guard.
"""

import json
import shutil
from pathlib import Path

import pytest
from support import ROOT, clean_environ, run

GUARD = Path(__file__).with_name("socket_guard.py")


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


NOTEBOOK = """
import socket
try:
    socket.getaddrinfo("example.org", 80)
except OSError as error:
    print("the notebook goes on:", error)
"""


@pytest.mark.parametrize(("code", "status", "workers"), [("print('quiet')", 0, 0), (NOTEBOOK, 1, 2)])
def test_a_run_of_notebooks_fails_where_one_tries_to_leave(tmp_path, code, status, workers):
    """Even where the notebook itself handles the error. `make test` runs the course's notebooks like this."""
    from nbformat.v4 import new_code_cell, new_notebook, writes

    (tmp_path / "tests").mkdir()
    shutil.copy(ROOT / "conftest.py", tmp_path)
    shutil.copy(GUARD, tmp_path / "tests")
    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    (tmp_path / "one.ipynb").write_text(writes(new_notebook(cells=[new_code_cell(code)], metadata=kernel)))
    command = ["-m", "pytest", "--nbmake", "-q", "-p", "no:cacheprovider", "-n", workers, "one.ipynb"]
    done = run(*command, cwd=tmp_path, env=clean_environ(tmp_path))
    assert done.returncode == status, done.stdout + done.stderr
    assert "network guard: " in done.stdout and f", {status} attempts to leave" in done.stdout
