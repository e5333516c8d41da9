"""Too little memory on a GPU (simulated): the batch is computed in parts, and the result stays what it was."""

import json
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file
from support import make_settings, tiny_data, tiny_model
from transformers import AutoModelForSequenceClassification, Trainer

from helpers import gpu
from helpers.durable.checkpoints import ResumableTrainer, mean_loss
from helpers.durable.errors import LessonError
from helpers.durable.files import read_json
from helpers.recipe import Recipe

ROWS = 150  # four batches of 32 and one of 22
STEPS = 10  # of two epochs


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


@pytest.fixture
def home(roomy, tmp_path):
    """Return a new home with the data of the roomy one, and without its model."""
    return shutil.copytree(roomy, tmp_path / "home", ignore=shutil.ignore_patterns("model", "checkpoints"))


def weights(home):
    """Return the kept model's weights."""
    return load_file(home / "pocket" / "model" / "model.safetensors")


def difference(home, other) -> float:
    """Return the largest difference between the weights that two trainings left."""
    ours, theirs = weights(home), weights(other)
    return max((ours[name] - theirs[name]).abs().max().item() for name in theirs)


def logged(home, name: str) -> list[float]:
    """Return what a training logged under a name, in order."""
    return [entry[name] for entry in summary(home)["log_history"] if name in entry]


def summary(home) -> dict:
    """Return what a training left beside its model."""
    return read_json(home / "pocket" / "model" / "training.json")


def splits(child) -> list[str]:
    """Return what a child said on too little memory, a line each."""
    return [line for line in child.said().splitlines() if "The GPU's memory is too small for" in line]


@pytest.mark.parametrize(
    ("memory", "parts", "where"),
    [(31, 2, "forward"), (16, 2, "backward"), (10, 4, "backward"), (3, 16, "forward"), (1, 32, "backward")],
)
def test_a_batch_is_computed_in_parts_with_the_same_result(nursery, what, roomy, home, memory, parts, where):
    child = nursery.train(home, memory=memory, where=where, **what)
    assert child.status == 0, child.said()
    assert len(splits(child)) == parts.bit_length() - 1, "said once for each halving"
    assert f"From here on {32 // parts} are computed at a time" in splits(child)[-1]
    assert f"gradients of {parts} such parts are added up: the batch stays what it was." in splits(child)[-1]
    assert summary(home)["steps"] == summary(roomy)["steps"] == STEPS
    assert difference(home, roomy) < 2e-5
    assert logged(home, "loss") == pytest.approx(logged(roomy, "loss"), abs=1e-5)
    assert logged(home, "grad_norm") == pytest.approx(logged(roomy, "grad_norm"), abs=1e-4)
    assert logged(home, "eval_accuracy") == logged(roomy, "eval_accuracy")


def test_the_result_would_show_gradients_that_count_twice(roomy, what, nursery, tmp_path):
    """Another learning problem moves the weights by much more than the tolerance above."""
    assert nursery.train(tmp_path / "other", **what | {"seed": 1}).status == 0
    assert difference(tmp_path / "other", roomy) > 2e-4


@pytest.mark.parametrize("where", ["forward", "backward"])
def test_it_goes_on_from_the_last_whole_checkpoint(nursery, what, roomy, home, tmp_path, where):
    """The memory gets too small in the eighth step: long sentences, or another program."""
    options = {"memory": 20, "where": where, "after": 7, "trace": tmp_path / "trace"}
    child = nursery.train(home, **options, **what | {"every": 0})
    assert child.status == 0 and len(splits(child)) == 1, child.said()
    steps = [int(line.split()[1]) for line in (tmp_path / "trace").read_text().splitlines()]
    assert steps == sorted(steps) and steps[-1] == STEPS, "no step was taken twice"
    assert difference(home, roomy) < 2e-5 and summary(home)["steps"] == STEPS


def test_killed_after_it_was_split_it_continues(nursery, what, roomy, home):
    child = nursery.train(home, memory=10, kill=("training", 6, 1), **what | {"every": 0})
    assert child.status == -signal.SIGKILL and len(splits(child)) == 2
    child = nursery.train(home, memory=10, **what)
    assert child.status == 0 and "Continuing after step 5 of 10" in child.said() and len(splits(child)) == 2
    assert difference(home, roomy) < 2e-5 and summary(home)["steps"] == STEPS


