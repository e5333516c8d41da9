"""Training: what is kept, when it is used again, and that the helper does what notebook 04 shows."""

import evaluate
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from support import NOTEBOOKS, cell_with, make_settings, tiny_data, tiny_model
from transformers import AutoModelForSequenceClassification, TrainingArguments, pipeline

from helpers import checkpoints, gpu, report, tokenization, training
from helpers.files import LessonError, is_complete, read_json, write_json

NAMES = ["negative", "positive"]
OLD = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
FIELDS = {
    "train_seconds", "saving_seconds", "samples_per_second", "predicted_train_seconds", "precision", "device",
    "parameters", "development_accuracy_by_epoch", "best_epoch", "steps", "log_history",
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
    model, _, record = training.train(settings)
    folder = settings.home / "model"
    assert is_complete(folder, settings.identity("model"))
    assert set(record) == FIELDS and record == read_json(folder / "training.json")
    assert (record["steps"], len(record["development_accuracy_by_epoch"])) == (2 * 3, 2)
    assert record["parameters"] == model.num_parameters()
    card = (folder / "README.md").read_text()
    assert "tiny, fine-tuned on data" in card and "seed 42" in card and str(settings.home) not in card
    assert 0 < record["saving_seconds"] < record["train_seconds"]
    left = [path.name for path in (settings.home / "checkpoints").iterdir() if not path.name.endswith(".lock")]
    assert left == [], "no checkpoint is left"


def test_the_kept_model_is_an_ordinary_one_with_label_names(make):
    settings = make()
    trained, _, _ = training.train(settings)
    judge = pipeline("text-classification", model=str(settings.home / "model"))
    answers = judge(["a lovely film", "a dull film"])
    assert {answer["label"] for answer in answers} <= set(NAMES)
    assert judge.model.config.id2label == dict(enumerate(NAMES)) and same_weights(judge.model, trained)


def test_weights_are_float32_even_where_the_file_holds_float16(make, shared):
    stored = load_file(shared / "tiny" / "model.safetensors")
    assert {weight.dtype for weight in stored.values()} == {torch.float16}
    settings = make()
    model, _, _ = training.train(settings)
    kept = load_file(settings.home / "model" / "model.safetensors")
    for weights in (training.load_model(settings, NAMES).state_dict(), model.state_dict(), kept):
        assert {weight.dtype for weight in weights.values()} == {torch.float32}


def test_only_the_head_is_new(make, shared):
    torch.manual_seed(0)
    first = training.load_model(make(), NAMES).state_dict()
    torch.manual_seed(1)
    second = training.load_model(make(), NAMES).state_dict()
    new = {name for name in first if not torch.equal(first[name], second[name])}
    assert new == {"pre_classifier.weight", "classifier.weight"}
    stored = load_file(shared / "tiny" / "model.safetensors")
    assert all(torch.equal(first[f"distilbert.{name}"], weight.float()) for name, weight in stored.items())


def test_it_learns(make):
    settings = make(epochs=20)
    _, _, record = training.train(settings)
    scores = record["development_accuracy_by_epoch"]
    assert max(scores) > 0.75 and scores[record["best_epoch"] - 1] == max(scores)


def trained_with_first_epoch_best(settings, folder):
    """Train for three epochs with a metric that falls; return the trainer, and the weights after each epoch."""
    splits, tokenizer = tokenization.prepare(settings)
    falling = iter((0.9, 0.2, 0.1))
    trainer = training.LengthGroupedTrainer(
        model=training.load_model(settings, NAMES),
        args=training.arguments(settings, folder, "fp32"),
        train_dataset=splits["train"],
        eval_dataset=splits["development"],
        processing_class=tokenizer,
        data_collator=training.DataCollatorWithPadding(tokenizer),
        compute_metrics=lambda _: {"accuracy": next(falling)},
    )
    trainer.args.learning_rate = 0.05  # so that the epochs differ clearly
    after = []

    class Remember(training.transformers.TrainerCallback):
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
    trainer, after = trained_with_first_epoch_best(settings, checkpoints.Run(settings, "fp32").folder)
    best, name = training.best_model(trainer).state_dict(), "distilbert.embeddings.LayerNorm.weight"
    assert not torch.equal(after[0][name], after[2][name]), "the epochs differ in this weight"
    assert torch.equal(best[name], after[0][name])
    assert best.keys() == after[0].keys() and all(torch.equal(best[n], after[0][n]) for n in best)
    assert training.record(settings, trainer, "fp32")["best_epoch"] == 1


def test_old_names_are_read_into_the_model(tmp_path):
    folder = tiny_model(tmp_path / "tiny")
    stored = load_file(folder / "model.safetensors")
    stored["embeddings.LayerNorm.weight"] += 1
    save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})
    with_old_names(folder)
    loaded = training.load_model(make_settings(tmp_path, model=folder), NAMES).state_dict()
    assert torch.equal(loaded["distilbert.embeddings.LayerNorm.weight"], torch.full((32,), 2.0))


def test_a_kept_model_of_the_same_settings_is_used_again(make, capsys):
    settings = make()
    model, _, record = training.prepare(settings)
    assert "training it now" in capsys.readouterr().out
    written = (settings.home / "model" / "lesson.json").stat().st_mtime_ns
    again, tokenizer, same = training.prepare(make())
    assert "training it now" not in capsys.readouterr().out
    assert (settings.home / "model" / "lesson.json").stat().st_mtime_ns == written
    assert same_weights(again, model) and same == record and tokenizer.pad_token == "[PAD]"


