"""Notebook 01: what the machine can do, in which precision, and how long training will take on it."""

import math
import platform
from dataclasses import dataclass

import torch
from torch.utils.benchmark import Timer
from transformers import AutoConfig, AutoModelForSequenceClassification

from helpers import data, tokenization
from helpers.errors import too_little_memory
from helpers.files import read_json, write_json
from helpers.pretrained import MOST_PARAMETERS, too_large
from helpers.settings import Settings

# A precision must beat float32 by this factor in a matrix multiplication on a CPU before training uses it:
# with bfloat16 instructions it is two to three times as fast, without them slower, so that 1.5 tells the two apart.
WORTH_IT = 1.5
EAGER_FROM = 64  # rows in a batch, on a CPU


@dataclass(frozen=True)
class Device:
    """A processor that can train: `kind` is "cuda" or "cpu"; `capability` e.g. (7, 5), None for a CPU."""

    kind: str
    name: str
    memory_bytes: int | None
    capability: tuple[int, int] | None

    def __str__(self) -> str:
        if self.kind == "cpu":
            return f"CPU ({self.name}), {torch.get_num_threads()} threads"
        version = ".".join(map(str, self.capability))
        return f"{self.name}, {self.memory_bytes / 2**30:.1f} GiB, compute capability {version}"


def find_device() -> Device:
    """Return the first CUDA GPU, or else the CPU."""
    if torch.cuda.is_available():
        found = torch.cuda.get_device_properties(0)
        return Device("cuda", found.name, found.total_memory, (found.major, found.minor))
    return Device("cpu", platform.machine(), None, None)


def matmul_flops(device: str, dtype: torch.dtype, size: int = 1024, seconds: float = 0.3) -> float:
    """Return the floating-point operations a second of a size x size matrix multiplication (2 size^3 operations)."""
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    return 2 * size**3 / median_seconds(lambda: a @ b, seconds)


def median_seconds(work, seconds: float) -> float:
    """Return the median time of work(), run again and again for about `seconds` after a warm-up.

    PyTorch's own timer waits for a GPU to finish, and runs what is quick many times between two looks at the clock.
    """
    timer = Timer("work()", globals={"work": work}, num_threads=torch.get_num_threads())
    return timer.blocked_autorange(min_run_time=seconds).median


def choose_precision(device: Device, float32: float = 1.0, bfloat16: float = 0.0) -> tuple[str, str]:
    """Return the precision for training ("fp32", "fp16" or "bf16") and why, in words.

    Args:
        float32, bfloat16: measured matrix-multiply speeds of a CPU, FLOP/s; not used for a GPU.

    A GPU is judged by its compute capability: `torch.cuda.is_bf16_supported()` says True on a T4 (7.5), which
    only emulates bfloat16 and is slow at it.
    """
    if device.kind == "cuda":
        if device.capability >= (8, 0):
            return "bf16", "compute capability 8.0 or newer multiplies bfloat16 at full speed"
        if device.capability >= (7, 0):
            return "fp16", "its tensor cores multiply float16; bfloat16 would be emulated, slowly"
        return "fp32", "it has no tensor cores"
    if bfloat16 > WORTH_IT * float32:
        return "bf16", f"bfloat16 was measured {bfloat16 / float32:.1f} times as fast as float32 on this CPU"
    return "fp32", "bfloat16 is not clearly faster than float32 on this CPU"


def attention(batch_size: int) -> str:
    """Return the attention implementation that trains faster here: "eager" on a CPU with large batches, else "sdpa".

    With dropout PyTorch's scaled_dot_product_attention has no quick kernel for CPUs, and what it falls back to is slow
    for many rows. Measured with batches of 32 to 256: benchmarks/README.md.
    """
    return "eager" if not torch.cuda.is_available() and batch_size >= EAGER_FROM else "sdpa"


def machine(settings: Settings) -> dict:
    """Return what notebook 01 measured on this machine, measuring it now when it did not run here.

    Returns:
        {"device", "torch", "threads", "float32_flops", "bfloat16_flops", "precision", "why"}.
    """
    device, path = find_device(), settings.home / "machine.json"
    same = {"device": str(device), "torch": torch.__version__, "threads": torch.get_num_threads()}
    known = read_json(path) or {}
    if not same.items() <= known.items():
        speeds = {name: matmul_flops("cpu", getattr(torch, name)) for name in ("float32", "bfloat16")}
        precision, why = choose_precision(device, **speeds)
        known = same | {f"{name}_flops": speed for name, speed in speeds.items()} | {"precision": precision, "why": why}
        write_json(path, known)
    return known


