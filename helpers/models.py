"""Models: will this one do, its tokenizer, the model with a new head, and its untrained twin."""

import json
from pathlib import Path

import torch
from huggingface_hub import HfApi, try_to_load_from_cache
from safetensors import safe_open
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer, PreTrainedTokenizerBase

from helpers.durable.errors import LessonError, explain, first_line
from helpers.settings import EDITIONS, SHIPPED_NAMES, Settings

MAX_PARAMETERS = 3_000_000_000
SAFE = ("model.safetensors", "model.safetensors.index.json")
PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
OTHER = "Choose another with LESSON_MODEL, or leave LESSON_MODEL out."
EAGER_MIN_BATCH = 64  # rows in a batch, on a CPU


def check(settings: Settings) -> None:
    """Make sure that the course can train this model. Downloads its description and its tokenizer at most.

    The course's own models are known to do.

    Raises:
        LessonError: it cannot be read, needs code of its own, has no safetensors weights, has 3 billion parameters or
            more, or its tokenizer has no padding token.
    """
    if f"{settings.model}@{settings.model_revision}" == EDITIONS["full"]["model"] or settings.model in SHIPPED_NAMES:
        return
    try:
        config = AutoConfig.from_pretrained(settings.model, **source(settings))
        tokenizer = AutoTokenizer.from_pretrained(settings.model, **source(settings))
    except Exception as error:
        raise explain(error) or unreadable(settings, error) from error
    check_tokenizer(settings, tokenizer)
    known = getattr(config, "vocab_size", None) or len(tokenizer)
    if len(tokenizer) > known:
        raise LessonError(
            f"The tokenizer of {settings.model_name} has {len(tokenizer):,} tokens and the model knows {known:,}: they "
            f"do not belong together. {OTHER}",
            "other-tokenizer",
        )
    check_size(settings, untrained_model(settings).num_parameters())
    check_weights(settings)


def source(settings: Settings) -> dict:
    """Return the arguments with which everything of a model is loaded: its commit, and no code of its own."""
    return {"revision": settings.model_revision, "trust_remote_code": False}


def check_tokenizer(settings: Settings, tokenizer) -> None:
    """Make sure that the tokenizer can make batches of sentences.

    Raises:
        LessonError: it has no padding token, so that sentences of different length cannot share a batch; or no
            vocabulary (transformers makes such a tokenizer where the files are missing).
    """
    if tokenizer.pad_token is None or len(tokenizer) <= len(tokenizer.all_special_tokens):
        what = "padding token" if tokenizer.pad_token is None else "vocabulary: its tokenizer.json is missing"
        raise LessonError(
            f"The tokenizer of {settings.model_name} has no {what}. "
            "Choose a model of the BERT family, such as the default one.",
            "no-padding" if tokenizer.pad_token is None else "no-vocabulary",
        )


def check_size(settings: Settings, parameters: int) -> None:
    """Make sure that a model is small.

    Raises:
        LessonError: it has 3 billion parameters or more.
    """
    if parameters >= MAX_PARAMETERS:
        raise LessonError(
            f"{settings.model_name} has {parameters:,} parameters; this course trains models below "
            f"{MAX_PARAMETERS:,}. Choose a smaller one with LESSON_MODEL. Nothing was downloaded but its description.",
            "too-large",
        )


