"""The Hub fails: every fault at every moment either ends well or in one paragraph; nothing partial is ever used.

The calls are those that stand in the notebooks, in this process, with waits that are noted and not waited.
"""

import json
import re
import time
from contextlib import contextmanager
from pathlib import Path

import nbformat
import pytest
import torch
from datasets import load_dataset
from support import clean_environ
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from helpers import settings
from helpers.__main__ import main
from helpers.classroom import lesson
from helpers.durable import errors
from helpers.durable import hub as helper
from helpers.durable.errors import LessonError


def load_data(pins):
    """Notebook 02's call; return all rows."""
    name, commit = pins["dataset"]
    return {split: part.to_list() for split, part in load_dataset(name, revision=commit, cache_dir=None).items()}


def load_tokenizer(pins):
    """Notebook 03's call; return what the tokenizer does, and all its special tokens."""
    name, commit = pins["model"]
    tokenizer = AutoTokenizer.from_pretrained(name, revision=commit)
    return tokenizer("Lovely, warm zebras!")["input_ids"], tokenizer.special_tokens_map, tokenizer.model_max_length


def load_model(pins):
    """Notebook 04's call; return the pretrained weights."""
    name, commit = pins["model"]
    model = AutoModelForSequenceClassification.from_pretrained(
        name, revision=commit, dtype=torch.float32, use_safetensors=True
    )
    return {name: value.tolist() for name, value in model.distilbert.state_dict().items()}


ANY = "resolve/|/api/(models|datasets)/"  # requests
MOMENTS = {"data": load_data, "tokenizer": load_tokenizer, "model": load_model}
# fault: (kind, times, headers); what is hit: any request ("") or the files' bodies ("GET .*/resolve/") only
PASSING = {
    "503 twice": ("503", 2, {}),
    "503 four times": ("503", 4, {}),
    "500 once": ("500", 1, {}),
    "502 once": ("502", 1, {}),
    "504 once": ("504", 1, {}),
    "408 once": ("408", 1, {}),
    "429 with Retry-After": ("429", 1, {"Retry_After": "7"}),
    "429 with RateLimit": ("429", 1, {"RateLimit": '"resolvers";r=0;t=33'}),
    "connection closed without an answer, twice": ("drop", 2, {}),
    "no answer, once": ("hang", 1, {}),
    "slow": ("slow", 10**9, {}),
}
CUT = {
    "cut in the middle of a file, once": ("cut", 1, {}),
    "cut in the middle of a file, three times": ("cut", 3, {}),
    "no first byte of a file, once": ("hang", 1, {}),
    "cut before the first byte of a file, twice": ("empty", 2, {}),
    "503 at a file's body, twice": ("503", 2, {}),
}
LASTING = {
    "503 for ever": ("503", {}, "hub-away", "503"),
    "closed without an answer, for ever": ("drop", {}, "hub-away", "broke"),
    "no answer, ever": ("hang", {}, "hub-away", "does not answer"),
    "429 for an hour": ("429", {"Retry_After": "3600"}, "hub-away", "60 minutes"),
    "429 until the window ends, in an hour": ("429", {"RateLimit": '"x";r=0;t=3600'}, "hub-away", "60 minutes"),
    "401 unknown or private": ("401", {}, "hub-refused", "401"),
    "401 gated": ("401", {"X_Error_Code": "GatedRepo"}, "hub-gated", "HF_TOKEN"),
    "403 gated": ("403", {"X_Error_Code": "GatedRepo"}, "hub-gated", "HF_TOKEN"),
    "403 without a reason": ("403", {}, "hub-gated", "HF_TOKEN"),
    "404 no such repository": ("404", {"X_Error_Code": "RepoNotFound"}, "hub-refused", "404"),
    "404 no such commit": ("404", {"X_Error_Code": "RevisionNotFound"}, "no-such-commit", "@COMMIT"),
}


