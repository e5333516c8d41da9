"""helpers/threads.py: PyTorch's threads sleep while they wait, unless a user says otherwise."""

import json
import os
import subprocess
import sys

import pytest
from support import ROOT, run

from helpers import threads

REPORT = "import json, os, sys; from helpers import threads; "


def python(code: str, **values) -> dict:
    """Return the JSON that a new Python process prints, with these values and no others that OpenMP reads."""
    openmp = ("OMP_", "GOMP_", "KMP_")
    environ = {name: value for name, value in os.environ.items() if not name.startswith(openmp)}
    done = run("-c", code, env=environ | {"PYTHONPATH": str(ROOT)} | values, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def told(**values) -> dict:
    """Return what a process that imports the course's helpers finds set."""
    names = f"{{name: os.environ.get(name) for name in {threads.KNOWN!r}}}"
    return python(f"{REPORT} print(json.dumps([{names}, 'torch' in sys.modules, threads.be_polite()]))", **values)


def test_it_is_set_by_the_import_of_the_course_before_torch_is_loaded():
    environ, loaded, said = told()
    assert {name: value for name, value in environ.items() if value} == threads.POLITE
    assert not loaded and said == "polite"


def test_the_tests_are_polite_themselves():
    """conftest.py has imported the course before PyTorch, so that workers and kernels inherit it."""
    assert threads.be_polite() in ("polite", "yours")


def test_openmp_has_read_it():
    """GNU's OpenMP, as PyTorch brings it on Linux, prints its settings when it is loaded."""
    code = "import helpers, torch; print('{}')"
    openmp = ("OMP_", "GOMP_", "KMP_")
    environ = {name: value for name, value in os.environ.items() if not name.startswith(openmp)}
    done = run("-c", code, env=environ | {"PYTHONPATH": str(ROOT), "OMP_DISPLAY_ENV": "VERBOSE"}, timeout=120)
    shown = [line.split("=", 1) for line in done.stderr.splitlines() if "=" in line]
    read = {name.split()[-1]: value.strip().strip("'") for name, value in shown}
    assert read.items() >= threads.POLITE.items()


@pytest.mark.parametrize(
    "name, value", [("OMP_WAIT_POLICY", "ACTIVE"), ("GOMP_SPINCOUNT", "7"), ("KMP_BLOCKTIME", "9")]
)
def test_a_users_own_setting_wins(name, value):
    environ, _, said = told(**{name: value})
    assert {name: value for name, value in environ.items() if value} == {name: value}
    assert said == "yours"


def test_the_number_of_threads_is_left_to_the_user():
    code = "import json, os, helpers; print(json.dumps(os.environ.get('OMP_NUM_THREADS')))"
    assert python(code) is None
    assert python(code, OMP_NUM_THREADS="3") == "3"


def test_a_torch_that_is_loaded_already_is_left_as_it_is():
    """It would not read the environment again."""
    names = f"[name for name in {threads.KNOWN!r} if name in os.environ]"
    assert python(f"import torch; {REPORT} print(json.dumps([{names}, threads.be_polite()]))") == [[], "too late"]


def test_a_child_process_inherits_it_and_says_so():
    child = "import torch, json; from helpers import threads; print(json.dumps(threads.be_polite()))"
    code = f"import helpers, subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}], check=True)"
    assert python(code) == "polite"


def test_the_module_loads_neither_torch_nor_psutil():
    code = f"{REPORT} print(json.dumps([name for name in ('torch', 'psutil', 'numpy') if name in sys.modules]))"
    assert python(code) == []


def test_busy_sees_another_process():
    """One process at work on every core; in their absence the share must fall again."""
    command = [sys.executable, "-c", "print('at work', flush=True)\nwhile True: pass"]
    workers = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(os.cpu_count())]
    try:
        for worker in workers:
            worker.stdout.readline()
        with_them = threads.busy(1.0)
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()
    assert 0.7 < with_them <= 1


def test_busy_leaves_out_its_own_work():
    """A thread of this process is at work: the share is what it is without it, give or take a fifth of one core."""
    code = (
        f"{REPORT} import threading, time; stop = []\n"
        "def work():\n    while not stop: sum(range(1000))\n"
        "thread = threading.Thread(target=work); thread.start()\n"
        "import psutil; shares = []\n"
        "for _ in range(5):\n"
        "    before = psutil.Process().cpu_times(); share = threads.busy(0.4)\n"
        "    spent = sum(psutil.Process().cpu_times()[:2]) - sum(before[:2]); shares.append((share, spent))\n"
        "stop.append(1); print(json.dumps(shares))"
    )
    shares = python(code)
    cores = os.cpu_count()
    assert all(0 <= share <= 1 for share, _ in shares)
    # Its own thread had `spent` seconds of 0.4 * cores; the others cannot have had more than the rest.
    assert all(share <= 1 - spent / (0.4 * cores) + 0.2 / cores + 0.05 for share, spent in shares), shares


def test_the_benchmark_prints_a_row_for_each_setting(tmp_path):
    """Other threads' way to wait changes the time and not one weight."""
    options = ["default", "polite", "--at-once", 1, "--rows", 64, "--epochs", 1, "--precision", "fp32"]
    done = run(ROOT / "benchmarks" / "threads.py", *options, cwd=tmp_path, timeout=300)
    assert done.returncode == 0, done.stderr
    header, _, *rows = [[cell.strip() for cell in line.strip("| ").split("|")] for line in done.stdout.splitlines()]
    table = [dict(zip(header, row, strict=True)) for row in rows]
    assert [row["Setting"] for row in table] == ["`default`", "`polite`"]
    assert all(float(row["Seconds"]) > 0 and float(row["Predicted"]) > 0 for row in table)
    assert table[0]["sha256 of the weights"] == table[1]["sha256 of the weights"] != ""


@pytest.mark.parametrize(
    ("gpus", "environ", "seen"),
    [
        (0, {}, None),
        (1, {}, None),
        (2, {}, "0"),  # Kaggle's two T4s
        (2, {"CUDA_VISIBLE_DEVICES": "1"}, "1"),  # the user has chosen
        (2, {"LOCAL_RANK": "1"}, None),  # accelerate launch: each process takes one of its own
    ],
)
def test_a_process_sees_one_gpu_unless_it_is_told_which(monkeypatch, gpus, environ, seen):
    for name in ("CUDA_VISIBLE_DEVICES", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(threads, "count_gpus", lambda: gpus)
    threads.use_one_gpu()
    assert os.environ.get("CUDA_VISIBLE_DEVICES") == seen