def check_weights(settings: Settings) -> None:
    """Make sure, before they are downloaded, that there are weights in safetensors files, and not too many.

    A model's description can be wrong: the Hub counts what is in the files.

    Raises:
        LessonError: there are none, or they are damaged, or have 3 billion parameters or more.
    """
    name, revision = settings.model, settings.model_revision
    try:
        if revision is None:
            found, index = [path.name for path in Path(name).iterdir()], Path(name) / SAFE[1]
            parts = json.loads(index.read_text())["weight_map"].values() if index.is_file() else ()
            for file in {*parts, *(file for file in found if file.endswith(".safetensors"))}:
                with safe_open(Path(name) / file, "pt"):
                    pass
        elif any(isinstance(try_to_load_from_cache(name, file, revision=revision), str) for file in SAFE):
            return  # they have been downloaded
        else:
            about = HfApi().model_info(name, revision=revision)
            found = [file.rfilename for file in about.siblings]
            check_size(settings, about.safetensors.total if about.safetensors else 0)
    except Exception as error:
        raise explain(error) or unreadable(settings, error) from error
    if not set(SAFE).intersection(found):
        pickled = next((file for file in found if file.endswith(PICKLED)), None)
        why = "has no weights"
        if pickled:
            why = f"offers its weights only in {pickled}, a kind of file that can run any program when it is opened"
        raise LessonError(f"{settings.model_name} {why}. This course reads {SAFE[0]} alone. {OTHER}", "no-safetensors")


def unreadable(settings: Settings, error: Exception) -> LessonError:
    """Return the error for a model whose description, tokenizer or weights cannot be loaded."""
    if "trust_remote_code" in str(error):
        return LessonError(
            f"{settings.model_name} works only with Python code from its repository, which would run on this machine "
            f"with all your rights. This course never runs such code. {OTHER}",
            "remote-code",
        )
    return LessonError(
        f"{settings.model_name} cannot be read as a model ({first_line(error)}): a file is damaged or missing, or it "
        f"is of another kind. {OTHER}",
        "model-unreadable",
    )


def load_tokenizer(settings: Settings) -> PreTrainedTokenizerBase:
    """Return the tokenizer that belongs to the model.

    Raises:
        LessonError: it cannot be read, or has no padding token, so that sentences of different length cannot share a
            batch, or no words.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(settings.model, **source(settings))
    except Exception as error:
        raise explain(error) or unreadable(settings, error) from error
    check_tokenizer(settings, tokenizer)
    return tokenizer


def attention(batch_size: int) -> str:
    """Return the attention implementation that trains faster here: "eager" on a CPU with large batches, else "sdpa".

    With dropout PyTorch's scaled_dot_product_attention has no quick kernel for CPUs, and what it falls back to is slow
    for many rows. Measured with batches of 32 to 256: benchmarks/README.md.
    """
    return "eager" if not torch.cuda.is_available() and batch_size >= EAGER_MIN_BATCH else "sdpa"


def load_model(settings: Settings, classes: list[str], attention: str = "sdpa"):
    """Return the pretrained model in float32 with a new head that has one output a class.

    Args:
        attention: a recipe's: "sdpa" or "eager".

    Raises:
        LessonError: its weights cannot be read.
    """
    names = dict(enumerate(classes))
    try:
        return AutoModelForSequenceClassification.from_pretrained(
            settings.model,
            revision=settings.model_revision,
            dtype=torch.float32,
            use_safetensors=True,
            attn_implementation=attention,
            id2label=names,
            label2id={name: number for number, name in names.items()},
        )
    except Exception as error:
        raise explain(error) or unreadable(settings, error) from error


def read_model(folder):
    """Return the model that a training saved in a folder, in float32."""
    return AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32, use_safetensors=True)


def untrained_model(settings: Settings, classes: int = 2, device: str = "meta"):
    """Return the model's architecture with random weights; on "meta" it has shapes but takes no memory.

    Raises:
        LessonError: transformers cannot build it for classification, or it has 3 billion parameters or more.
    """
    try:
        config = AutoConfig.from_pretrained(settings.model, num_labels=classes, **source(settings))
        options = {"dtype": torch.float32, "attn_implementation": attention(settings.recipe.batch_size)}
        with torch.device("meta"):
            model = AutoModelForSequenceClassification.from_config(config, **options)
    except Exception as error:
        raise explain(error) or unreadable(settings, error) from error
    check_size(settings, model.num_parameters())
    return model if device == "meta" else AutoModelForSequenceClassification.from_config(config, **options).to(device)
