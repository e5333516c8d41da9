"""The Hub fails: every fault at every moment either ends well or in one paragraph; nothing partial is ever used.

The calls are those that stand in the notebooks, in this process, with waits that are noted and not waited.
"""

import time

import pytest
import torch
from datasets import load_dataset
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from helpers import errors
from helpers import hub as helper
from helpers.files import LessonError


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
    "503 for ever": ("503", {}, "The Hub answered 503 (busy), also after 5 more tries."),
    "closed without an answer, for ever": ("drop", {}, "The connection to the Hub broke, also after 5 more tries."),
    "no answer, ever": ("hang", {}, "The Hub does not answer, also after 5 more tries."),
    "429 for an hour": ("429", {"Retry_After": "3600"}, "(too many requests), and asks us to come back in 60 minutes."),
    "401 unknown or private": ("401", {}, "knows no public"),
    "401 gated": ("401", {"X_Error_Code": "GatedRepo"}, "(401, gated)"),
    "403 gated": ("403", {"X_Error_Code": "GatedRepo"}, "(403, gated)"),
    "403 without a reason": ("403", {}, "set HF_TOKEN to your token"),
    "404 no such repository": ("404", {"X_Error_Code": "RepoNotFound"}, "Check its spelling"),
    "404 no such commit": ("404", {"X_Error_Code": "RevisionNotFound"}, "has no commit"),
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


def paragraph(error: BaseException) -> str:
    """Return what a student sees last, after making sure that it is one short paragraph with a way on."""
    told = errors.explain(error)
    assert isinstance(told, LessonError), repr(error)
    text = str(told)
    assert "\n" not in text and 60 < len(text) < 520 and "http://" not in text and "pocket" in text
    return text


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
        wanted = int(headers.get("Retry_After", 0)) or (34 if "RateLimit" in headers else helper.WAITS[0])
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
    kind, headers, text = LASTING[fault]
    hub.fail(kind, ANY, **headers)
    with pytest.raises(Exception) as caught:
        MOMENTS[moment](pins)
    assert text in paragraph(caught.value)
    assert waits == ([*helper.WAITS] if "5 more tries" in text else []), "one patience, not one a request"
    hub.heal()
    assert MOMENTS[moment](pins) == truth[moment]


@pytest.mark.parametrize("kind", ["503", "empty", "drop", "403"])
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_fault_in_the_middle_of_a_download_leaves_nothing_partial(hub, pins, truth, waits, capsys, kind, moment):
    """The first files arrive, and half of the largest; then the Hub goes away."""
    largest = {"data": "GET .*train-0", "tokenizer": "GET .*tokenizer.json", "model": "GET .*model.safetensors"}[moment]
    hub.fail("cut", largest, 1)
    hub.fail(kind, largest)
    with pytest.raises(Exception) as caught:
        MOMENTS[moment](pins)
    paragraph(caught.value)
    hub.fail("503", ANY)  # what is there must not pass for the whole
    with pytest.raises(Exception) as caught:
        MOMENTS[moment](pins)
    paragraph(caught.value)
    hub.heal()
    assert MOMENTS[moment](pins) == truth[moment]


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize(
    ("url", "text"),
    [("http://127.0.0.1:9", "cannot be reached"), ("http://no-such-hub.invalid", "seems to be no network")],
)
def test_no_hub_at_all(hub, client, pins, truth, waits, url, text, moment):
    client(url)
    with pytest.raises(Exception) as caught:
        MOMENTS[moment](pins)
    assert text in paragraph(caught.value) and waits == [*helper.WAITS]
    client(hub.url)
    assert MOMENTS[moment](pins) == truth[moment]


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_second_run_is_patient_again(hub, pins, truth, waits, monkeypatch, moment):
    hub.fail("503", ANY)
    with pytest.raises(Exception) as caught:
        MOMENTS[moment](pins)
    paragraph(caught.value)
    monkeypatch.setattr(helper, "AT_ONCE", 0)
    hub.heal()
    hub.fail("503", ANY, 3)
    assert MOMENTS[moment](pins) == truth[moment] and len(waits) == 5 + 3


@pytest.mark.parametrize("fault", ["refused", "503", "500", "429", "drop", "hang", "401", "403", "404"])
def test_what_is_cached_works_without_the_hub_and_at_once(hub, client, pins, truth, waits, monkeypatch, fault):
    for moment, load in MOMENTS.items():
        assert load(pins) == truth[moment]
    monkeypatch.setattr(helper, "HURRY", 0.2)
    if fault == "refused":
        client("http://127.0.0.1:9")
    else:
        client(hub.url)  # as in a new process: nothing is remembered
        hub.fail(fault, **({"X_Error_Code": "RepoNotFound"} if fault == "404" else {}))
    begin = time.perf_counter()
    for moment, load in MOMENTS.items():
        assert load(pins) == truth[moment]
    assert waits == [] and time.perf_counter() - begin < 5
