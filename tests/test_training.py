"""Training: what is kept, when it is used again, and that the helper does what notebook 04 shows."""

import ast
import dataclasses
import inspect
import json

import evaluate
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from support import ROOT, clean_environ, make_settings, refused, run, tiny_data, tiny_model
from transformers import AutoModelForSequenceClassification, Trainer, TrainerCallback, pipeline

from helpers import models, tokenization, training
from helpers.durable import handoff
from helpers.durable.files import MANIFEST, find_damage, lock, read_json, write_json

pytestmark = pytest.mark.usefixtures("no_stopwatch")  # one test below measures for real

NAMES = ["negative", "positive"]
OLD = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
FIELDS = {
    "train_seconds", "saving_seconds", "samples_per_second", "predicted_train_seconds", "precision", "device",
    "parameters", "validation_accuracy_by_epoch", "best_epoch", "steps", "log_history", "hyperparameters",
}  # fmt: skip


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """Return the folder of a tiny model and tiny data that no test changes."""
    folder = tmp_path_factory.mktemp("shared")
    tiny_model(folder / "tiny", dtype=torch.float16)
    tiny_data(folder / "data")
    return folder


@pytest.fixture
def make(shared, tmp_path):
    """Return a function that makes settings of the tiny model and data, with other values where they are given."""

    def made(**values):
        return make_settings(tmp_path, **({"model": shared / "tiny", "dataset": shared / "data", "epochs": 1} | values))

    return made


def same_weights(first, second) -> bool:
    """Return whether two models have exactly the same weights."""
    ours, theirs = first.state_dict(), second.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def with_old_names(folder) -> None:
    """Give the LayerNorms of a model's file the names that distilbert-base-uncased's file has."""
    weights = load_file(folder / "model.safetensors")
    renamed = {next((n.replace(new, old) for new, old in OLD.items() if new in n), n): w for n, w in weights.items()}
    assert any(name.endswith("gamma") for name in renamed)
    save_file(renamed, folder / "model.safetensors", metadata={"format": "pt"})


def test_train_leaves_a_complete_model_folder(make):
    settings = make(epochs=2)
    model, _, summary = training.train(settings)
    folder = settings.home / "model"
    assert handoff.find(folder, settings.fingerprint("model")) == folder
    assert set(summary) == FIELDS and summary == read_json(folder / "training.json")
    assert (summary["steps"], len(summary["validation_accuracy_by_epoch"])) == (2 * 3, 2)
    assert summary["parameters"] == model.num_parameters()
    card = (folder / "README.md").read_text()
    assert "tiny, fine-tuned on data" in card and "seed 42" in card and str(settings.home) not in card
    assert 0 < summary["saving_seconds"] < summary["train_seconds"]
    left = [path.name for path in (settings.home / "checkpoints").iterdir() if not path.name.endswith(".lock")]
    assert left == [], "no checkpoint is left"


def test_the_kept_model_is_an_ordinary_one_with_label_names(make):
    settings = make()
    trained, _, _ = training.train(settings)
    classifier = pipeline("text-classification", model=str(settings.home / "model"), device="cpu")
    answers = classifier(["a lovely film", "a dull film"])
    assert {answer["label"] for answer in answers} <= set(NAMES)
    assert classifier.model.config.id2label == dict(enumerate(NAMES)) and same_weights(classifier.model, trained)


def test_weights_are_float32_even_where_the_file_holds_float16(make, shared):
    stored = load_file(shared / "tiny" / "model.safetensors")
    assert {weight.dtype for weight in stored.values()} == {torch.float16}
    settings = make()
    model, _, _ = training.train(settings)
    kept = load_file(settings.home / "model" / "model.safetensors")
    for weights in (models.load_model(settings, NAMES).state_dict(), model.state_dict(), kept):
        assert {weight.dtype for weight in weights.values()} == {torch.float32}


