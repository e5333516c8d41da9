"""What notebook 04 saves while it trains: checkpoints that are whole or never used, and belong to their settings."""

import hashlib
import itertools
import json
import os
import shutil
from pathlib import Path

import torch
from filelock import Timeout
from safetensors import safe_open
from transformers.trainer_pt_utils import safe_globals

from helpers import colab
from helpers.files import DRIVE, lock, read_json, write_json
from helpers.settings import Settings

MANIFEST = "complete.json"  # inside a checkpoint, written last: the size of each of its files
SAVE_EVERY = 45  # seconds between two checkpoints: the most that a kill costs where saving is quick


class Run:
    """The folder of one training's checkpoints, held by one process until `clear` or until that process ends.

    The folder's name is made from the settings, so that the checkpoints of another model, data set, seed or recipe are
    never continued. A second process with the same settings gets a folder of its own. Of the folders that nobody
    holds, the one whose training came furthest is taken.
    """

    def __init__(self, settings: Settings, precision: str, name: str = "main"):
        identity = settings.identity("model") | {"precision": precision, "cuda": torch.cuda.is_available()}
        identity |= {"processes": int(os.environ.get("WORLD_SIZE", 1))}
        key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:12]
        folder = settings.home / "checkpoints"
        known = [path for path in folder.glob(f"{name}-{key}-*") if path.is_dir()]
        known.sort(key=lambda path: max((step for step, _ in saved(path)), default=0), reverse=True)
        for self.folder in itertools.chain(known, (folder / f"{name}-{key}-{n}" for n in itertools.count(1))):
            self.lock = lock(self.folder)
            try:
                self.lock.acquire(blocking=False)
                break
            except Timeout:  # another process is training with these settings right now
                continue
        self.folder.mkdir(parents=True, exist_ok=True)

    def newest(self) -> str | None:
        """Return the newest whole checkpoint, for `trainer.train`, or None; say which, and what was skipped and why.

        What is damaged is removed, so that it takes no room.
        """
        for step, folder in reversed(saved(self.folder)):
            problem = damage(folder)
            if problem is None:
                steps = read_json(folder / "trainer_state.json")["max_steps"]
                print(f"Continuing after step {step:,} of {steps:,}, from {folder.name}.", flush=True)
                return str(folder)
            print(f"Skipped {folder.name}: {problem}.", flush=True)
            shutil.rmtree(folder)
        return None

    def at_risk(self) -> str:
        """Return what an interruption would cost here, in a sentence or two."""
        if colab.in_colab() and not self.folder.is_relative_to(DRIVE):
            return (
                "If Colab takes this machine away, everything on it is lost, and training has to begin again. "
                "To keep it on your Google Drive, set keep_on_drive in the settings and run the notebook again."
            )
        return (
            f"If training is interrupted, run the notebook again: it continues. What is lost is the training since the "
            f"last checkpoint: about {SAVE_EVERY} seconds at most, more where saving is slow."
        )

    def clear(self) -> None:
        """Remove the checkpoints: the training is finished, and its model is kept elsewhere."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.lock.release(force=True)  # however often this process has taken it


def saved(folder: Path) -> list[tuple[int, Path]]:
    """Return (step, folder) of each checkpoint in a run's folder, whole or not, the oldest first."""
    found = [path for path in Path(folder).glob("checkpoint-*") if path.is_dir() and path.name[11:].isdecimal()]
    return sorted((int(path.name[11:]), path) for path in found)


def seal(folder: Path, facts: dict) -> None:
    """Declare a checkpoint whole: write down the facts about its training, and how large each of its files is."""
    files = {path.relative_to(folder).as_posix(): path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    write_json(folder / MANIFEST, facts | {"files": files})


def damage(folder: Path) -> str | None:
    """Return what is wrong with a checkpoint, in words, or None when it is whole and its best checkpoint is, too.

    Its files are opened as well, in ways that can run no code.
    """
    manifest, state = read_json(folder / MANIFEST), read_json(folder / "trainer_state.json")
    if not isinstance(manifest, dict) or not isinstance(manifest.get("files"), dict):
        return "saving it was interrupted"
    for name, size in manifest["files"].items():
        found = (folder / name).stat().st_size if (folder / name).is_file() else None
        if found != size:
            return f"{name} is " + ("missing" if found is None else "empty" if found == 0 else "cut short or changed")
    try:
        path = folder / "trainer_state.json"
        best = int(state["best_global_step"] or state["global_step"])
        earlier = best < state["global_step"]
        for path in sorted(folder.glob("*.safetensors")):
            with safe_open(path, "pt"):
                pass
        for path in sorted(folder.glob("*.pt*")):
            with safe_globals():
                torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except Exception as error:  # what a file that was tampered with can raise is beyond any list
        return f"{path.name} holds something else than it should ({type(error).__name__})"
    if earlier:
        problem = damage(folder.with_name(f"checkpoint-{best}"))
        return problem and f"the best one before it, checkpoint-{best}, is damaged ({problem})"
    return None
