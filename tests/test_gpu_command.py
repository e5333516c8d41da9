"""benchmarks/gpu.py: what it will do on a GPU runs here, in its smallest sizes; and it says what it lacks."""

import json
import sys

import pytest
from support import ROOT, clean_environ, run

sys.path.insert(0, str(ROOT / "benchmarks"))

import gpu as command  # noqa: E402


@pytest.fixture(scope="module")
def smallest(tmp_path_factory):
    """Run it with its smallest sizes and without a GPU; return (what it printed, the JSON that it wrote)."""
    folder = tmp_path_factory.mktemp("gpu")
    environ = clean_environ(folder, OMP_NUM_THREADS=1, CUDA_VISIBLE_DEVICES="")
    options = ["--smallest", "--json", folder / "gpu.json"]
    done = run(ROOT / "benchmarks" / "gpu.py", *options, cwd=folder, env=environ, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout, json.loads((folder / "gpu.json").read_text())


def test_it_trains_in_each_precision(smallest):
    _, result = smallest
    assert [found["precision"] for found in result["train"]] == ["fp32", "bf16"]
    for found in result["train"]:
        assert found["steps"] == 4 and found["batch_size"] == 32 and found["parameters"] > 3e6
        assert found["measured_seconds"] > 0 < found["predicted_seconds"] and found["peak_memory_bytes"] > 1e7


def test_the_killed_training_continued_and_came_to_the_same_weights(smallest):
    killed = smallest[1]["kill"]
    assert killed["continued"].startswith("Continuing after step ") and killed["kept"]
    assert killed["difference"] == killed["difference_of_two_undisturbed"] == 0, "exact on a CPU"


def test_the_batch_stayed_what_it_was(smallest):
    memory = smallest[1]["memory"]
    assert memory["simulated"] and memory["kept"] and memory["steps"] == [2, 2]
    assert len(memory["said"]) == 1 and "16 are computed at a time" in memory["said"][0]
    assert 0 < memory["difference"] < 2e-5


def test_it_prints_a_table_of_what_it_measured(smallest):
    printed, result = smallest
    rows = [line for line in printed.splitlines() if line.startswith("| ")]
    assert len(rows) == 2 + 2 + 3 and len({line.count("|") for line in rows}) == 1
    assert "Promises kept: kill, memory (of" in printed and "(simulated)" in printed
    assert f"{result['race']['ratio_to_original']:.1f} times as fast as original" in printed


def test_it_says_which_packages_are_missing(monkeypatch, capsys):
    monkeypatch.setattr(command.importlib.util, "find_spec", lambda name: None if name in ("sklearn", "dill") else name)
    assert command.main([]) == 2
    said = capsys.readouterr().err
    assert said.startswith("Missing here: scikit-learn, dill.\n") and "pip install --no-deps wheels/*.whl" in said


def test_a_broken_promise_is_no_success(monkeypatch, smallest, capsys):
    _, result = smallest
    result["memory"]["kept"] = False
    monkeypatch.setattr(command, "measure", lambda *_: result)
    monkeypatch.setattr(command.recipes, "START", "spawn")
    assert command.main(["--smallest"]) == 1 and "Promises kept: kill (of" in capsys.readouterr().out