def test_only_the_head_is_new(make, shared):
    torch.manual_seed(0)
    first = models.load_model(make(), NAMES).state_dict()
    torch.manual_seed(1)
    second = models.load_model(make(), NAMES).state_dict()
    new = {name for name in first if not torch.equal(first[name], second[name])}
    assert new == {"pre_classifier.weight", "classifier.weight"}
    stored = load_file(shared / "tiny" / "model.safetensors")
    assert all(torch.equal(first[f"distilbert.{name}"], weight.float()) for name, weight in stored.items())


def test_it_learns(make):
    settings = make(epochs=20)
    _, _, summary = training.train(settings)
    scores = summary["validation_accuracy_by_epoch"]
    assert max(scores) > 0.75 and scores[summary["best_epoch"] - 1] == max(scores)


def trained_with_first_epoch_best(settings, folder):
    """Train for three epochs with a metric that falls; return the trainer, and the weights after each epoch."""
    splits, tokenizer = tokenization.load_or_make(settings)
    falling = iter((0.9, 0.2, 0.1))
    trainer = training.LengthGroupedTrainer(
        model=models.load_model(settings, NAMES),
        args=settings.recipe.arguments(folder),
        train_dataset=splits["train"],
        eval_dataset=splits["validation"],
        processing_class=tokenizer,
        data_collator=training.DataCollatorWithPadding(tokenizer),
        compute_metrics=lambda _: {"accuracy": next(falling)},
    )
    trainer.args.learning_rate = 0.05  # so that the epochs differ clearly
    after = []

    class Remember(TrainerCallback):
        def on_epoch_end(self, *_, model, **__):
            after.append({name: weight.clone() for name, weight in model.state_dict().items()})

    trainer.add_callback(Remember())
    trainer.train()
    return trainer, after


@pytest.mark.parametrize("old_names", [False, True])
def test_best_model_is_the_best_epoch_in_every_weight(tmp_path, old_names):
    folder = tiny_model(tmp_path / "tiny")
    if old_names:
        with_old_names(folder)
    settings = make_settings(tmp_path, model=folder, dataset=tiny_data(tmp_path / "data"), epochs=3)
    trainer, after = trained_with_first_epoch_best(
        settings, training.checkpoint_folder(settings, settings.recipe).folder
    )
    best, name = training.best_model(trainer).state_dict(), "distilbert.embeddings.LayerNorm.weight"
    assert not torch.equal(after[0][name], after[2][name]), "the epochs differ in this weight"
    assert torch.equal(best[name], after[0][name])
    assert best.keys() == after[0].keys() and all(torch.equal(best[n], after[0][n]) for n in best)
    assert training.summarize(trainer, 1.0)["best_epoch"] == 1


def test_old_names_are_read_into_the_model(tmp_path):
    folder = tiny_model(tmp_path / "tiny")
    stored = load_file(folder / "model.safetensors")
    stored["embeddings.LayerNorm.weight"] += 1
    save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})
    with_old_names(folder)
    loaded = models.load_model(make_settings(tmp_path, model=folder), NAMES).state_dict()
    assert torch.equal(loaded["distilbert.embeddings.LayerNorm.weight"], torch.full((32,), 2.0))


def test_a_kept_model_of_the_same_settings_is_used_again(make, capsys):
    settings = make()
    model, _, summary = training.load_or_train(settings)
    assert "training it now" in capsys.readouterr().out
    written = (settings.home / "model" / MANIFEST).stat().st_mtime_ns
    again, tokenizer, same = training.load_or_train(make())
    assert "training it now" not in capsys.readouterr().out
    assert (settings.home / "model" / MANIFEST).stat().st_mtime_ns == written
    assert same_weights(again, model) and same == summary and tokenizer.pad_token == "[PAD]"


