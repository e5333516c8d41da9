"""pytest runs everything in the pocket edition, in a folder of its own, unless the environment says otherwise."""

import os
import shutil
import tempfile

import helpers  # noqa: F401  before any test loads PyTorch: it sets how PyTorch's threads wait

# Set before any test or kernel starts: kernels and the workers of pytest-xdist inherit it.
os.environ.setdefault("LESSON_EDITION", "pocket")
if "LESSON_HOME" not in os.environ:
    SCRATCH = tempfile.mkdtemp(prefix="lesson-")
    os.environ["LESSON_HOME"] = os.path.join(SCRATCH, "home")
    os.environ["HF_HOME"] = os.path.join(SCRATCH, "hf")
else:
    SCRATCH = None


def pytest_unconfigure(config):
    """Remove the folder, in the process that made it."""
    if SCRATCH:
        shutil.rmtree(SCRATCH, ignore_errors=True)