@pytest.fixture(scope="session")
def truth(repositories, pins, tmp_path_factory):
    """Return what each moment gives when nothing fails: straight from the files, without any Hub."""
    folder = repositories / "models" / pins["model"][0]
    home = str(repositories / "datasets" / pins["dataset"][0])
    cache = tmp_path_factory.mktemp("truth")
    rows = {split: part.to_list() for split, part in load_dataset(home, cache_dir=str(cache)).items()}
    local = {"model": (str(folder), None)}
    return {"data": rows, "tokenizer": load_tokenizer(local), "model": load_model(local)}


@contextmanager
def refused(code: str, *parts: str):
    """Expect an error that a student sees as one short paragraph of this code, with a way on, that names the parts."""
    with pytest.raises(Exception) as caught:
        yield
    told = errors.explain(caught.value)
    assert isinstance(told, LessonError), repr(caught.value)
    text = str(told)
    assert (told.code, [part for part in parts if part not in text]) == (code, []), text
    assert "\n" not in text and 60 < len(text) < 520 and "http://" not in text and "pocket" in text


def is_progress(line: str) -> bool:
    """True for a line that is shown while waiting."""
    return ". Trying again in " in line and line.endswith("(1 of 5).")


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("fault", PASSING)
def test_a_passing_fault_ends_well_after_growing_waits(hub, impatient, pins, truth, waits, capsys, fault, moment):
    kind, times, headers = PASSING[fault]
    hub.fail(kind, ANY, times, **headers)
    assert MOMENTS[moment](pins) == truth[moment]
    lines = [line for line in capsys.readouterr().out.splitlines() if "Trying again" in line]
    if kind == "slow":
        assert lines == [] and waits == []
    else:
        assert len(lines) == len(waits) == times and is_progress(lines[0])
        assert waits == sorted(waits) and all(len(line) < 90 for line in lines)
        wanted = int(headers.get("Retry_After", 0)) or (34 if "RateLimit" in headers else helper.BACKOFF_SECONDS[0])
        assert waits[0] == wanted


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("fault", CUT)
def test_a_file_cut_on_its_way_is_completed(hub, impatient, pins, truth, waits, fault, moment):
    kind, times, headers = CUT[fault]
    hub.fail(kind, "GET .*/resolve/", times, **headers)
    assert MOMENTS[moment](pins) == truth[moment]
    assert len(waits) == times


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("fault", LASTING)
def test_a_lasting_fault_ends_in_a_paragraph_and_a_second_run_succeeds(
    hub, impatient, pins, truth, waits, fault, moment
):
    kind, headers, code, part = LASTING[fault]
    hub.fail(kind, ANY, **headers)
    with refused(code, part):
        MOMENTS[moment](pins)
    waited = code == "hub-away" and "60 minutes" not in part
    assert waits == [*helper.BACKOFF_SECONDS] * waited, "one patience, not one a request"
    hub.heal()
    assert MOMENTS[moment](pins) == truth[moment]


def test_no_answer_is_not_waited_for_longer_than_promised(hub, impatient, pins, waits, monkeypatch):
    """Each try takes 0.2 s here, and 10 s in earnest."""
    monkeypatch.setattr(helper, "GIVE_UP_SECONDS", 0.7)
    hub.fail("hang")
    begin = time.monotonic()
    with refused("hub-away", "does not answer", "also after 3 more tries"):
        load_data(pins)
    assert waits == [1, 2, 4] and time.monotonic() - begin < 3