@pytest.mark.parametrize("name", ["seed", "epochs", "train_rows", "model", "dataset"])
def test_a_kept_model_of_other_settings_is_never_used(make, tmp_path, capsys, name):
    values = {"seed": 1, "epochs": 2, "train_rows": 64}
    if name == "model":
        values["model"] = tiny_model(tmp_path / "other" / "tiny", seed=9)
    if name == "dataset":
        values["dataset"] = tiny_data(tmp_path / "other" / "data", seed=50)
    before, _, _ = training.load_or_train(make())
    capsys.readouterr()
    settings = make(**{name: values[name]})
    after, _, _ = training.load_or_train(settings)
    assert "training it now" in capsys.readouterr().out
    assert not same_weights(before, after) and handoff.find(settings.home / "model", settings.fingerprint("model"))


@pytest.mark.parametrize("harm", ["missing", "cut", "empty", "manifest"])
def test_a_torn_model_folder_is_trained_again(make, capsys, harm):
    """Where a Drive was still uploading, small files are there and the weights are not: the manifest tells."""
    settings = make()
    model, _, _ = training.load_or_train(settings)
    weights = settings.home / "model" / "model.safetensors"
    if harm == "missing":
        weights.unlink()
    elif harm == "manifest":
        (settings.home / "model" / MANIFEST).unlink()
    else:
        part = weights.read_bytes()[: 1000 if harm == "cut" else 0]
        weights.unlink()  # `model` may still read from the old file
        weights.write_bytes(part)
    capsys.readouterr()
    again, _, _ = training.load_or_train(settings)
    assert "training it now" in capsys.readouterr().out
    assert same_weights(model, again) and find_damage(settings.home / "model") is None


def test_a_repository_with_pickled_weights_alone_is_refused(make, tmp_path):
    folder = tiny_model(tmp_path / "pickled")
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with refused("model-unreadable"):
        models.load_model(make(model=folder), NAMES)
    with refused("no-safetensors", "pytorch_model.bin"):
        models.check(make(model=folder))


def test_a_giant_model_is_refused_before_its_weights_are_read(make, tmp_path):
    folder = tiny_model(tmp_path / "giant")
    config = read_json(folder / "config.json")
    write_json(folder / "config.json", config | {"vocab_size": 200_000_000})
    (folder / "model.safetensors").unlink()
    with refused("too-large", "giant"):
        training.train(make(model=folder))


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(make):
    models = []
    for number, seed in enumerate((1, 1, 2)):
        torch.manual_seed(number)  # what happened before must not matter
        models.append(training.train(make(seed=seed))[0])
    assert same_weights(models[0], models[1]) and not same_weights(models[0], models[2])


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_arguments_are_the_recipes(make, tmp_path, precision):
    recipe = dataclasses.replace(make(seed=7, epochs=3).recipe, precision=precision)
    args = recipe.arguments(tmp_path)
    assert (args.seed, args.num_train_epochs, args.per_device_train_batch_size) == (7, 3, recipe.batch_size)
    assert (args.learning_rate, args.warmup_steps, args.weight_decay) == (
        recipe.learning_rate, recipe.warmup, recipe.weight_decay,
    )  # fmt: skip
    assert (args.bf16, args.fp16) == (precision == "bf16", False)
    assert recipe.arguments(tmp_path, learning_rate=1.0).learning_rate == 1.0, "others replace the recipe's"


def test_every_hyperparameter_is_part_of_a_checkpoints_name(make):
    recipe = make().recipe
    keys = {json.dumps(recipe.key(), sort_keys=True)}
    others = {"padding": "batch", "precision": "bf16", "attention": "eager"}
    for field in dataclasses.fields(recipe):
        value = others.get(field.name, getattr(recipe, field.name))
        other = dataclasses.replace(recipe, **{field.name: value if isinstance(value, str) else value + 1})
        keys.add(json.dumps(other.key(), sort_keys=True))
    assert len(keys) == 1 + len(dataclasses.fields(recipe))


def test_checkpoints_are_held_until_they_are_cleared(make):
    settings = make()
    first, again = (training.checkpoint_folder(settings, settings.recipe) for _ in range(2))  # a cell that is run again
    (first.folder / "something").touch()
    assert again.folder == first.folder and again.lock.is_locked
    again.clear()
    assert not first.folder.exists() and not first.lock.is_locked, "other processes may use it now"
    third = training.checkpoint_folder(settings, settings.recipe)
    assert third.folder == first.folder
    third.clear()


