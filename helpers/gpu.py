"""Notebook 01: what the machine can do, in which precision, and how long training will take on it."""

import math
import platform
import statistics
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch.utils.benchmark import Timer

from helpers import models, threads
from helpers.durable.errors import LessonError
from helpers.durable.handoff import cached_json
from helpers.recipe import Recipe
from helpers.settings import Settings

# A precision must beat float32 by this factor in a matrix multiplication on a CPU before training uses it:
# with bfloat16 instructions it is two to three times as fast, without them slower, so that 1.5 tells the two apart.
MIN_BF16_SPEEDUP = 1.5
BUSY = 0.25  # share of the processors in use by other programs from which a prediction is not to be trusted


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
    """Return the first CUDA GPU, or else the CPU. (An Apple GPU is not used.)"""
    if torch.cuda.is_available():
        found = torch.cuda.get_device_properties(0)
        return Device("cuda", found.name, found.total_memory, (found.major, found.minor))
    return Device("cpu", cpu_name(), None, None)


def cpu_name() -> str:
    """Return the processor's model and instruction set, e.g. "AMD EPYC, AVX512": two machines can differ in both."""
    model = platform.processor() or platform.machine()
    information = Path("/proc/cpuinfo")
    if information.is_file():
        lines = [line for line in information.read_text().splitlines() if line.startswith("model name")]
        model = lines[0].partition(":")[2].strip() if lines else platform.machine()
    return f"{model}, {torch.backends.cpu.get_cpu_capability()}"


def matmul_flops_per_second(device: str, dtype: torch.dtype, size: int = 1024, seconds: float = 0.3) -> float:
    """Return how many operations a second a size x size matrix multiplication reaches (it takes 2 size^3)."""
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
    if bfloat16 > MIN_BF16_SPEEDUP * float32:
        return "bf16", f"bfloat16 was measured {bfloat16 / float32:.1f} times as fast as float32 on this CPU"
    return "fp32", "bfloat16 is not clearly faster than float32 on this CPU"


def measure_cpu(rounds: int = 3) -> tuple[float, float]:
    """Return the CPU's FLOP/s in float32 and in bfloat16, measured in turns so that both meet the same load.

    Where the rounds do not agree on which precision pays, the machine is busy: as many again follow, up to 12. The
    round with the middle ratio counts.
    """
    found = []
    while len(found) < 12:
        for _ in range(rounds if not found else len(found)):
            kinds = (torch.float32, torch.bfloat16)
            found.append([matmul_flops_per_second("cpu", kind, seconds=0.1) for kind in kinds])
        if len({bfloat16 > MIN_BF16_SPEEDUP * float32 for float32, bfloat16 in found}) == 1:
            break
    middle = statistics.median_low(bfloat16 / float32 for float32, bfloat16 in found)
    return next((float32, bfloat16) for float32, bfloat16 in found if bfloat16 / float32 == middle)


def measure_machine(settings: Settings) -> dict:
    """Return what was measured on this machine under this LESSON_HOME: once, so that all notebooks agree.

    Returns:
        {"device", "float32_flops_per_second", "bfloat16_flops_per_second", "precision", "why"}.
    """
    device = find_device()
    same = {"device": str(device), "torch": torch.__version__, "threads": torch.get_num_threads()}

    def measure() -> dict:
        float32, bfloat16 = measure_cpu()
        precision, why = choose_precision(device, float32, bfloat16)
        speeds = {"float32_flops_per_second": float32, "bfloat16_flops_per_second": bfloat16}
        return {"device": str(device)} | speeds | {"precision": precision, "why": why}

    return cached_json(settings.home / "machine", same, measure)


def choose_recipe(settings: Settings) -> Recipe:
    """Return the settings' recipe with the precision and the attention program that are the fastest on this machine."""
    precision, batch_size = measure_machine(settings)["precision"], settings.recipe.batch_size
    return replace(settings.recipe, precision=precision, attention=models.attention(batch_size))