@pytest.mark.parametrize("kind", ["503", "empty", "drop", "403"])
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_fault_in_the_middle_of_a_download_leaves_nothing_partial(hub, pins, truth, waits, kind, moment):
    """The first files arrive, and half of the largest; then the Hub goes away."""
    largest = {"data": "GET .*train-0", "tokenizer": "GET .*tokenizer.json", "model": "GET .*model.safetensors"}[moment]
    hub.fail("cut", largest, 1)
    hub.fail(kind, largest)
    with refused("hub-gated" if kind == "403" else "hub-away"):
        MOMENTS[moment](pins)
    hub.fail("503", ANY)  # what is there must not pass for the whole
    with refused("hub-away"):
        MOMENTS[moment](pins)
    hub.heal()
    assert MOMENTS[moment](pins) == truth[moment]


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize(
    ("url", "text"),
    [("http://127.0.0.1:9", "cannot be reached"), ("http://no-such-hub.invalid", "seems to be no network")],
)
def test_no_hub_at_all(hub, client, pins, truth, waits, url, text, moment):
    client(url)
    with refused("hub-away", text):
        MOMENTS[moment](pins)
    assert waits == [*helper.BACKOFF_SECONDS]
    client(hub.url)
    assert MOMENTS[moment](pins) == truth[moment]


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_second_run_is_patient_again(hub, pins, truth, waits, monkeypatch, moment):
    hub.fail("503", ANY)
    with refused("hub-away"):
        MOMENTS[moment](pins)
    monkeypatch.setattr(helper.RetryingClient, "gave_up", time.monotonic() - 6)
    hub.heal()
    hub.fail("503", ANY, 3)
    assert MOMENTS[moment](pins) == truth[moment] and len(waits) == 5 + 3


@pytest.mark.parametrize("fault", ["refused", "503", "500", "429", "drop", "hang", "401", "403", "404"])
def test_what_is_cached_works_without_the_hub_and_at_once(hub, client, pins, truth, waits, monkeypatch, fault):
    for moment, load in MOMENTS.items():
        assert load(pins) == truth[moment]
    monkeypatch.setattr(helper, "CACHED_TIMEOUT", 0.2)
    if fault == "refused":
        client("http://127.0.0.1:9")
    else:
        client(hub.url)  # as in a new process: nothing is remembered
        hub.fail(fault, **({"X_Error_Code": "RepoNotFound"} if fault == "404" else {}))
    begin = time.perf_counter()
    for moment, load in MOMENTS.items():
        assert load(pins) == truth[moment]
    assert waits == [] and time.perf_counter() - begin < 5


CELLS = {
    "start": """
import time
from helpers import course
from helpers.durable import hub
hub.BACKOFF_SECONDS = (0.01, 0.02)
time.sleep = lambda seconds: None
settings = course.start()""",
    "no data": """
from datasets import load_dataset
dataset = load_dataset(settings.dataset, revision=settings.dataset_revision, cache_dir=settings.cache)""",
    "no tokenizer": """
from transformers import AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained(settings.model, revision=settings.model_revision)""",
    "no weights": """
from transformers import AutoModelForSequenceClassification
model = AutoModelForSequenceClassification.from_pretrained(
    settings.model, revision=settings.model_revision, use_safetensors=True)""",
    "another error": "1 / 0",
    "an answer of another machine": """
import os
import httpx
import requests
requests.get(os.environ["HF_ENDPOINT"] + "/api/models/not/there").raise_for_status()""",
    "the same with httpx": "httpx.get(os.environ['HF_ENDPOINT'] + '/api/models/not/there').raise_for_status()",
    "no answer of another machine": "httpx.get('http://127.0.0.1:9/api/models/a/b')",
    "data, again": "load_dataset(settings.dataset, revision=settings.dataset_revision).num_rows",
    "no tokenizer, again": "AutoTokenizer.from_pretrained(settings.model, revision=settings.model_revision)",
}
ENDS = {
    "no data": "503 (busy), also after 2 more tries",
    "no tokenizer": "(401, gated)",
    "no weights": "The connection to the Hub broke",
    "no tokenizer, again": "(401, gated)",
}
TOKEN = "hf_" + "Canary" * 5


def notebook():
    """Return a notebook of these cells; only the last may stop it."""
    from nbformat.v4 import new_code_cell, new_notebook

    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    cells = [new_code_cell(text.strip(), metadata={"tags": ["raises-exception"]}) for text in CELLS.values()]
    cells[-1].metadata = {}
    return new_notebook(cells=cells, metadata=kernel)