def test_the_metric_script_is_loaded_from_its_file():
    metric = evaluate.load(training.METRIC)
    assert metric.compute(predictions=[1, 0, 1, 1], references=[1, 0, 0, 1]) == {"accuracy": 0.75}


def test_compute_metrics_takes_the_largest_logit():
    logits = np.array([[0.1, 0.9], [2.0, -1.0], [0.0, 0.1], [3.0, 4.0]])
    assert training.compute_metrics((logits, np.array([1, 0, 0, 1]))) == {"accuracy": 0.75}


def test_the_card_shows_test_figures_where_they_are_known(make):
    summary = {"validation_accuracy_by_epoch": [0.5, 0.75], "best_epoch": 2, "precision": "fp32", "device": "CPU"}
    summary["train_seconds"] = 12.0
    # a student changed the rate in the notebook: the card tells what was used, not what the settings say
    summary["hyperparameters"] = {"epochs": 2, "batch_size": 8, "learning_rate": 0.5, "warmup_steps": 0.1}
    summary["hyperparameters"] |= {"weight_decay": 0.0, "seed": 1}
    results = {"accuracy": 0.7, "accuracy_ci95": [0.6, 0.8], "rows": {"test": 50}, "majority_accuracy": 0.5}
    results["tfidf_accuracy"] = 0.65
    assert "Test accuracy" not in training.model_card(make(), summary)
    card = training.model_card(make(), summary, results)
    assert "Test accuracy: 0.7000 (95% Wilson interval 0.6000 to 0.8000, 50 rows)" in card
    assert "0.5000, 0.7500; epoch 2 is kept" in card and "batch 8, learning rate 0.5 " in card


def test_the_trainer_uses_the_grouped_order(make, tmp_path):
    settings = make(epochs=2)
    splits, tokenizer = tokenization.load_or_make(settings)
    trainer = training.LengthGroupedTrainer(
        model=AutoModelForSequenceClassification.from_pretrained(settings.model),
        args=settings.recipe.arguments(tmp_path / "out"),
        train_dataset=splits["train"],
        eval_dataset=splits["validation"],
        data_collator=training.DataCollatorWithPadding(tokenizer),
    )
    sampler = tokenization.LengthGroupedSampler(tokenization.lengths(splits["train"]), 32, settings.seed)
    loader = trainer.get_train_dataloader()
    for epoch in (0, 1):
        sampler.set_epoch(epoch)
        loader.set_epoch(epoch)
        ids = [row[: row.index(0)] if 0 in row else row for batch in loader for row in batch["input_ids"].tolist()]
        assert ids == [splits["train"][i]["input_ids"] for i in sampler]


# What the course overrides in, or takes from, transformers' Trainer and is not promised to stay: name -> parameters.
PRIVATE = {
    "_save_checkpoint": ["self", "model", "trial"],
    "_get_train_sampler": ["self", "train_dataset"],
    "training_step": ["self", "model", "inputs", "num_items_in_batch"],
    "train": ["self", "resume_from_checkpoint", "trial", "ignore_keys_for_eval"],
}


@pytest.mark.parametrize("name", PRIVATE)
def test_transformers_still_has_what_the_course_overrides(name):
    """Without `_save_checkpoint`, say, no manifest would be written, and no checkpoint ever be taken for whole."""
    method = getattr(Trainer, name, None)
    assert method is not None, f"this transformers has no Trainer.{name}: look for its new name in trainer.py"
    found = list(inspect.signature(method).parameters)
    assert found == PRIVATE[name], f"Trainer.{name} takes {found} now: mend what overrides it in helpers/"


