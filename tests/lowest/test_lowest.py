"""The lowest versions that pyproject.toml allows, in an environment of their own: the pocket edition's training.

`make lowest` runs this, and GitHub does at each push to main; `make test` does not: pip fetches some GB (torch 2.9 with
CUDA; with PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu some 200 MB). By hand: after a bound is changed or a
helper uses something new of a library, and before a release.

What is not named in pyproject.toml has the version of Colab's oldest image (tests/colab/freeze-2026-01.txt).
"""

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "colab")]

import image as colab  # noqa: E402
from support import clean_environ  # noqa: E402

OLDEST = "2026-01"


def lowest() -> dict[str, str]:
    """Return {name: version} of the lower bounds in pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = map(Requirement, project["dependencies"])
    return {canonicalize_name(item.name): str(item.specifier).removeprefix(">=") for item in needed}


def others() -> list[str]:
    """Return NAME==VERSION of the oldest image's packages that pyproject.toml does not name."""
    there = colab.freeze(OLDEST)[1].items()
    return [f"{n}=={v}" for n, v in there if v != "unknown" and canonicalize_name(n) not in lowest()]


@pytest.mark.long
def test_the_pocket_training_runs_with_the_lowest_versions(tmp_path):
    python, constraints = tmp_path / "venv" / "bin" / "python", tmp_path / "constraints.txt"
    constraints.write_text("\n".join(others()), encoding="utf-8")
    colab.run(sys.executable, "-m", "venv", tmp_path / "venv")
    wanted = [f"{name}=={version}" for name, version in lowest().items()]
    colab.run(python, "-m", "pip", "install", "-q", "--disable-pip-version-check", *wanted, "-c", constraints)

    environ = clean_environ(tmp_path, HF_HUB_OFFLINE=1)
    command = [python, "-m", "helpers", "train", "--edition", "pocket", "--train-rows", "512", "--epochs", "1"]
    done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]

    results = json.loads((tmp_path / "lesson_home" / "pocket" / "results.json").read_text(encoding="utf-8"))
    used = {name: version.partition("+")[0] for name, version in results["versions"].items()}
    for name in ("torch", "transformers", "datasets"):
        assert Version(used[name]) == Version(lowest()[name]), f"{name}: the lowest version was to be used"
    assert results["rows"]["train"] == 512
    assert results["accuracy"] > results["majority_accuracy"], "it has learned nothing"