def untrained_model(settings: Settings, device: str = "meta"):
    """Return the model's architecture with random weights; on "meta" it has shapes but takes no memory.

    Raises:
        LessonError: it has 3 billion parameters or more.
    """
    config = AutoConfig.from_pretrained(settings.model, revision=settings.model_revision, num_labels=2)
    options = {"dtype": torch.float32, "attn_implementation": attention(settings.batch_size)}
    with torch.device("meta"):
        model = AutoModelForSequenceClassification.from_config(config, **options)
    if model.num_parameters() >= MOST_PARAMETERS:
        raise too_large(settings, model.num_parameters())
    return model if device == "meta" else AutoModelForSequenceClassification.from_config(config, **options).to(device)


def training_work(settings: Settings) -> dict:
    """Return how much notebook 04 has to compute.

    Returns:
        {"rows", "epochs", "steps" (optimizer steps), "tokens" (mean a row), "parameters" (all of them),
        "multiplied" (those that every token is multiplied by: all but the embedding tables), "flops"}.
        Training costs about 6 operations a token and multiplied parameter: 2 forward, 4 backward
        (Kaplan et al., Scaling Laws for Neural Language Models, 2020, section 2.1).
    """
    train, tokenizer = data.prepare(settings)["train"], tokenization.load_tokenizer(settings)
    sample = train.shuffle(seed=settings.seed).select(range(min(1000, len(train))))
    ids = tokenizer(sample["sentence"][:], truncation=True, max_length=settings.max_length)["input_ids"]
    tokens = sum(map(len, ids)) / len(ids)
    model = untrained_model(settings)
    multiplied = model.num_parameters(exclude_embeddings=True)
    return {
        "rows": len(train),
        "epochs": settings.epochs,
        "steps": settings.epochs * math.ceil(len(train) / settings.batch_size),
        "tokens": tokens,
        "parameters": model.num_parameters(),
        "multiplied": multiplied,
        "flops": 6 * multiplied * tokens * len(train) * settings.epochs,
    }


def step_seconds(settings: Settings, precision: str, tokens: int, seconds: float = 2.0, parts: int = 1) -> float:
    """Return the time of one training step of the untrained model on a batch of random ids `tokens` long.

    Where the GPU's memory is too small for a batch, the time of its parts, as the Trainer of notebook 04 computes it.

    Raises:
        LessonError: the memory is too small for a single sentence.
    """
    kind, rows = find_device().kind, math.ceil(settings.batch_size / parts)
    model = untrained_model(settings, kind).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
    ids = torch.randint(5, model.config.vocab_size, (rows, max(tokens, 2)), device=kind)
    labels = torch.arange(rows, device=kind) % 2
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[precision]

    def step():
        with torch.autocast(kind, dtype, enabled=precision != "fp32"):
            loss = model(input_ids=ids, attention_mask=torch.ones_like(ids), labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)  # as the Trainer does
        optimizer.step()
        optimizer.zero_grad()

    try:
        return parts * median_seconds(step, seconds)
    except torch.OutOfMemoryError as error:
        if rows == 1:
            raise too_little_memory(model, parts) from error
    model.to("meta")  # gives its memory back
    torch.cuda.empty_cache()
    return step_seconds(settings, precision, tokens, seconds, 2 * parts)


def predict(settings: Settings) -> dict:
    """Predict how long notebook 04 trains here: its steps, each as long as a trial step of the same size.

    Returns:
        {"work": see `training_work`, "step_seconds", "predicted_train_seconds", "flops_per_second"}; kept in
        LESSON_HOME/<edition>/prediction.json, and reused while settings and machine are the same.
    """
    here, path = machine(settings), settings.home / "prediction.json"
    identity = settings.identity("model") | {"machine": here["device"], "precision": here["precision"]}
    known = read_json(path)
    if not known or known["identity"] != identity:
        work = training_work(settings)
        step = step_seconds(settings, here["precision"], round(work["tokens"]))
        known = {"identity": identity, "work": work, "step_seconds": step}
        known["predicted_train_seconds"] = step * work["steps"]
        known["flops_per_second"] = work["flops"] / known["predicted_train_seconds"]
        write_json(path, known)
    return known