@pytest.mark.parametrize("name", ["seed", "epochs", "train_rows", "model", "dataset"])
def test_a_kept_model_of_other_settings_is_never_used(make, tmp_path, capsys, name):
    values = {"seed": 1, "epochs": 2, "train_rows": 64}
    if name == "model":
        values["model"] = tiny_model(tmp_path / "other" / "tiny", seed=9)
    if name == "dataset":
        values["dataset"] = tiny_data(tmp_path / "other" / "data", seed=50)
    before, _, _ = training.prepare(make())
    capsys.readouterr()
    settings = make(**{name: values[name]})
    after, _, _ = training.prepare(settings)
    assert "training it now" in capsys.readouterr().out
    assert not same_weights(before, after) and is_complete(settings.home / "model", settings.identity("model"))


def test_a_torn_model_folder_is_trained_again(make, capsys):
    settings = make()
    training.prepare(settings)
    (settings.home / "model" / "lesson.json").unlink()
    capsys.readouterr()
    training.prepare(settings)
    assert "training it now" in capsys.readouterr().out


def test_a_repository_with_pickled_weights_alone_is_refused(make, tmp_path):
    folder = tiny_model(tmp_path / "pickled")
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises((OSError, LessonError), match="safetensors"):
        training.load_model(make(model=folder), NAMES)


def test_a_giant_model_is_refused_before_its_weights_are_read(make, tmp_path):
    folder = tiny_model(tmp_path / "giant")
    config = read_json(folder / "config.json")
    write_json(folder / "config.json", config | {"vocab_size": 200_000_000})
    (folder / "model.safetensors").unlink()
    with pytest.raises(LessonError, match="giant has .* parameters"):
        training.train(make(model=folder))


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(make):
    models = []
    for number, seed in enumerate((1, 1, 2)):
        torch.manual_seed(number)  # what happened before must not matter
        models.append(training.train(make(seed=seed))[0])
    assert same_weights(models[0], models[1]) and not same_weights(models[0], models[2])


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_arguments_are_those_of_notebook_04(make, tmp_path, monkeypatch, precision):
    settings = make(seed=7, epochs=3)
    monkeypatch.setattr(gpu, "machine", lambda _: {"precision": precision})
    run = checkpoints.Run(settings, precision)
    space = {"settings": settings, "run": run, "gpu": gpu, "torch": torch}
    for name in ("learning", "watching", "machine"):
        exec(cell_with(NOTEBOOKS[3], f"{name} = {{"), space)  # noqa: S102
    shown = TrainingArguments(**space["learning"], **space["watching"], **space["machine"]).to_dict()
    used = training.arguments(settings, tmp_path / "elsewhere", precision).to_dict()
    assert shown.pop("output_dir") != used.pop("output_dir")
    assert {name: (shown[name], used[name]) for name in used if shown[name] != used[name]} == {}
    assert used["seed"] == 7 and used["num_train_epochs"] == 3 and used["per_device_train_batch_size"] == 32


def test_a_run_is_held_until_it_is_cleared(make):
    first, again = checkpoints.Run(make(), "fp32"), checkpoints.Run(make(), "fp32")  # a cell that is run again
    (first.folder / "something").touch()
    assert again.folder == first.folder and again.lock.is_locked
    again.clear()
    assert not first.folder.exists() and not first.lock.is_locked, "other processes may use it now"
    assert checkpoints.Run(make(), "fp32").folder == first.folder


def test_the_metric_script_is_loaded_from_its_file():
    metric = evaluate.load(training.METRIC)
    assert metric.compute(predictions=[1, 0, 1, 1], references=[1, 0, 0, 1]) == {"accuracy": 0.75}


def test_compute_metrics_takes_the_largest_logit():
    logits = np.array([[0.1, 0.9], [2.0, -1.0], [0.0, 0.1], [3.0, 4.0]])
    assert training.compute_metrics((logits, np.array([1, 0, 0, 1]))) == {"accuracy": 0.75}


def test_the_card_shows_final_figures_where_they_are_known(make):
    record = {"development_accuracy_by_epoch": [0.5, 0.75], "best_epoch": 2, "precision": "fp32", "device": "CPU"}
    record["train_seconds"] = 12.0
    results = {"accuracy": 0.7, "accuracy_ci95": [0.6, 0.8], "rows": {"final": 50}, "majority_accuracy": 0.5}
    results["tfidf_accuracy"] = 0.65
    assert "Final accuracy" not in report.model_card(make(), record)
    card = report.model_card(make(), record, results)
    assert "Final accuracy: 0.7000 (95% Wilson interval 0.6000 to 0.8000, 50 rows)" in card
    assert "0.5000, 0.7500; epoch 2 is kept" in card


def test_the_trainer_uses_the_grouped_order(make, tmp_path):
    settings = make(epochs=2)
    splits, tokenizer = tokenization.prepare(settings)
    trainer = training.LengthGroupedTrainer(
        model=AutoModelForSequenceClassification.from_pretrained(settings.model),
        args=training.arguments(settings, tmp_path / "out", "fp32"),
        train_dataset=splits["train"],
        eval_dataset=splits["development"],
        data_collator=training.DataCollatorWithPadding(tokenizer),
    )
    sampler = tokenization.LengthGroupedSampler(tokenization.lengths(splits["train"]), 32, settings.seed)
    loader = trainer.get_train_dataloader()
    for epoch in (0, 1):
        sampler.set_epoch(epoch)
        loader.set_epoch(epoch)
        ids = [row[: row.index(0)] if 0 in row else row for batch in loader for row in batch["input_ids"].tolist()]
        assert ids == [splits["train"][i]["input_ids"] for i in sampler]