def test_every_method_of_trainer_that_is_overridden_is_held_above():
    overridden = set()
    for path in (ROOT / "helpers").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            bases = [ast.unparse(base) for base in node.bases] if isinstance(node, ast.ClassDef) else []
            if any(base.endswith("Trainer") for base in bases):
                methods = {item.name for item in node.body if isinstance(item, ast.FunctionDef)}
                overridden |= {n for n in methods if not n.startswith("__") and (hasattr(Trainer, n) or n[0] == "_")}
    assert overridden == set(PRIVATE)


def test_the_trainer_calls_what_the_course_overrides(make, tmp_path, monkeypatch):
    """A method that is still there but no longer called would be as bad as one that is gone."""
    called = set()
    for name in PRIVATE:
        owner = next(kind for kind in training.LengthGroupedTrainer.__mro__ if name in vars(kind))
        inner = getattr(owner, name)

        def noted(self, *args, name=name, inner=inner, **options):
            called.add(name)
            return inner(self, *args, **options)

        monkeypatch.setattr(owner, name, noted)
    training.train(make())
    assert called == set(PRIVATE)


def total(model) -> float:
    """Return the sum of all weights: two models of other seeds never share it."""
    with torch.no_grad():
        return float(sum(weight.double().sum() for weight in model.parameters()))


def test_a_model_is_loaded_under_the_lock(make, monkeypatch):
    """Else another process could replace it between the look at its settings and the reading of its weights."""
    settings, held, read_model = make(), [], models.read_model
    training.load_or_train(settings)

    def noted(folder):
        held.append(lock(settings.home / "model").is_locked)
        return read_model(folder)

    monkeypatch.setattr(models, "read_model", noted)
    training.load_or_train(settings)
    assert held == [True]


def test_a_model_that_is_replaced_as_soon_as_it_is_saved_is_still_ones_own(make, monkeypatch):
    """Another kernel with another seed may be ready to save at that very moment."""
    own = total(training.train(make(seed=1))[0])
    other, _, _ = training.train(make(seed=2))
    save = training.save

    def save_and_lose(settings, *what):
        save(settings, *what)
        handoff.save(settings.home / "model", {"another": "run"}, lambda folder: other.save_pretrained(folder))

    monkeypatch.setattr(training, "save", save_and_lose)
    model, tokenizer, summary = training.load_or_train(make(seed=1))
    assert total(model) == own and tokenizer.pad_token == "[PAD]" and set(summary) == FIELDS


# Two forked processes train again and again in one home, with other seeds: each replaces what the other has left.
TAKE_TURNS = """
import os, sys, traceback
from pathlib import Path
from support import make_settings
import transformers.trainer, transformers.models.distilbert.modeling_distilbert
from helpers import gpu, training
from helpers import threads
from test_training import total
gpu.median_seconds = lambda work, seconds: 0.001
threads.busy = lambda *_, **__: 0.0
home, children = Path(sys.argv[1]), []
for seed in (1, 2):
    child = os.fork()
    if child == 0:
        status = 1
        try:
            settings = make_settings(home, model=sys.argv[2], dataset=sys.argv[3], epochs=1, seed=seed)
            sums = [total(training.load_or_train(settings)[0]) for turn in range(3)]
            (home / f"sums-{seed}").write_text(repr(sums))
            status = 0
        except BaseException:
            traceback.print_exc()
        os._exit(status)
    children.append(child)
sys.exit(max(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children))
"""


def test_two_processes_of_other_seeds_in_one_home_each_get_their_own_model(shared, tmp_path):
    sources = [str(shared / "tiny"), str(shared / "data")]
    environ = clean_environ(tmp_path, OMP_NUM_THREADS=1, TOKENIZERS_PARALLELISM="false")
    environ["PYTHONPATH"] += f":{ROOT / 'tests'}"
    done = run("-c", TAKE_TURNS, tmp_path / "both", *sources, cwd=ROOT, env=environ, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
    for seed in (1, 2):
        settings = make_settings(tmp_path / "alone", model=sources[0], dataset=sources[1], epochs=1, seed=seed)
        sums = ast.literal_eval((tmp_path / "both" / f"sums-{seed}").read_text())
        assert sums == [total(training.train(settings)[0])] * 3
