"""PyTorch beside other programs, and beside several GPUs: set before it is loaded. And how busy the others are."""

import os
import sys
import time
from pathlib import Path

# GNU OpenMP reads this once, when PyTorch is loaded. Its own default is to spin for milliseconds at every wait: two
# trainings then wait for threads whose core the other one's spinning keeps. A thousand turns take microseconds: long
# enough for the next piece of work, short enough for a neighbour. Measured: benchmarks/README.md. PyTorch for macOS
# and Windows brings another OpenMP, with which nothing was measured: it is left alone.
POLITE = {"GOMP_SPINCOUNT": "1000"} if sys.platform == "linux" else {}
KNOWN = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "KMP_LIBRARY")  # how a user says how to wait


def be_polite() -> str:
    """Let the threads of a PyTorch that is loaded from now on, here or in a child process, spin only briefly.

    Returns:
        "polite": so it is. "yours": the environment says how to wait; it is left alone. "too late": PyTorch is loaded
        already; nothing is changed, because it would not hear.
    """
    if POLITE.items() <= os.environ.items():
        return "polite"  # set before, by this function or in the parent process
    if any(name in os.environ for name in KNOWN):
        return "yours"
    if "torch" in sys.modules:
        return "too late"
    os.environ.update(POLITE)
    return "polite"


def count_gpus() -> int:
    """Return how many NVIDIA GPUs this machine has, seen or hidden, without loading PyTorch. (Linux only: else 0.)"""
    return len(list(Path("/proc/driver/nvidia/gpus").glob("*")))


def use_one_gpu() -> None:
    """Let this process see the first GPU alone, unless the user or a launcher has said which ones it should see.

    On two GPUs (Kaggle) transformers' Trainer would else copy the model to both and train with batches twice as large,
    without a word: another recipe. Several are used properly by `accelerate launch -m helpers train`.
    """
    if count_gpus() > 1 and "LOCAL_RANK" not in os.environ:
        os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")


def busy(seconds: float = 0.3) -> float:
    """Return the share of all CPU cores, 0 to 1, that other processes use; it is watched for so many seconds.

    This process's own work does not count; that of its child processes does.
    """
    import psutil  # comes with accelerate; loaded here, so that the environment is set first and quickly

    mine = psutil.Process()
    begin, before = time.perf_counter(), sum(mine.cpu_times()[:2])
    everybody = psutil.cpu_percent(seconds) / 100
    own = (sum(mine.cpu_times()[:2]) - before) / (time.perf_counter() - begin) / psutil.cpu_count()
    return min(1.0, max(0.0, everybody - own))
