"""Kill a training again and again, at random moments, and see whether anything is ever lost.

`make soak` runs 200 kills, and then, with SOAK=1, the tests whose tables are short otherwise;
`python tests/faults/soak.py --kills 1000 --seed 7` makes others. A *trajectory* is one training that is killed up to
four times and run again after each; in the end its model must be, bit for bit, that of a training that nobody
disturbed. Exit status 0 only then.
"""

import argparse
import atexit
import collections
import functools
import os
import random
import re
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from children import Child, Nursery, digest
from safetensors.torch import load_file
from support import tiny_data, tiny_model

from helpers.durable.files import MANIFEST, read_json

EPOCHS, ROWS = 2, 160  # five steps an epoch
MOST_KILLS = 4  # of one training
SOAK = os.environ.get("SOAK") == "1"  # let tests go through all of their tables


def outcome(home: Path) -> dict:
    """Return what a finished training left: the digest of its weights, and what was measured on the way."""
    folder = home / "pocket" / "model"
    record = read_json(folder / "training.json")
    names = ("validation_accuracy_by_epoch", "best_epoch", "steps", "precision")
    weights = digest(load_file(folder / "model.safetensors"))
    fingerprint = read_json(folder / MANIFEST)["fingerprint"]
    return {"weights": weights, "fingerprint": fingerprint} | {name: record[name] for name in names}


class Calm:
    """Undisturbed trainings, to compare with: one for each precision, from nothing and from prepared tokens.

    Attributes:
        what: the options for `Nursery.start`, for each precision.
        wanted: what a training must end with, for each precision.
        ticks: (phase, steps taken) at each tick of a training from "nothing" and from "prepared" tokens.
        seconds: how long each of the two takes.
        prepared: a home in which data and tokens are ready.
    """

    def __init__(self, nursery: Nursery, folder: Path):
        self.folder, self.prepared = Path(folder), Path(folder) / "prepared"
        source = {"model": tiny_model(folder / "tiny"), "dataset": tiny_data(folder / "data", train=ROWS)}
        shared = source | {"epochs": EPOCHS, "every": 0}
        self.what = {precision: shared | {"precision": precision} for precision in ("fp32", "bf16")}
        self.wanted, self.ticks, self.seconds = {}, {}, {}
        for start, precision in (("nothing", "fp32"), ("prepared", "fp32"), ("prepared", "bf16")):
            home, trace = folder / f"calm-{start}-{precision}", folder / "trace"
            if start == "prepared":
                shutil.copytree(self.prepared, home)
            begin = time.perf_counter()
            child = nursery.train(home, trace=trace, **self.what[precision])
            assert child.status == 0, child.said()
            self.seconds[start] = time.perf_counter() - begin
            lines = [line.split() for line in trace.read_text().splitlines()]
            self.ticks[start] = [(phase, int(steps)) for phase, steps in lines]
            assert self.wanted.setdefault(precision, outcome(home)) == outcome(home)
            if start == "nothing":
                leave = shutil.ignore_patterns("model", "checkpoints")
                shutil.copytree(home, self.prepared, ignore=leave)

    def home(self, name: str, prepared: bool = True) -> Path:
        """Return a new home."""
        home = self.folder / name
        if prepared:
            shutil.copytree(self.prepared, home)
        return home

    def tick(self, phase: str, steps: int, last: bool = False) -> tuple[str, int, int]:
        """Name the first (or last) tick of a phase after so many steps, for `Nursery.start`."""
        return phase, steps, self.ticks["prepared"].count((phase, steps)) if last else 1