def count_work(settings: Settings, lengths: list[int]) -> dict:
    """Return how much a training has to compute.

    Args:
        lengths: tokens in each row of the training set.

    Returns:
        {"rows", "epochs", "steps" (optimizer steps), "tokens" (mean a row), "parameters" (all of them),
        "multiplied" (those that every token is multiplied by: all but the embedding tables), "flops"}.
        Training costs about 6 operations a token and multiplied parameter: 2 forward, 4 backward
        (Kaplan et al., Scaling Laws for Neural Language Models, 2020, section 2.1).
    """
    recipe, model = settings.recipe, models.untrained_model(settings)
    multiplied = model.num_parameters(exclude_embeddings=True)
    return {
        "rows": len(lengths),
        "epochs": recipe.epochs,
        "steps": recipe.epochs * math.ceil(len(lengths) / recipe.batch_size),
        "tokens": statistics.fmean(lengths),
        "parameters": model.num_parameters(),
        "multiplied": multiplied,
        "flops": 6 * multiplied * sum(lengths) * recipe.epochs,
    }


def step_seconds(settings: Settings, recipe: Recipe, tokens: int, classes: int = 2, seconds: float = 2.0) -> float:
    """Return the time of one training step of the untrained model on a batch of random ids, each row `tokens` long.

    Where a GPU's memory is too small for a batch, it is computed in halves, as notebook 04's Trainer does.

    Raises:
        LessonError: the memory is too small for a single row.
    """
    kind = find_device().kind
    model = models.untrained_model(settings, classes, kind).train()
    model.set_attn_implementation(recipe.attention)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
    ids = torch.randint(5, model.config.vocab_size, (recipe.batch_size, max(tokens, 2)), device=kind)
    labels = torch.arange(recipe.batch_size, device=kind) % classes
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[recipe.precision]
    parts = 1

    def step():
        for part, answers in zip(ids.chunk(parts), labels.chunk(parts), strict=True):
            with torch.autocast(kind, dtype, enabled=recipe.precision != "fp32"):
                loss = model(input_ids=part, attention_mask=torch.ones_like(part), labels=answers).loss
            loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)  # as the Trainer does
        optimizer.step()
        optimizer.zero_grad()

    while True:
        try:
            return median_seconds(step, seconds)
        except torch.OutOfMemoryError:
            if parts == recipe.batch_size:
                break
            parts = min(2 * parts, recipe.batch_size)
        optimizer.zero_grad()
        torch.cuda.empty_cache()
    raise LessonError(
        f"The GPU's memory is too small for this model ({model.num_parameters():,} parameters), even with one sentence "
        "at a time. End other programs that use the GPU, or choose a smaller model (LESSON_MODEL).",
        "out-of-memory",
    )


def predict_seconds(settings: Settings, lengths: list[int], classes: int = 2) -> dict:
    """Predict how long notebook 04 trains here: its steps, each as long as a trial step of the same size.

    Args:
        lengths: tokens in each row of the training set.
        classes: labels that the model tells apart.

    Returns:
        {"step_seconds", "predicted_train_seconds", "flops_per_second", "busy" (share of the processors that other
        programs took meanwhile, 0 to 1)}; kept in LESSON_HOME/<edition>/prediction, and reused while settings and
        machine are the same, unless the machine was busy when it was made.
    """
    recipe, work = choose_recipe(settings), count_work(settings, lengths)

    def measure() -> dict:
        busy = threads.busy()
        step = step_seconds(settings, recipe, round(work["tokens"]), classes)
        total = step * work["steps"]
        return {
            "step_seconds": step,
            "predicted_train_seconds": total,
            "flops_per_second": work["flops"] / total,
            "busy": busy,
        }

    same = settings.fingerprint("model") | {"device": str(find_device()), "precision": recipe.precision}
    return cached_json(settings.home / "prediction", same, measure, lambda known: known["busy"] < BUSY)


def describe_load(busy: float) -> str:
    """Return in a sentence what other programs on this machine mean for a prediction."""
    if busy < BUSY:
        return "The machine is quiet: nothing else takes much of its time."
    return f"Other programs take {busy:.0%} of this machine: all will be slower than on a quiet one, and less certain."
