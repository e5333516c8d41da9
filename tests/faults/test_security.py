"""Nobody gets in: what SECURITY.md promises, each promise held here or in the file that it names."""

import ast
import builtins
import importlib.util
import json
import logging
import os
import re
import traceback

import pytest
import torch
from datasets import load_dataset
from hub import GATED
from support import EVERY_NOTEBOOK, ROOT, clean_environ, code_cells, run, source, tiny_data, tiny_model
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from helpers import course, tokenization
from helpers.durable.errors import LessonError, explain
from helpers.durable.hub import resolve_source

TOKEN = "hf_" + "Canary" * 5
PROGRAMS = [path for path in ROOT.rglob("*.py") if not {".venv", ".venv-colab", "build"} & set(path.parts)]


def calls() -> list[tuple[str, str, dict[str, str]]]:
    """Return (where, what is called, {"": first argument, keyword: value}) of every call in helpers and notebooks."""
    texts = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in (ROOT / "helpers").rglob("*.py")}
    texts |= {f"{path.name}:{cell['id']}": source(cell) for path in EVERY_NOTEBOOK for cell in code_cells(path)}
    found = []
    for name, text in texts.items():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Call):
                values = {keyword.arg or "**": ast.unparse(keyword.value) for keyword in node.keywords}
                values[""] = ast.unparse(node.args[0]) if node.args else ""
                found.append((name, ast.unparse(node.func), values))
    return found


def test_trust_remote_code_is_nowhere_on():
    texts = {path.name: path.read_text(encoding="utf-8") for path in PROGRAMS}
    texts |= {path.name: "\n".join(source(cell) for cell in code_cells(path)) for path in EVERY_NOTEBOOK}
    assert len(texts) > 30
    for name, text in texts.items():
        values = re.findall(r"""trust_remote_code["']?\s*[=:]\s*(\w+)""", text)
        assert set(values) <= {"False"}, name


def test_every_call_in_the_course_asks_for_safetensors():
    loading = [call for call in calls() if re.search(r"AutoModel\w*\.from_pretrained$", call[1])]
    assert len(loading) >= 4
    assert [call for call in loading if call[2].get("use_safetensors") != "True"] == []


def test_every_call_in_the_course_names_a_commit():
    """What is loaded from settings.model or settings.dataset, which may be Hub ids; all else is a folder."""
    asking = [call for call in calls() if call[2][""] in ("settings.model", "settings.dataset") and
              call[1].rpartition(".")[2] not in ("Path", "short_name", "str")]  # fmt: skip
    assert len(asking) >= 7
    for where, _, values in asking:
        assert "revision" in values or "**" in values, where


def test_nothing_is_unpickled():
    for where, function, values in calls():
        assert function.split(".")[0] not in ("pickle", "joblib", "dill", "cloudpickle", "marshal"), where
        assert function != "torch.load" or values.get("weights_only") == "True", where


CODE = (
    "from pathlib import Path\nPath({!r}).touch()\nclass Thing:\n    from_pretrained = classmethod(lambda *a, **k: 0)\n"
)


@pytest.mark.parametrize("model_type", ["nonesuch", "distilbert"])
@pytest.mark.parametrize("place", ["hub", "folder"])
def test_code_of_a_repository_is_not_run_even_if_the_student_would_agree(
    hub, copied, tmp_path, monkeypatch, place, model_type
):
    folder = tiny_model(copied / "models" / "some" / "one")
    (folder / "code.py").write_text(CODE.format(str(tmp_path / "ran")))
    kinds = ("AutoConfig", "AutoTokenizer", "AutoModelForSequenceClassification")
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": model_type, "auto_map": {kind: "code.Thing" for kind in kinds}}
    (folder / "config.json").write_text(json.dumps(config))
    asked = []
    monkeypatch.setattr(builtins, "input", lambda *_: asked.append("?") or "y")
    where = {"revision": "a" * 40} if place == "hub" else {}
    for kind in (AutoTokenizer, AutoModelForSequenceClassification):
        try:
            kind.from_pretrained("some/one" if place == "hub" else str(folder), **where)
        except Exception as error:
            assert (
                model_type == "nonesuch"
                and "custom code" in str(error) + str(error.__cause__)
                or "nonesuch" in str(error)
            )
        else:
            assert model_type == "distilbert" or kind is AutoTokenizer, "its own class is not used"
    assert not (tmp_path / "ran").exists() and asked == []


