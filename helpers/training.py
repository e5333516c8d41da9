"""Notebook 04: train the model, keep its best epoch, and leave it for notebook 05."""

import time
from pathlib import Path

import evaluate
import numpy as np
import torch
import transformers
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from huggingface_hub import EvalResult, ModelCardData
from transformers import AutoTokenizer, DataCollatorWithPadding, TrainingArguments

from helpers import gpu, models, tokenization
from helpers.durable import handoff
from helpers.durable.checkpoints import CheckpointFolder, ResumableTrainer
from helpers.durable.errors import LessonError
from helpers.durable.files import CARD, read_json, write_json, write_text
from helpers.recipe import Recipe
from helpers.settings import Settings

METRIC = str(Path(__file__).with_name("metrics") / "accuracy.py")


def distributed_state() -> PartialState:
    """Return accelerate's view of the processes of this run: one, or several under `accelerate launch`."""
    return PartialState(cpu=not torch.cuda.is_available())


def share(value):
    """Return the first process's value in every process."""
    values = [value]
    if distributed_state().num_processes > 1:
        broadcast_object_list(values)
    return values[0]


def finish_together() -> None:
    """Let several processes end together: one that leaves while its connections are open can abort."""
    state = distributed_state()
    if state.num_processes > 1:
        state.wait_for_everyone()
        state.destroy_process_group()


class LengthGroupedTrainer(ResumableTrainer):
    """A Trainer whose training batches hold sentences of similar length, in an order fixed by seed and epoch."""

    def _get_train_sampler(self, train_dataset=None):
        train_dataset = self.train_dataset if train_dataset is None else train_dataset
        batch = self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size
        return tokenization.LengthGroupedSampler(tokenization.lengths(train_dataset), batch, self.args.seed)


def compute_metrics(predictions) -> dict:
    """Return {"accuracy": ...} for the Trainer's (logits, labels)."""
    logits, labels = predictions
    return evaluate.load(METRIC).compute(predictions=np.argmax(logits, axis=-1), references=labels)


def checkpoint_folder(settings: Settings, recipe: Recipe, name: str = "main") -> CheckpointFolder:
    """Return the folder for the checkpoints of one training: of this model and data, by this recipe."""
    key = settings.fingerprint("model") | recipe.key()
    return CheckpointFolder(settings.home / "checkpoints", key, name)


def best_model(trainer: ResumableTrainer):
    """Return the checkpoint with the best validation accuracy, read back from its files.

    `load_best_model_at_end=True` is not used: for weights whose Hub file has old names (distilbert-base-uncased's
    LayerNorm.gamma and .beta) it warns of "missing keys" and leaves those weights at the last epoch.
    """
    return models.read_model(Path(trainer.args.output_dir) / f"checkpoint-{trainer.state.best_global_step}")


def accuracy_by_epoch(history: list[dict]) -> list[float]:
    """Return the validation accuracy after each epoch, from a Trainer's log_history."""
    return [entry["eval_accuracy"] for entry in history if "eval_accuracy" in entry]


def hyperparameters(args: TrainingArguments) -> dict:
    """Return what a training really used, whatever the settings say: a notebook's reader may have changed it."""
    batch_size = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
    names = ("learning_rate", "warmup_steps", "weight_decay", "seed")
    return {"epochs": args.num_train_epochs, "batch_size": batch_size} | {name: getattr(args, name) for name in names}


def summarize(trainer: ResumableTrainer, predicted_seconds: float) -> dict:
    """Return what is worth keeping of a finished training: times in seconds, sizes, and the whole log_history.

    A training that was interrupted has taken the time up to the checkpoint that it continued from, and from there on.

    Args:
        predicted_seconds: what notebook 01 foretold.
    """
    history, state = trainer.state.log_history, trainer.state
    last = next(entry for entry in reversed(history) if "train_runtime" in entry)
    seconds = trainer.seconds_before + last["train_runtime"]
    used = hyperparameters(trainer.args)
    return {
        "train_seconds": seconds,
        "saving_seconds": trainer.saving_seconds,
        "samples_per_second": used["epochs"] * len(trainer.train_dataset) / seconds,
        "predicted_train_seconds": predicted_seconds,
        "hyperparameters": used,
        "precision": next((name for name in ("bf16", "fp16") if getattr(trainer.args, name)), "fp32"),
        "device": str(gpu.find_device()),
        "parameters": trainer.model.num_parameters(),
        "validation_accuracy_by_epoch": accuracy_by_epoch(history),
        "best_epoch": 1 + int(np.argmax(accuracy_by_epoch(history))),
        "steps": state.global_step,
        "log_history": history,
    }


