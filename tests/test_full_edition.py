"""The full edition, end to end, against a small Hub on this machine: all notebooks, only pinned commits."""

import json
import re

import pytest
from hub import Hub, make_repositories
from support import LESSONS, NOTEBOOKS, PAGE, ROOT, clean_environ, run

from helpers.settings import EDITIONS

PINS = {EDITIONS["full"][kind].rpartition("@")[0]: EDITIONS["full"][kind].rpartition("@")[2] for kind in
        ("model", "dataset")}  # fmt: skip


@pytest.fixture(scope="module")
def lesson(tmp_path_factory):
    """Run the whole lesson; return the home of the edition, what was printed, and the Hub's requests."""
    folder = tmp_path_factory.mktemp("full")
    hub = Hub(make_repositories(folder / "hub"))
    try:
        environ = clean_environ(folder, LESSON_EDITION="full", HF_ENDPOINT=hub.url, OMP_NUM_THREADS=1)
        done = run("-m", "helpers", "lesson", cwd=ROOT, env=environ, timeout=900)
    finally:
        hub.close()
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return folder / "lesson_home" / "full", done.stdout, hub.requests


def test_results_name_the_pinned_revisions(lesson):
    results = json.loads((lesson[0] / "results.json").read_text(encoding="utf-8"))
    assert results["edition"] == "full" and results["epochs"] == EDITIONS["full"]["epochs"]
    assert {results["model"]: results["model_revision"], results["dataset"]: results["dataset_revision"]} == PINS
    assert results["rows"]["test"] == 120 and results["rows"]["validation"] == 24
    assert results["predicted_train_seconds"] > 0
    assert results["accuracy"] > results["majority_accuracy"]


def test_every_notebook_is_kept_executed_and_as_a_page(lesson):
    home, printed, _ = lesson
    for number, path in enumerate(NOTEBOOKS, 1):
        assert f"[{number}/{len(NOTEBOOKS)}] {path.stem} ... " in printed
        executed = json.loads((home / "lesson" / path.name).read_text(encoding="utf-8"))
        code = [cell for cell in executed["cells"] if cell["cell_type"] == "code"]
        assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
        assert "Edition: full" in json.dumps(code[1]["outputs"])
        page = (home / "lesson" / f"{path.stem}.html").read_text(encoding="utf-8")
        if path == PAGE:
            assert "The model beats it by" in page
        else:
            assert "All checks passed." in page
        if path in LESSONS:
            assert "Your exercises" in json.dumps(code[-1]["outputs"])


def test_the_secret_labels_are_not_used(lesson):
    text = (lesson[0] / "lesson" / "02_load_data.ipynb").read_text(encoding="utf-8")
    assert "has NO labels" in text
    assert json.loads((lesson[0] / "data" / "split.json").read_text())["held_out"] == ["validation"]


def test_the_hub_was_asked_for_the_pinned_commits_alone(lesson):
    requests = lesson[2]
    assert {name for name in PINS if any(name in path for _, path in requests)} == set(PINS)
    for _, path in requests:
        name = next((name for name in PINS if name in path), None)
        assert name or not re.search("/resolve/|/api/models|/api/datasets", path), f"{path}: not the course's"
        revisions = re.findall(r"/(?:resolve|revision|tree|paths-info)/([^/?]+)", path)
        assert revisions == ([PINS[name]] if name else []), path


def test_the_kept_model_is_no_larger_than_it_must_be(lesson):
    files = {path.name for path in (lesson[0] / "model").iterdir()}
    assert "model.safetensors" in files and not any(name.endswith((".bin", ".pt", ".pth")) for name in files)
