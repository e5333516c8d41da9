"""A checkpoint of which anything is missing, or that belongs to something else, is never used."""

import json
import pickle
import shutil

import pytest
import torch
from soak import outcome
from support import make_settings, tiny_data, tiny_model

from helpers import checkpoints
from helpers.checkpoints import MANIFEST
from helpers.files import read_json, write_json

FILES = (
    "model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json", "config.json",
    "training_args.bin", "tokenizer.json", "tokenizer_config.json", MANIFEST,
)  # fmt: skip
HURTS = {
    "missing": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
}
WORDS = {"missing": "is missing", "empty": "is empty", "cut": "is cut short or changed"}
SAVED = (5, 8, 9)  # the checkpoints that are there: the best one, and the two newest


@pytest.fixture(scope="module")
def killed(nursery, calm):
    """Kill a training when all but the last of its checkpoints are there; return its home."""
    home = calm.home("killed")
    child = nursery.train(home, kill=calm.tick("evaluating", 10), **calm.what["fp32"])
    assert child.status == -9 and [step for step, _ in checkpoints.saved(run_folder(home))] == list(SAVED)
    assert {path.name for path in (run_folder(home) / "checkpoint-9").iterdir()} == set(FILES)
    return home


@pytest.fixture
def home(killed, tmp_path):
    """Return a copy of the killed training, to be hurt."""
    return shutil.copytree(killed, tmp_path / "home")


def run_folder(home):
    """Return the folder of the one run below home."""
    (folder,) = [path for path in (home / "pocket" / "checkpoints").glob("main-*") if path.is_dir()]
    return folder


def reseal(folder) -> None:
    """Bring the manifest up to date, as somebody would who wants a changed file to be used."""
    facts = {name: value for name, value in read_json(folder / MANIFEST).items() if name != "files"}
    (folder / MANIFEST).unlink()
    checkpoints.seal(folder, facts)


def skipped(child) -> list[str]:
    """Return the lines on what was skipped."""
    return [line for line in child.said().splitlines() if line.startswith("Skipped ")]


def test_every_file_torn_in_every_way_is_skipped_and_the_one_before_is_taken(nursery, calm, killed, tmp_path):
    cases = [(name, how) for name in FILES for how in HURTS]
    for begin in range(0, len(cases), 3):
        children = {}
        for name, how in cases[begin : begin + 3]:  # a few at a time
            home = shutil.copytree(killed, tmp_path / f"{name}-{how}")
            HURTS[how](run_folder(home) / "checkpoint-9" / name)
            children[name, how, home] = nursery.start(home, **calm.what["fp32"])
        for (name, how, home), child in children.items():
            assert child.wait() == 0, child.said()
            reason = "saving it was interrupted" if name == MANIFEST else f"{name} {WORDS[how]}"
            assert skipped(child) == [f"Skipped checkpoint-9: {reason}."]
            assert "Continuing after step 8 of 10, from checkpoint-8." in child.said()
            assert outcome(home) == calm.wanted["fp32"], (name, how)
            shutil.rmtree(home)


def test_the_two_newest_torn(nursery, calm, home):
    HURTS["cut"](run_folder(home) / "checkpoint-9" / "optimizer.pt")
    HURTS["missing"](run_folder(home) / "checkpoint-8" / "model.safetensors")
    child = nursery.train(home, **calm.what["fp32"])
    assert [line.split(":")[0] for line in skipped(child)] == ["Skipped checkpoint-9", "Skipped checkpoint-8"]
    assert "Continuing after step 5 of 10, from checkpoint-5." in child.said()
    assert outcome(home) == calm.wanted["fp32"]


def test_all_torn_begins_from_the_beginning(nursery, calm, home):
    for step in SAVED:
        HURTS["empty"](run_folder(home) / f"checkpoint-{step}" / "rng_state.pth")
    child = nursery.train(home, **calm.what["fp32"])
    assert len(skipped(child)) == len(SAVED) and "Continuing" not in child.said()
    assert outcome(home) == calm.wanted["fp32"]


def test_the_best_torn_while_the_newest_is_whole(nursery, calm, home):
    assert read_json(run_folder(home) / "checkpoint-9" / "trainer_state.json")["best_global_step"] == 5
    HURTS["cut"](run_folder(home) / "checkpoint-5" / "model.safetensors")
    child = nursery.train(home, **calm.what["fp32"])
    damaged = "the best one before it, checkpoint-5, is damaged (model.safetensors is cut short or changed)"
    assert skipped(child)[:2] == [f"Skipped checkpoint-{step}: {damaged}." for step in (9, 8)]
    assert "Continuing" not in child.said() and outcome(home) == calm.wanted["fp32"]


def test_what_else_lies_in_the_folder_does_no_harm(nursery, calm, home):
    folder = run_folder(home)
    (folder / "checkpoint-foo").mkdir()
    (folder / "checkpoint-").mkdir()
    (folder / "checkpoint-99").write_text("a file")
    (folder / "notes.txt").write_text("hello")
    (folder.parent / "main-stray").write_text("a file")
    child = nursery.train(home, **calm.what["fp32"])
    assert skipped(child) == [] and "from checkpoint-9." in child.said()
    assert outcome(home) == calm.wanted["fp32"]