def train(settings: Settings):
    """Do what notebook 04 does. Returns (the best epoch's model, tokenizer, summary).

    A training that was interrupted is continued from its latest whole checkpoint. Under `accelerate launch` every
    process calls this; the first one prepares the data and writes the files.
    """
    state = distributed_state()
    with state.main_process_first():
        tokenized, tokenizer = tokenization.load_or_make(settings)
        recipe, classes = gpu.choose_recipe(settings), tokenized["train"].features["label"].names
        lengths = tokenization.lengths(tokenized["train"])
        predicted = gpu.predict_seconds(settings, lengths, len(classes)) if state.is_main_process else None
    run = checkpoint_folder(settings, recipe) if state.is_main_process else None
    folder, checkpoint = share((str(run.folder), run.latest()) if run else None)
    transformers.set_seed(recipe.seed)
    trainer = LengthGroupedTrainer(
        model=models.load_model(settings, classes, recipe.attention),
        args=recipe.arguments(Path(folder)),
        train_dataset=tokenized["train"],
        eval_dataset=tokenized["validation"],
        processing_class=tokenizer,
        data_collator=DataCollatorWithPadding(tokenizer),
        compute_metrics=compute_metrics,
    )
    trainer.train(resume_from_checkpoint=checkpoint)
    state.wait_for_everyone()
    model = best_model(trainer)
    summary = summarize(trainer, predicted["predicted_train_seconds"]) if run else None
    state.wait_for_everyone()
    if run:
        save(settings, model, tokenizer, summary)
        run.clear()
    return model, tokenizer, summary


def save(settings: Settings, model, tokenizer, summary: dict) -> Path:
    """Leave model, tokenizer, summary and card in LESSON_HOME/<edition>/model, whole or not at all. Returns the folder.

    Raises:
        LessonError: the disk is full.
    """

    def make(folder: Path) -> None:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        write_json(folder / "training.json", summary)
        write_text(folder / CARD, model_card(settings, summary))

    return handoff.save(settings.home / "model", settings.fingerprint("model"), make)


def load(folder: Path):
    """Return (model, tokenizer, summary) from a folder that `save` has written."""
    return models.read_model(folder), AutoTokenizer.from_pretrained(folder), read_json(folder / "training.json")


def load_or_train(settings: Settings):
    """Return (model, tokenizer, summary) that notebook 04 left; train first when they are not there. Says which.

    Where another process is training by the same recipe, its model is waited for.

    Raises:
        LessonError: as `train` does; or another process put a model of other settings in this one's place just now.
    """
    state, place = distributed_state(), (settings.home / "model", settings.fingerprint("model"))
    found = handoff.load(*place, load) if state.is_main_process else None
    if state.is_main_process and found is None:
        run = checkpoint_folder(settings, gpu.choose_recipe(settings))  # waits while another process trains
        found = handoff.load(*place, load)
        if found:
            run.clear()
    if share(found is None):
        state.print("There is no model yet for these settings: training it now, as notebook 4 does.", flush=True)
        begin = time.perf_counter()
        found = train(settings)  # what it returns is what it saved; another process may replace that at any time
        state.print(f"Trained in {time.perf_counter() - begin:.0f} seconds.", flush=True)
    found = found or handoff.load(*place, load)
    if found is None:
        raise LessonError(
            "The model that was there has just been replaced by one of other settings: another notebook or command "
            "uses the same LESSON_HOME. Run this again.",
            "model-replaced",
        )
    return found


def model_card(settings: Settings, summary: dict, results: dict | None = None) -> str:
    """Return the text of the model's README.md; with notebook 05's results where they are known.

    Its head is what the Hub reads (`huggingface_hub.ModelCardData`).
    """
    name, used = f"{settings.model_name}, fine-tuned on {settings.dataset_name}", summary["hyperparameters"]
    facts = {"pipeline_tag": "text-classification", "library_name": "transformers"}
    if settings.model_revision:
        facts["base_model"] = settings.model
    if settings.dataset_revision:
        facts["datasets"] = [settings.dataset]
    if results:
        facts["model_name"] = name
        facts["eval_results"] = [
            EvalResult(
                task_type="text-classification",
                dataset_type=settings.dataset_name,
                dataset_name=settings.dataset_name,
                metric_type="accuracy",
                metric_value=results["accuracy"],
            )
        ]
    scores = ", ".join(f"{score:.4f}" for score in summary["validation_accuracy_by_epoch"])
    lines = [
        f"---\n{ModelCardData(**facts)}\n---\n",
        f"# {name}\n",
        f"- Base model: {settings.model_name}, revision {settings.model_revision or 'a local folder'}",
        f"- Data: {settings.dataset_name}, revision {settings.dataset_revision or 'a local folder'}; "
        f"training rows: {settings.train_rows or 'all'}",
        f"- Hyperparameters: {used['epochs']:g} epochs, batch {used['batch_size']}, learning rate "
        f"{used['learning_rate']:g} (warm-up {used['warmup_steps']:g}, then linear to 0), weight decay "
        f"{used['weight_decay']}, {summary['precision']}, seed {used['seed']}",
        f"- Training time: {summary['train_seconds']:.0f} s on {summary['device']}",
        f"- Validation accuracy by epoch: {scores}; epoch {summary['best_epoch']} is kept",
    ]
    if results:
        low, high = results["accuracy_ci95"]
        lines.append(
            f"- Test accuracy: {results['accuracy']:.4f} (95% Wilson interval {low:.4f} to {high:.4f}, "
            f"{results['rows']['test']} rows); majority class {results['majority_accuracy']:.4f}, "
            f"TF-IDF + logistic regression {results['tfidf_accuracy']:.4f}"
        )
    lines.append("\nMade in a course, for learning. Do not let it judge people or their words unread.\n")
    return "\n".join(lines)
