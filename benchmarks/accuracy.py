#!/usr/bin/env python3
"""What does a recipe cost in accuracy? Train it over several seeds, and score each run on the test set.

    python benchmarks/accuracy.py --recipe original --recipe ours --seeds 1 2 3 --train-rows 12000 --epochs 1

Prints one JSON object a run, and appends it to --json PATH. A recipe is "original" (batch 16, learning rate 2e-5,
float32, rows in random order), "ours" (what notebook 04 does here), or one of them with changes:
ours,batch_size=64,learning_rate=1e-4.

The original recipe pads every row to 128 tokens. Here its batches are padded to their longest row instead: the
attention mask hides padding, so the model computes the same (tests/test_benchmarks.py), in a quarter of the time.
"""

import argparse
import contextlib
import dataclasses
import json
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import recipes  # noqa: E402  the benchmark beside this one
import transformers  # noqa: E402
from transformers import DataCollatorWithPadding, PrinterCallback, Trainer  # noqa: E402

from helpers import course, data, evaluation, gpu, models, speed, tokenization, training  # noqa: E402
from helpers.durable.errors import LessonError  # noqa: E402
from helpers.recipe import Recipe  # noqa: E402


def read_recipe(text: str, settings) -> Recipe:
    """Return the recipe that NAME[,FIELD=VALUE,...] names.

    Raises:
        LessonError: there is no such recipe or field, or a value of the wrong kind.
    """
    name, *changes = text.split(",")
    shared = {"epochs": settings.recipe.epochs, "seed": settings.seed}
    known = {
        "original": dataclasses.replace(speed.ORIGINAL, padding="batch", **shared),
        "ours": gpu.choose_recipe(settings),
    }
    if name not in known:
        raise LessonError(f"There is no recipe {name!r}. Choose one of: {', '.join(known)}.", "no-such-recipe")
    recipe = known[name]
    for change in changes:
        field, _, value = change.partition("=")
        try:
            recipe = dataclasses.replace(recipe, **{field: type(getattr(recipe, field))(value)})
        except (AttributeError, ValueError) as error:
            fields = ", ".join(f.name for f in dataclasses.fields(recipe))
            raise LessonError(
                f"{change!r} is no change of a recipe. Write FIELD=VALUE; fields: {fields}.", "no-such-change"
            ) from error
    return recipe


def run(settings, name: str) -> dict:
    """Train one recipe under these settings; return what it was and how it did."""
    recipe = read_recipe(name, settings)
    settings = dataclasses.replace(settings, recipe=recipe)
    tokenized, tokenizer = tokenization.load_or_make(settings)
    labels = data.load_or_make(settings)["test"]["label"][:]
    transformers.set_seed(recipe.seed)
    model = models.load_model(settings, tokenized["train"].features["label"].names, recipe.attention)
    with tempfile.TemporaryDirectory() as folder:
        trainer = (training.LengthGroupedTrainer if recipe.padding == "grouped" else Trainer)(
            model=model,
            args=recipe.arguments(Path(folder), disable_tqdm=True),
            train_dataset=speed.pad_to_max_length(tokenized["train"], tokenizer, recipe),
            eval_dataset=tokenized["validation"],
            processing_class=tokenizer,
            data_collator=DataCollatorWithPadding(tokenizer),
            compute_metrics=training.compute_metrics,
        )
        trainer.remove_callback(PrinterCallback)
        begin = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - begin
        best = training.best_model(trainer)
    probabilities = evaluation.predict_probabilities(best, tokenizer, tokenized["test"], settings.home)
    return {
        "recipe": name,
        "model": settings.model_name,
        "dataset": settings.dataset_name,
        "rows": len(tokenized["train"]),
        "epochs": recipe.epochs,
        "seed": settings.seed,
        "batch_size": recipe.batch_size,
        "learning_rate": recipe.learning_rate,
        "precision": recipe.precision,
        "seconds": round(seconds, 1),
        "samples_per_second": round(recipe.epochs * len(tokenized["train"]) / seconds, 1),
        "validation_accuracy_by_epoch": training.accuracy_by_epoch(trainer.state.log_history),
        "accuracy": float((probabilities.argmax(axis=1) == labels).mean()),
    }


def main() -> int:
    """Run every recipe with every seed; return the exit status: 0, or 2 after an error that the user can mend."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", action="append", dest="recipes", metavar="NAME[,FIELD=VALUE]")
    parser.add_argument("--seeds", type=recipes.positive(int), nargs="+", default=[1, 2, 3])
    parser.add_argument("--train-rows", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=0)
    parser.add_argument("--model", default="")
    parser.add_argument("--dataset", default="")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    form = {name: getattr(asked, name) for name in ("train_rows", "epochs", "model", "dataset")}
    try:
        for seed in asked.seeds:
            for name in asked.recipes or ["original", "ours"]:
                with contextlib.redirect_stdout(sys.stderr):
                    result = run(course.start(seed=seed, **form), name)
                print(json.dumps(result), flush=True)
                if asked.json:
                    with asked.json.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(result) + "\n")
    except (LessonError, OSError) as error:
        print(f"\n{error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
