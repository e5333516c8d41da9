"""Too little memory on a GPU (simulated): the batch is computed in parts, and the result stays what it was."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file
from soak import shared
from support import make_settings, tiny_data, tiny_model

from helpers import gpu
from helpers.files import LessonError, read_json

ROWS = 150  # four batches of 32 and one of 22


@pytest.fixture(scope="module")
def nursery():
    """Return the process that forks trainings."""
    return shared()[0]


@pytest.fixture(scope="module")
def what(tmp_path_factory):
    """Return the options of a training without dropout, whose random choices would differ from part to part."""
    folder = tmp_path_factory.mktemp("what")
    model = tiny_model(folder / "tiny")
    config = json.loads((model / "config.json").read_text())
    config |= {"dropout": 0.0, "attention_dropout": 0.0, "seq_classif_dropout": 0.0}
    (model / "config.json").write_text(json.dumps(config))
    return {"model": model, "dataset": tiny_data(folder / "data", train=ROWS), "epochs": 2, "every": 1000}


@pytest.fixture(scope="module")
def roomy(nursery, what, tmp_path_factory):
    """Train with enough memory; return the home."""
    home = tmp_path_factory.mktemp("roomy")
    assert nursery.train(home, **what).status == 0
    return home


def weights(home):
    """Return the kept model's weights."""
    return load_file(home / "pocket" / "model" / "model.safetensors")


def prepared(roomy, home):
    """Return a new home with the data of another, and without its model."""
    return shutil.copytree(roomy, home, ignore=shutil.ignore_patterns("model", "checkpoints"))


@pytest.mark.parametrize("where", ["forward", "backward"])
@pytest.mark.parametrize(("memory", "parts"), [(31, 2), (16, 2), (10, 4), (3, 16), (1, 32)])
def test_a_batch_is_computed_in_parts_with_the_same_result(nursery, what, roomy, tmp_path, memory, parts, where):
    home = prepared(roomy, tmp_path / "home")
    child = nursery.train(home, memory=memory, where=where, **what)
    assert child.status == 0, child.said()
    told = [line for line in child.said().splitlines() if "The GPU's memory is too small for 32" in line]
    assert told[-1].endswith("the batch stays what it was.") and f"computed in {parts} parts" in told[-1]
    assert len(told) == parts.bit_length() - 1, "said once for each halving"
    ours, theirs = weights(home), weights(roomy)
    assert max((ours[name] - theirs[name]).abs().max().item() for name in theirs) < 2e-5
    records = [read_json(place / "pocket" / "model" / "training.json") for place in (home, roomy)]
    losses = [[entry["loss"] for entry in record["log_history"] if "loss" in entry] for record in records]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5) and records[0]["steps"] == records[1]["steps"] == 10
    assert [entry["grad_norm"] for entry in records[0]["log_history"] if "grad_norm" in entry] == pytest.approx(
        [entry["grad_norm"] for entry in records[1]["log_history"] if "grad_norm" in entry], abs=1e-4
    )


def test_the_result_would_show_gradients_that_count_twice(roomy, what, nursery, tmp_path):
    """Another learning problem moves the weights by much more than the tolerance above."""
    other = nursery.train(tmp_path / "other", **what | {"seed": 1})
    assert other.status == 0
    ours, theirs = weights(tmp_path / "other"), weights(roomy)
    assert max((ours[name] - theirs[name]).abs().max().item() for name in theirs) > 2e-4


def test_no_room_for_one_sentence(nursery, what, roomy, tmp_path):
    home = prepared(roomy, tmp_path / "home")
    child = nursery.train(home, memory=-1, **what)
    (said,) = [line for line in child.said().splitlines() if line.startswith("LessonError")]
    assert child.status == 2 and "Traceback" not in child.said()
    assert "even with one sentence at a time" in said and "parameters" in said and "LESSON_MODEL" in said


@pytest.mark.parametrize("memory", [31, 5, 1])
def test_the_prediction_is_made_in_parts_too(what, tmp_path, monkeypatch, memory):
    settings, seen = make_settings(tmp_path, model=what["model"], dataset=what["dataset"]), []
    small_gpu(monkeypatch, memory, seen)
    monkeypatch.setattr(gpu, "median_seconds", lambda step, *_: step() or 1.0)
    parts = 32 // min(2 ** (memory.bit_length() - 1), 32)
    assert gpu.step_seconds(settings, "fp32", 8) == parts, "each part takes the second"
    assert seen[-1] == 32 // parts <= memory


def test_a_prediction_without_room_for_one_sentence(what, tmp_path, monkeypatch):
    settings = make_settings(tmp_path, model=what["model"], dataset=what["dataset"])
    small_gpu(monkeypatch, 0, [])
    with pytest.raises(LessonError, match=r"even with one sentence at a time.*LESSON_MODEL"):
        gpu.step_seconds(settings, "fp32", 8)


def small_gpu(monkeypatch, memory: int, seen: list[int]) -> None:
    """Let this process's model fail with more rows than `memory`; note the rows of each attempt."""
    from transformers import DistilBertForSequenceClassification as Model

    inner = Model.forward

    def forward(self, input_ids=None, **more):
        seen.append(len(input_ids))
        if len(input_ids) > memory:
            raise torch.OutOfMemoryError("CUDA out of memory (simulated)")
        return inner(self, input_ids=input_ids, **more)

    monkeypatch.setattr(Model, "forward", forward)
