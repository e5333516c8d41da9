"""How the course shares a machine (provisional)."""

import os
import sys

import psutil


def share_processors():
    """Let waiting threads sleep."""
    if "torch" not in sys.modules:
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def busy(seconds: float = 0.3) -> float:
    """Provisional."""
    return 0.0 * psutil.cpu_count()
