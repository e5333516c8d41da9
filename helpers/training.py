"""Notebook 04: train the model, keep its best epoch, and leave it for notebook 05."""

import time
from contextlib import nullcontext
from pathlib import Path

import evaluate
import numpy as np
import torch
import transformers
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from transformers import AutoModelForSequenceClassification, DataCollatorWithPadding, TrainingArguments

from helpers import checkpoints, gpu, report, resumable, tokenization
from helpers.files import is_complete, lock, read_json, replace_folder, write_json, write_text
from helpers.settings import Settings

METRIC = str(Path(__file__).with_name("accuracy.py"))


def processes() -> PartialState:
    """Return accelerate's view of the processes of this run: one, or several under `accelerate launch`."""
    return PartialState(cpu=not torch.cuda.is_available())


class LengthGroupedTrainer(resumable.ResumableTrainer):
    """A Trainer whose training batches hold sentences of similar length, in an order fixed by seed and epoch."""

    def _get_train_sampler(self, train_dataset=None):
        train_dataset = self.train_dataset if train_dataset is None else train_dataset
        batch = self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size
        return tokenization.LengthGroupedSampler(tokenization.lengths(train_dataset), batch, self.args.seed)


def part(state: PartialState) -> None:
    """Let several processes end together: one that leaves while its connections are open can abort."""
    if state.num_processes > 1:
        state.wait_for_everyone()
        state.destroy_process_group()


def load_model(settings: Settings, classes: list[str]):
    """Return the pretrained model in float32 with a new head that has one output a class."""
    names = dict(enumerate(classes))
    return AutoModelForSequenceClassification.from_pretrained(
        settings.model, revision=settings.model_revision, dtype=torch.float32, use_safetensors=True,
        attn_implementation=gpu.attention(settings.batch_size),
        id2label=names, label2id={name: number for number, name in names.items()},
    )  # fmt: skip


def compute_metrics(predictions) -> dict:
    """Return {"accuracy": ...} for the Trainer's (logits, labels)."""
    logits, labels = predictions
    return evaluate.load(METRIC).compute(predictions=np.argmax(logits, axis=-1), references=labels)


def arguments(settings: Settings, folder: Path, precision: str) -> TrainingArguments:
    """Return the course's TrainingArguments. `batch_size` is shared out among the processes of one run."""
    return TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=settings.epochs,
        per_device_train_batch_size=max(1, settings.batch_size // processes().num_processes),
        per_device_eval_batch_size=128,
        learning_rate=settings.learning_rate,
        warmup_steps=settings.warmup,
        weight_decay=settings.weight_decay,
        optim="adamw_torch_fused",
        bf16=precision == "bf16",
        fp16=precision == "fp16",
        eval_strategy="epoch",
        save_strategy="epoch",
        metric_for_best_model="accuracy",
        logging_steps=0.05,
        seed=settings.seed,
        report_to="none",
        use_cpu=not torch.cuda.is_available(),
        dataloader_pin_memory=torch.cuda.is_available(),
    )


def best_model(trainer: LengthGroupedTrainer):
    """Return the checkpoint with the best development accuracy, read back from its files.

    `load_best_model_at_end=True` is not used: for weights whose Hub file has old names (distilbert-base-uncased's
    LayerNorm.gamma and .beta) it warns of "missing keys" and leaves those weights at the last epoch.
    """
    folder = Path(trainer.args.output_dir) / f"checkpoint-{trainer.state.best_global_step}"
    return AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32, use_safetensors=True)


def accuracy_by_epoch(history: list[dict]) -> list[float]:
    """Return the development accuracy after each epoch, from a Trainer's log_history."""
    return [entry["eval_accuracy"] for entry in history if "eval_accuracy" in entry]


def record(settings: Settings, trainer: LengthGroupedTrainer, precision: str) -> dict:
    """Return what is worth keeping of a finished training: times in seconds, sizes, and the whole log_history.

    A training that was interrupted has taken the time up to the checkpoint that it continued from, and from there on.
    """
    history, state = trainer.state.log_history, trainer.state
    last = next(entry for entry in reversed(history) if "train_runtime" in entry)
    seconds = trainer.seconds_before + last["train_runtime"]
    predicted = read_json(settings.home / "prediction.json") or {}
    return {
        "train_seconds": seconds,
        "saving_seconds": trainer.saving_seconds,
        "samples_per_second": settings.epochs * len(trainer.train_dataset) / seconds,
        "predicted_train_seconds": predicted.get("predicted_train_seconds"),
        "precision": precision,
        "device": str(gpu.find_device()),
        "parameters": trainer.model.num_parameters(),
        "development_accuracy_by_epoch": accuracy_by_epoch(history),
        "best_epoch": 1 + int(np.argmax(accuracy_by_epoch(history))),
        "steps": state.global_step,
        "log_history": history,
    }


def keep(settings: Settings, model, tokenizer, training: dict) -> Path:
    """Leave model, tokenizer, record and card in LESSON_HOME/<edition>/model, whole or not at all. Returns the folder.

    Raises:
        LessonError: the disk is full.
    """
    folder = settings.home / "model"
    with lock(folder), replace_folder(folder, settings.identity("model")) as aside:
        model.save_pretrained(aside)
        tokenizer.save_pretrained(aside)
        write_json(aside / "training.json", training)
        write_text(aside / "README.md", report.model_card(settings, training))
    return folder


def train(settings: Settings):
    """Do what notebook 04 does. Returns (the best epoch's model, tokenizer, record); the model is also kept.

    A training that was interrupted is continued from its newest whole checkpoint. Under `accelerate launch` every
    process calls this; the first one prepares the data and writes the files.
    """
    state = processes()
    with state.main_process_first():
        splits, tokenizer = tokenization.prepare(settings)
        precision = gpu.machine(settings)["precision"]
        if state.is_main_process:
            gpu.predict(settings)
            run = checkpoints.Run(settings, precision)
    agreed = [str(run.folder), run.newest()] if state.is_main_process else [None, None]
    if state.num_processes > 1:
        broadcast_object_list(agreed)
    transformers.set_seed(settings.seed)
    trainer = LengthGroupedTrainer(
        model=load_model(settings, splits["train"].features["label"].names),
        args=arguments(settings, Path(agreed[0]), precision),
        train_dataset=splits["train"],
        eval_dataset=splits["development"],
        processing_class=tokenizer,
        data_collator=DataCollatorWithPadding(tokenizer),
        compute_metrics=compute_metrics,
    )
    trainer.train(resume_from_checkpoint=agreed[1])
    state.wait_for_everyone()
    model, training = best_model(trainer), record(settings, trainer, precision)
    state.wait_for_everyone()
    if state.is_main_process:
        keep(settings, model, tokenizer, training)
        run.clear()
    return model, tokenizer, training


def prepare(settings: Settings):
    """Return (model, tokenizer, record) that notebook 04 left; train first when they are not there. Says which."""
    folder, state = settings.home / "model", processes()
    with lock(folder) if state.is_main_process else nullcontext():
        ready = [is_complete(folder, settings.identity("model"))]
        if state.num_processes > 1:
            broadcast_object_list(ready)  # all processes train, or none
        if not ready[0]:
            state.print("Notebook 04 has left no model for these settings: training it now.", flush=True)
            begin = time.perf_counter()
            made = train(settings)
            state.print(f"Trained in {time.perf_counter() - begin:.0f} seconds.", flush=True)
            return made
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32, use_safetensors=True)
    return model, tokenization.AutoTokenizer.from_pretrained(folder), read_json(folder / "training.json")