def test_no_room_for_one_sentence(nursery, what, home):
    child = nursery.train(home, memory=-1, **what)
    (said,) = [line for line in child.said().splitlines() if line.startswith("LessonError")]
    assert child.status == 2 and "Traceback" not in child.said()
    assert said.startswith("LessonError (out-of-memory)") and "even with one sentence at a time" in said


def make_trainer(folder, batch_size: int) -> ResumableTrainer:
    """Return a trainer with a tiny model."""
    model = AutoModelForSequenceClassification.from_pretrained(tiny_model(folder / "tiny"))
    arguments = Recipe(batch_size=batch_size).arguments(folder / "run", eval_strategy="no")
    return ResumableTrainer(model=model, args=arguments)


@pytest.mark.parametrize(
    ("batch", "sizes"), [(32, [16, 8, 4, 2, 1]), (25, [5, 1]), (12, [6, 3, 1]), (17, [1]), (100, [50, 25, 5, 1])]
)
def test_parts_are_equally_large_and_make_up_the_batch(tmp_path, batch, sizes):
    trainer, found = make_trainer(tmp_path, batch), []
    while trainer.args.train_batch_size > 1:
        trainer.split_batch(torch.OutOfMemoryError())
        found.append(trainer.args.train_batch_size)
        assert trainer.args.train_batch_size * trainer.args.gradient_accumulation_steps == batch
        assert trainer.get_total_train_batch_size(trainer.args) == batch, "the Trainer itself knows it"
    assert found == sizes
    with pytest.raises(LessonError) as caught:
        trainer.split_batch(torch.OutOfMemoryError())
    assert caught.value.code == "out-of-memory"


def test_parts_of_any_size_add_up_to_the_gradient_of_the_whole():
    logits, labels = torch.randn(22, 3, requires_grad=True), torch.arange(22) % 3
    whole = torch.nn.functional.cross_entropy(logits, labels)
    assert mean_loss({"logits": logits}, labels).item() == whole.item()
    (wanted,) = torch.autograd.grad(whole, logits)
    total = 0
    for part in (slice(0, 16), slice(16, 22)):
        loss = mean_loss((logits[part],), labels[part], num_items_in_batch=torch.tensor(22))
        total = total + torch.autograd.grad(loss, logits)[0]
    assert torch.allclose(total, wanted, atol=1e-8)


def test_what_is_used_of_the_trainers_private_parts_is_still_there():
    """transformers promises none of these names. When one is gone, `helpers` has to follow: see where it is used."""
    text = Path(transformers.trainer.__file__).read_text(encoding="utf-8")
    for name, use in {
        "_save_checkpoint": "self._save_checkpoint(model, trial)",  # checkpoints.ResumableTrainer
        "_get_train_sampler": "sampler_fn=self._get_train_sampler",  # training.LengthGroupedTrainer
        "_train_batch_size": "batch_size=self._train_batch_size",  # checkpoints.ResumableTrainer.split_batch
    }.items():
        assert use in text, f"transformers {transformers.__version__} has no {name} any more, or uses it otherwise"
    assert hasattr(Trainer, "_save_checkpoint") and hasattr(Trainer, "_get_train_sampler")


@pytest.mark.parametrize("memory", [31, 5, 1])
def test_the_prediction_is_made_in_parts_too(what, tmp_path, monkeypatch, memory):
    settings, seen = make_settings(tmp_path, model=what["model"], dataset=what["dataset"]), []
    small_gpu(monkeypatch, memory, seen)
    monkeypatch.setattr(gpu, "median_seconds", lambda step, *_: step() or 1.0)
    assert gpu.step_seconds(settings, replace(settings.recipe, attention="sdpa"), 8) == 1.0
    parts = 32 // min(2 ** (memory.bit_length() - 1), 32)
    assert seen[-parts:] == [32 // parts] * parts and 32 // parts <= memory, "a step is all of its parts"


def test_a_prediction_without_room_for_one_sentence(what, tmp_path, monkeypatch):
    settings = make_settings(tmp_path, model=what["model"], dataset=what["dataset"])
    small_gpu(monkeypatch, 0, [])
    with pytest.raises(LessonError) as caught:
        gpu.step_seconds(settings, settings.recipe, 8)
    assert caught.value.code == "out-of-memory"


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