class Payload:
    """What a malicious pickle file holds: a program that runs when it is opened."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("place", ["hub", "folder"])
def test_pickled_weights_are_never_opened(hub, copied, tmp_path, monkeypatch, place):
    folder = tiny_model(copied / "models" / "some" / "one")
    torch.save({"weights": Payload(tmp_path / "ran")}, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    name, revision = ("some/one", "a" * 40) if place == "hub" else (str(folder), None)
    with pytest.raises(OSError, match=r"safetensors"):
        AutoModelForSequenceClassification.from_pretrained(name, revision=revision, use_safetensors=True)
    monkeypatch.setenv("LESSON_MODEL", name)
    monkeypatch.setenv("LESSON_EDITION", "pocket")
    with pytest.raises(LessonError) as caught:
        course.start()
    assert caught.value.code == "no-safetensors"
    assert not (tmp_path / "ran").exists()
    assert not [path for method, path in hub.requests if method == "GET" and path.endswith(".bin")]


def test_every_request_names_the_commit(hub, copied, tmp_path, monkeypatch):
    """Named without a commit, a repository is looked up once; from then on only that commit is asked for."""
    tiny_model(copied / "models" / "some" / "one")
    tiny_data(copied / "datasets" / "some" / "rows")
    values = {"MODEL": "some/one", "DATASET": "some/rows", "EDITION": "pocket", "HOME": tmp_path / "home"}
    for name, value in values.items():
        monkeypatch.setenv(f"LESSON_{name}", str(value))
    settings = course.start()
    tokenization.load_or_make(settings)
    assert settings.model_revision == settings.dataset_revision == "f" * 40
    assert settings.fingerprint("tokenized")["model_revision"] == "f" * 40
    named = [path for _, path in hub.requests if "some/" in path]
    revisions = [re.findall(r"/(?:resolve|revision|tree|paths-info)/([^/?]+)", path) for path in named]
    assert revisions.count(["main"]) == 2, "each is looked up once"
    assert {revision for found in revisions for revision in found} == {"main", "f" * 40} and [] not in revisions


def gated(root) -> None:
    """Let the Hub hold a model and data that are handed out only for TOKEN."""
    for folder in (tiny_model(root / "models" / "some" / "one"), tiny_data(root / "datasets" / "some" / "rows")):
        (folder / GATED).write_text(TOKEN)


def traces(folder, text: str) -> list[str]:
    """Return the files below folder that hold this text, in their names or contents."""
    found = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    return [str(path) for path in found if text in path.name or text.encode() in path.read_bytes()]


def test_a_token_is_used_and_left_nowhere(hub, copied, tmp_path):
    """The whole of notebooks 1 to 4 as a command, on a model and data that need the token."""
    gated(copied)
    home = tmp_path / "run"
    values = {"HF_ENDPOINT": hub.url, "LESSON_MODEL": "some/one", "LESSON_DATASET": "some/rows", "LESSON_EPOCHS": 1}
    environ = clean_environ(home, LESSON_EDITION="pocket", OMP_NUM_THREADS=1, **values)
    with pytest.raises(LessonError) as caught:
        resolve_source("model", "some/one", [])
    assert caught.value.code == "hub-gated"
    done = run("-m", "helpers", "train", cwd=ROOT, env=environ | {"HF_TOKEN": TOKEN})
    assert done.returncode == 0, done.stderr[-2000:]
    assert (home / "lesson_home" / "pocket" / "model" / "README.md").exists()
    assert TOKEN not in done.stdout + done.stderr
    assert traces(home, TOKEN) == [] and len(traces(home, "some/one")) >= 2, "the search does find text"


FAULTS = {"401": {}, "403": {"X_Error_Code": "GatedRepo"}, "404": {"X_Error_Code": "RepoNotFound"}, "503": {},
          "400": {}, "418": {}, "drop": {}, "empty": {}, "hang": {}}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_no_error_tells_the_token(hub, impatient, pins, waits, monkeypatch, capsys, caplog, fault):
    """Neither the last word, nor the whole chain of errors with its lines, nor any log, at any level."""
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    model, commit = pins["model"]
    name, revision = pins["dataset"]
    for load in (
        lambda: AutoTokenizer.from_pretrained(model, revision=commit),
        lambda: load_dataset(name, revision=revision),
        lambda: resolve_source("model", model, []),
    ):
        hub.fail(fault, "resolve/|/api/(models|datasets)/", **FAULTS[fault])
        try:
            load()
        except Exception as error:
            text = "".join(traceback.format_exception(error)) + str(explain(error)) + repr(error)
            assert TOKEN not in text and len(text) > 100
        else:
            raise AssertionError("it should have failed")
    assert any("Bearer" in seen for seen in hub.authorizations), "the token was sent"
    assert TOKEN not in caplog.text + "".join(capsys.readouterr())


def load_audit():
    """Import tools/audit.py."""
    spec = importlib.util.spec_from_file_location("audit", ROOT / "tools" / "audit.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


CLEAN = {"name": "one", "version": "1", "vulns": []}
FLAWED = {"name": "two", "version": "2", "vulns": [{"id": "CVE-1", "fix_versions": ["2.1"]}]}
SKIPPED = {"name": "three", "skip_reason": "not found"}


@pytest.mark.parametrize(
    ("found", "status", "text"),
    [
        (None, 0, "NOT RUN: the database of known vulnerabilities cannot be reached (no route)"),
        ([SKIPPED], 0, "NOT RUN"),
        ([], 0, "NOT RUN"),
        ([CLEAN], 0, "1 packages checked, 0 with"),
        ([CLEAN, SKIPPED], 0, "does not know them: three"),
        ([CLEAN, FLAWED], 1, "two 2: CVE-1, mended in 2.1"),
        ([SKIPPED, FLAWED], 1, "CVE-1"),
    ],
)
def test_an_audit_that_checked_nothing_does_not_pass_for_one(found, status, text):
    code, lines = load_audit().verdict(found, "no route" if found is None else "")
    assert code == status and text in "\n".join(lines)
    assert lines[-1].startswith("NOT RUN") == (not found or all("skip_reason" in package for package in found))


def test_ci_makes_the_audit():
    assert "tools/audit.py" in (ROOT / ".ci" / "run").read_text()


def test_every_test_that_security_md_names_exists():
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    tests = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    names = set(re.findall(r"`(test_\w+)`", text))
    assert len(names) >= 9 and [name for name in names if f"def {name}(" not in tests] == []
    assert [name for name in re.findall(r'"([^"`]+)"', text) if "custom code" not in name and
            name != "Report a vulnerability" and f'"{name}": (' not in tests] == []  # fmt: skip