@functools.cache
def shared() -> tuple[Nursery, Calm]:
    """Return one nursery and its undisturbed trainings for all test files of this process; gone when it ends."""
    folder = Path(tempfile.mkdtemp(prefix="kills-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    nursery = Nursery(folder / "logs")
    atexit.register(nursery.__exit__)
    return nursery, Calm(nursery, folder)


@dataclass
class Count:
    """What happened."""

    kills: collections.Counter = field(default_factory=collections.Counter)  # by phase
    trainings: int = 0
    resumed: int = 0  # runs after a kill that continued from a checkpoint
    anew: int = 0  # runs after a kill that had to begin from the beginning: there was no checkpoint yet
    skipped: int = 0  # torn checkpoints that were named and passed over
    steps_lost: list[int] = field(default_factory=list)  # for each kill during training
    lost: int = 0  # trainings that did not finish
    differing: int = 0  # trainings with another result
    hung: int = 0

    def total(self) -> int:
        """The number of kills."""
        return sum(self.kills.values())

    def __str__(self) -> str:
        moments = ", ".join(f"{phase} {number}" for phase, number in self.kills.most_common())
        return (
            f"{self.total()} kills ({moments}) of {self.trainings} trainings\n"
            f"{self.resumed} continued from a checkpoint, {self.anew} from the beginning, "
            f"{self.skipped} torn checkpoints skipped\n"
            f"steps done again: {sum(self.steps_lost)} of {len(self.steps_lost)} kills in training, "
            f"at most {max(self.steps_lost, default=0)} at once\n"
            f"{self.lost} models lost, {self.differing} differing, {self.hung} hung"
        )


def choose(generator: random.Random, calm: Calm, start: str, first: bool) -> dict:
    """Return how the next run is killed: {"kill": tick} by itself, or {"after": seconds} by us."""
    if generator.random() < 0.25:
        return {"after": generator.uniform(0.05, calm.seconds[start])}
    ticks = calm.ticks[start]
    if not first:
        return {"kill": generator.randrange(1, len(ticks))}
    phase = generator.choice(sorted({phase for phase, _ in ticks}))
    return {"kill": generator.choice([number for number, tick in enumerate(ticks, 1) if tick[0] == phase])}


def run_once(nursery: Nursery, home: Path, what: dict, plan: dict) -> Child:
    """Run a training until its end or until it is killed. Raises TimeoutError when it hangs."""
    child = nursery.start(home, **what, **{name: n for name, n in plan.items() if name == "kill"})
    if "after" in plan:
        time.sleep(plan["after"])
        child.kill()
    child.wait()
    return child


def trajectory(nursery: Nursery, calm: Calm, generator: random.Random, count: Count, say) -> None:
    """Train, kill, run again, until the training is finished; count what happened."""
    start = "nothing" if generator.random() < 0.15 else "prepared"
    precision = generator.choice(sorted(calm.what))
    home = calm.home(f"t{count.trainings}", start == "prepared")
    count.trainings += 1
    steps = None  # taken by the run that was killed
    for number in range(MOST_KILLS + 1):
        plan = choose(generator, calm, start, number == 0) if number < MOST_KILLS else {}
        try:
            child = run_once(nursery, home, calm.what[precision], plan)
        except TimeoutError as error:
            count.hung += 1
            return say(f"HUNG: {plan}: {error}")
        said = re.search(r"Continuing after step (\d+)", child.said())
        began = said or child.status == 0 or child.phase not in ("preparing", "predicting", "looking")
        if number and began:
            count.resumed, count.anew = count.resumed + bool(said), count.anew + (not said)
            count.skipped += child.said().count("Skipped checkpoint-")
            if steps is not None:
                count.steps_lost.append(max(0, steps - int(said[1] if said else 0)))
        if child.status == 0:
            break
        if child.status != -9:
            count.lost += 1
            return say(f"FAILED with {child.status} ({plan}, precision {precision}):\n{child.said()[-3000:]}")
        count.kills[child.phase] += 1
        if began:  # while checkpoints are cleared away, their steps are safe in the model that was kept
            steps = child.slots[2] if child.phase not in ("keeping", "clearing") and child.slots[2] else None
        start = "prepared"
    if outcome(home) != calm.wanted[precision]:
        count.differing += 1
        return say(f"DIFFERS: {outcome(home)} is not {calm.wanted[precision]}\n{child.said()[-3000:]}")
    shutil.rmtree(home)


def soak(nursery: Nursery, calm: Calm, kills: int, seed: int, say=print) -> Count:
    """Kill until there were so many kills; return the count."""
    generator, count = random.Random(seed), Count()
    while count.total() < kills and count.lost + count.differing + count.hung < 5:
        trajectory(nursery, calm, generator, count, say)
    return count


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    options, begin = parser.parse_args(), time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="soak-") as folder, Nursery(Path(folder) / "logs") as nursery:
        count = soak(nursery, Calm(nursery, Path(folder)), options.kills, options.seed)
    print(f"{count}\nseed {options.seed}, {time.perf_counter() - begin:.0f} s")
    return 1 if count.lost or count.differing or count.hung else 0


if __name__ == "__main__":
    sys.exit(main())