def test_in_a_notebook_the_paragraph_is_the_last_word(hub, tmp_path, monkeypatch):
    """What a student sees, and what is told to whoever runs the notebook (nbclient, nbmake, `helpers lesson`).

    The Hub fails differently for each of the course's calls; then it is back for the data, and the same call succeeds.
    """
    values = {"HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN, "LESSON_EDITION": "full", "OMP_NUM_THREADS": 1}
    for name, value in clean_environ(tmp_path, **values).items():
        monkeypatch.setenv(name, value)
    hub.fail("503", "datasets/", 3)
    hub.fail("401", "resolve/.*tokenizer", X_Error_Code="GatedRepo")
    hub.fail("empty", "GET .*model.safetensors")
    path = tmp_path / "02.ipynb"
    nbformat.write(notebook(), path)
    with pytest.raises(LessonError) as caught:
        lesson.execute(path, tmp_path / "pages")
    first = str(caught.value).splitlines()[0]
    assert re.fullmatch(r"02.ipynb stopped: LessonError: The Hub does not give .*needs no network\.", first)
    ran = nbformat.read(tmp_path / "pages" / "02.ipynb", as_version=4)
    cells = dict(zip(CELLS, ran.cells, strict=True))
    for name, text in ENDS.items():
        *before, last = cells[name].outputs
        assert last.output_type == "error" and last.ename == "LessonError"
        assert text in last.evalue and last.traceback == [f"LessonError: {last.evalue}"] and "\n" not in last.evalue
        seen = "".join(output.get("text", "") for output in before)
        assert "Traceback" not in seen and "http" not in seen and len(seen.splitlines()) < 12, seen
    assert "Trying again in 0.02 s (2 of 2)." in str(cells["no data"].outputs)
    own = ["ZeroDivisionError", "HTTPError", "HTTPStatusError", "ConnectError"]
    shown = [cells[name].outputs for name in list(CELLS)[4:8]]
    assert [[output.ename for output in outputs] for outputs in shown] == [[name] for name in own]
    assert all(len(outputs[0].traceback) > 1 for outputs in shown), "any other error is shown as ever"
    assert "'train': 720" in cells["data, again"].outputs[-1].data["text/plain"]
    assert TOKEN not in json.dumps(ran) + (tmp_path / "pages" / "02.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("fault", ["503", "drop", "401", "404"])
def test_the_train_command_ends_with_the_paragraph(hub, waits, tmp_path, monkeypatch, capsys, fault):
    for name in settings.NAMES:
        monkeypatch.setenv(f"LESSON_{name.upper()}", "")
    hub.fail(fault, ANY, **({"X_Error_Code": "RepoNotFound"} if fault == "404" else {}))
    assert main(["train", "--edition", "full", "--home", str(tmp_path / "home")]) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert "The Hub" in last or "connection" in last
    assert last.endswith("needs no network.")


@pytest.mark.parametrize(
    ("request_line", "ours"),
    [
        ("HEAD /org/name/resolve/main/config.json", True),
        ("GET /api/models/org/name", True),
        ("GET /api/datasets/org/name/tree/main", True),
        ("POST /api/datasets/org/name/paths-info/main", True),
        ("GET /cdn/5a/5b", True),
        ("GET /api/agent-harnesses", False),
        ("HEAD /datasets.huggingface.co/datasets/datasets/org/name.py", False),
        ("POST /api/telemetry", False),
        ("POST /api/repos/create", False),
        ("POST /api/models/org/name/commit/main", False),
    ],
)
def test_only_questions_are_repeated(request_line, ours):
    assert helper.is_hub_request(*request_line.split()) == ours


def test_only_what_the_libraries_can_do_without_is_not_waited_for(hub, pins):
    (model, commit), (name, revision) = pins["model"], pins["dataset"]
    tree = f"/api/models/{model}/tree/{commit}"
    optional = [f"/api/models/{model}", "/api/models/gpt2", tree, f"{tree}/additional_chat_templates"]
    needed = [f"/{model}/resolve/{commit}/model.safetensors", f"/api/models/{model}/revision/main", "/api/datasets/a/b",
              "/api/models/gpt2/revision/main", f"/api/datasets/{name}/tree/{revision}"]  # fmt: skip
    assert all(helper.OPTIONAL.fullmatch(path) for path in optional)
    assert not any(helper.OPTIONAL.fullmatch(path) for path in needed)
    about = [f"/datasets/{name}/resolve/{revision}/README.md", f"/api/datasets/{name}/revision/{revision}"]
    assert not any(helper.is_prepared(path) for path in about)
    load_data(pins)
    assert all(helper.is_prepared(path) for path in about)
    other = [path.replace(revision, "0" * 40) for path in about] + [f"/api/datasets/{name}/revision/main"]
    assert not any(helper.is_prepared(path) for path in other)


@pytest.mark.parametrize("token", ["", "hf_old"])
def test_a_token_that_is_out_of_date_is_thought_of(hub, monkeypatch, token):
    monkeypatch.setenv("HF_TOKEN", token)
    hub.fail("401")
    with pytest.raises(LessonError) as caught:
        helper.resolve_source("model", "some/one", [])
    assert caught.value.code == "hub-refused" and ("out of date" in str(caught.value)) == bool(token)


def test_a_source_is_a_folder_or_a_commit_on_the_hub(hub, tmp_path, monkeypatch):
    """Notebooks run in the clone's folder notebooks/; a path may start there or at the clone."""
    here, clone = tmp_path / "clone" / "notebooks", tmp_path / "clone"
    (here / "mine").mkdir(parents=True)
    (clone / "ours").mkdir()
    monkeypatch.chdir(here)
    for source, found in (("mine", here / "mine"), ("ours", clone / "ours"), (str(clone / "ours"), clone / "ours")):
        assert helper.resolve_source("dataset", source, [here, clone]) == (str(found), None)
    commit = "a" * 40
    for name in ("mine", "org/name"):
        assert helper.resolve_source("model", f"{name}@{commit}", [here, clone]) == (name, commit)
    assert helper.resolve_source("dataset", "stanfordnlp/sst2", [here]) == ("stanfordnlp/sst2", "f" * 40)


def test_a_folder_that_nobody_named_is_not_taken(hub, tmp_path, monkeypatch):
    """A Hub id may be the name of a package that is installed beside this one, such as datasets."""
    installed = Path(helper.__file__).parents[2]
    (name,) = {path.name for path in Path(helper.__file__).parents if path.parent == installed}
    monkeypatch.chdir(tmp_path)
    assert (installed / name).is_dir()
    with pytest.raises(LessonError) as caught:
        helper.resolve_source("model", name, [tmp_path])
    assert caught.value.code == "hub-refused"


@pytest.mark.parametrize("path", ["reviews.csv", "data/reviews.csv", "./data/more/reviews.csv", "{here}/reviews.csv"])
def test_a_file_is_answered_with_the_folder_it_needs(tmp_path, path):
    file = tmp_path / path.format(here=tmp_path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("text,label")
    with pytest.raises(LessonError, match=r"is a file.*path of a folder") as caught:
        helper.resolve_source("dataset", path.format(here=tmp_path), [tmp_path])
    assert caught.value.code == "file-not-folder" and "hub" not in str(caught.value).lower().partition("org/name")[0]


@pytest.mark.parametrize(
    "source", ["a/b/c", "./nothing", "org/name@main", "org/name@12", "a b", "", "@", "ä/b@" + "a" * 39]
)
def test_what_is_neither_is_answered_with_all_three_forms(tmp_path, source):
    with pytest.raises(LessonError) as caught:
        helper.resolve_source("model", source, [tmp_path / "nowhere"])
    assert caught.value.code == "no-source" and "ORG/NAME@COMMIT" in str(caught.value)