class Intruder:
    """Something whose pickle writes a file when it is loaded."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return exec, (f"open({str(self.mark)!r}, 'w').close()",)


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin"])
@pytest.mark.parametrize("form", ["pickle", "torch"])
def test_a_malicious_pickle_is_never_run(nursery, calm, home, tmp_path, name, form):
    mark, path = tmp_path / "mark", run_folder(home) / "checkpoint-9" / name
    if form == "torch":
        torch.save({"state": Intruder(mark)}, path)
    else:
        size = path.stat().st_size
        path.write_bytes(pickle.dumps(Intruder(mark)).ljust(size, b"\0"))  # the size in the manifest stays right
    reseal(path.parent)
    child = nursery.train(home, **calm.what["fp32"])
    assert child.status == 0 and "Traceback" not in child.said(), child.said()
    assert not mark.exists()
    if name == "training_args.bin":  # nobody reads it
        assert skipped(child) == [] and "from checkpoint-9." in child.said()
    else:
        assert skipped(child)[0].startswith(f"Skipped checkpoint-9: {name} holds something else than it should (")
        assert "from checkpoint-8." in child.said()
    assert outcome(home) == calm.wanted["fp32"]


def test_the_intruder_would_be_run_by_a_careless_reader(tmp_path):
    torch.save(Intruder(tmp_path / "mark"), tmp_path / "x")
    torch.load(tmp_path / "x", weights_only=False)
    assert (tmp_path / "mark").exists()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (MANIFEST, b"[]"),
        (MANIFEST, b'"x"'),
        (MANIFEST, b'{"files": 3}'),
        ("trainer_state.json", b"null"),
        ("trainer_state.json", b'{"global_step": 9, "best_global_step": "five"}'),
        ("model.safetensors", b"\xff" * 100),
        ("rng_state.pth", b"PK\x03\x04" + b"\0" * 100),
    ],
)
def test_nonsense_of_the_right_size_is_skipped(home, name, content):
    folder = run_folder(home) / "checkpoint-9"
    (folder / name).write_bytes(content)
    if name != MANIFEST:
        reseal(folder)
    assert checkpoints.damage(folder) is not None
    assert checkpoints.damage(folder.with_name("checkpoint-8")) is None


def test_a_checkpoint_of_other_settings_is_never_continued(nursery, calm, home, tmp_path):
    others = {
        "model": tiny_model(tmp_path / "other" / "tiny", seed=9),
        "dataset": tiny_data(tmp_path / "other" / "data", train=160, seed=50),
        "seed": 7,
        "epochs": 3,
        "train_rows": 128,
        "precision": "bf16",
    }
    children = []
    for name, value in others.items():
        copy = shutil.copytree(home, tmp_path / name)
        children.append((name, nursery.start(copy, **calm.what["fp32"] | {name: value})))
    for name, child in children:
        assert child.wait() == 0, child.said()
        assert "Continuing" not in child.said(), name
        assert [step for step, _ in checkpoints.saved(run_folder(tmp_path / name))] == list(SAVED), "it is still there"


def test_settings_that_only_a_notebook_can_change_are_refused(home, calm, tmp_path):
    """The learning rate of notebook 4's third exercise is in no setting: the checkpoint itself knows it."""
    from transformers import AutoModelForSequenceClassification

    from helpers import tokenization, training
    from helpers.files import LessonError

    settings = make_settings(home, **{n: calm.what["fp32"][n] for n in ("model", "dataset", "epochs")})
    run = checkpoints.Run(settings, "fp32")
    assert run.folder == run_folder(home)
    splits, tokenizer = tokenization.prepare(settings)
    arguments = training.arguments(settings, run.folder, "fp32")
    arguments.learning_rate *= 10
    trainer = training.LengthGroupedTrainer(
        model=AutoModelForSequenceClassification.from_pretrained(settings.model),
        args=arguments, train_dataset=splits["train"], eval_dataset=splits["development"],
        data_collator=training.DataCollatorWithPadding(tokenizer),
    )  # fmt: skip
    with pytest.raises(LessonError, match=r"learning_rate 0.0005 instead of 5e-05.*run.clear\(\)"):
        trainer.train(resume_from_checkpoint=run.newest())
    run.clear()


def test_the_furthest_work_is_continued_of_several_left(make_run):
    first, second = make_run(), make_run(held=True)
    assert first.folder != second.folder
    checkpoint = second.folder / "checkpoint-3"
    checkpoint.mkdir()
    write_json(checkpoint / "trainer_state.json", {"global_step": 3, "best_global_step": None, "max_steps": 4})
    checkpoints.seal(checkpoint, {"seconds": 1})
    for run in (first, second):
        run.lock.release(force=True)
    assert make_run().newest() == str(checkpoint)


@pytest.fixture
def make_run(tmp_path, monkeypatch):
    """Return a function that makes a Run; with held=True as another process would, while this one holds the first."""
    from filelock import FileLock

    def made(held=False):
        if held:
            monkeypatch.setattr(checkpoints, "lock", lambda f: FileLock(f.with_name(f".{f.name}.lock")))
        return checkpoints.Run(make_settings(tmp_path), "fp32")

    yield made


def test_json_of_a_manifest_is_for_people_too(home):
    manifest = json.loads((run_folder(home) / "checkpoint-9" / MANIFEST).read_text())
    assert set(manifest) == {"seconds", "saving_seconds", "recipe", "files"}
    assert 0 < manifest["saving_seconds"] < manifest["seconds"] and set(manifest["files"]) == set(FILES) - {MANIFEST}
