"""Which pretrained models will do, found out before their weights are downloaded."""

import json
import math
from pathlib import Path

from huggingface_hub import HfApi, try_to_load_from_cache
from huggingface_hub.constants import SAFETENSORS_INDEX_FILE, SAFETENSORS_SINGLE_FILE
from safetensors import safe_open
from transformers import AutoConfig, AutoTokenizer

from helpers.errors import explain, first_line
from helpers.files import LessonError
from helpers.settings import Settings

MOST_PARAMETERS = 3_000_000_000
PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
OTHER = "Choose another with LESSON_MODEL, or leave LESSON_MODEL out."


def check(settings: Settings) -> None:
    """Make sure that the course can train this model. Downloads its description and its tokenizer at most.

    Raises:
        LessonError: it cannot be read, needs code of its own, has no safetensors weights, has 3 billion parameters or
            more, or its tokenizer has no padding token.
    """
    safe = {"revision": settings.model_revision, "trust_remote_code": False}
    try:
        config = AutoConfig.from_pretrained(settings.model, **safe)
        tokenizer = AutoTokenizer.from_pretrained(settings.model, **safe)
    except Exception as error:
        raise explain(error) or unreadable(settings, error) from error
    check_tokenizer(settings, tokenizer)
    known = getattr(config, "vocab_size", None) or len(tokenizer)
    if len(tokenizer) > known:
        raise LessonError(
            f"The tokenizer of {settings.model_name} has {len(tokenizer):,} tokens and the model knows {known:,}: they "
            f"do not belong together. {OTHER}"
        )
    count = parameters(settings)
    if count >= MOST_PARAMETERS:
        raise too_large(settings, count)


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
            "Choose a model of the BERT family, such as the default one."
        )


def too_large(settings: Settings, count: int) -> LessonError:
    """Return the error for a model of so many parameters."""
    return LessonError(
        f"{settings.model_name} has {count:,} parameters; this course trains models below "
        f"{MOST_PARAMETERS:,}. Choose a smaller one with LESSON_MODEL. Nothing was downloaded but its description."
    )


def unreadable(settings: Settings, error: Exception) -> LessonError:
    """Return the error for a model whose description or tokenizer cannot be loaded."""
    if "trust_remote_code" in str(error):
        return LessonError(
            f"{settings.model_name} works only with Python code from its repository, which would run on this machine "
            f"with all your rights. This course never runs such code. {OTHER}"
        )
    return LessonError(f"{settings.model_name} cannot be read as a model ({first_line(error)}). {OTHER}")


def parameters(settings: Settings) -> int:
    """Return how many parameters the weights have, from the headers of their files: on disk, or else on the Hub.

    Raises:
        LessonError: there are no safetensors files, or one is damaged.
    """
    name, revision = settings.model, settings.model_revision
    try:
        shards = shards_on_disk(settings)
        if shards:
            return sum(map(count_in, shards))
        if revision:
            found = [file.rfilename for file in HfApi().model_info(name, revision=revision).siblings]
            if SAFETENSORS_SINGLE_FILE in found or SAFETENSORS_INDEX_FILE in found:
                return sum(HfApi().get_safetensors_metadata(name, revision=revision).parameter_count.values())
        else:
            found = [path.name for path in Path(name).iterdir()]
    except Exception as error:
        raise explain(error) or LessonError(
            f"The weights of {settings.model_name} cannot be read ({first_line(error)}): a file is damaged or missing. "
            f"Copy or download it again. {OTHER}"
        ) from error
    pickled = next((file for file in found if file.endswith(PICKLED)), None)
    why = "has no weights"
    if pickled:
        why = f"offers its weights only in {pickled}, a kind of file that can run any program when it is opened"
    raise LessonError(f"{settings.model_name} {why}. This course reads {SAFETENSORS_SINGLE_FILE} alone. {OTHER}")


def shards_on_disk(settings: Settings) -> set[Path]:
    """Return the weight files of a folder, or those in the Hub's cache when all are there; an empty set otherwise."""
    for name in (SAFETENSORS_SINGLE_FILE, SAFETENSORS_INDEX_FILE):
        if settings.model_revision:
            path = try_to_load_from_cache(settings.model, name, revision=settings.model_revision)
        else:
            path = str(Path(settings.model, name))
        if not isinstance(path, str) or not Path(path).is_file():
            continue
        if name == SAFETENSORS_SINGLE_FILE:
            return {Path(path)}
        index = json.loads(Path(path).read_text(encoding="utf-8"))
        shards = {Path(path).with_name(shard) for shard in index["weight_map"].values()}
        if settings.model_revision is None or all(shard.is_file() for shard in shards):
            return shards
    return set()


def count_in(path: Path) -> int:
    """Return the number of parameters in a safetensors file, from its header."""
    with safe_open(path, framework="pt") as file:
        return sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118
