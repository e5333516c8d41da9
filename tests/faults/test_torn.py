"""A checkpoint of which anything is missing, or that belongs to something else, is never used."""

import contextlib
import itertools
import json
import pickle
import shutil
from dataclasses import replace

import pytest
import torch
from soak import SOAK, outcome
from support import make_settings, tiny_data, tiny_model

from helpers import training
from helpers.durable import checkpoints
from helpers.durable.checkpoints import CheckpointFolder, find_damage, list_checkpoints
from helpers.durable.files import MANIFEST, read_json, write_manifest

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
    assert child.status == -9 and [step for step, _ in list_checkpoints(run_folder(home))] == list(SAVED)
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
    write_manifest(folder, facts)


def skipped(child) -> list[str]:
    """Return the lines on what was skipped."""
    return [line for line in child.said().splitlines() if line.startswith("Skipped ")]


def skip(step: int, reason: str) -> str:
    """Return the line on a checkpoint that is skipped."""
    return f"Skipped checkpoint-{step}: {reason}. It is kept as skipped-{step} until training ends."


def content(folder) -> dict[str, bytes]:
    """Return what the files of a folder hold."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture
def in_process(calm):
    """Return a function that opens a home's checkpoint folder in this process; its lock is let go in the end."""
    opened = []

    def open_folder(home, **changes) -> CheckpointFolder:
        settings = make_settings(home, **{name: calm.what["fp32"][name] for name in ("model", "dataset", "epochs")})
        opened.append(training.checkpoint_folder(settings, replace(settings.recipe, precision="fp32", **changes)))
        return opened[-1]

    yield open_folder
    for folder in opened:
        folder.lock.release(force=True)


def test_every_file_torn_in_every_way_is_seen(home):
    folder = run_folder(home) / "checkpoint-9"
    for name in FILES:
        path = folder / name
        whole = path.read_bytes()
        for how, hurt in HURTS.items():
            assert find_damage(folder) is None
            hurt(path)
            wanted = "saving it was interrupted" if name == MANIFEST else f"{name} {WORDS[how]}"
            assert find_damage(folder) == wanted, how
            assert find_damage(folder.with_name("checkpoint-8")) is None
            path.write_bytes(whole)


@pytest.mark.parametrize(
    ("name", "how"),
    itertools.product(FILES, HURTS)
    if SOAK
    else [("optimizer.pt", "cut"), (MANIFEST, "missing"), ("trainer_state.json", "empty")],
)
def test_a_torn_one_is_set_aside_and_the_one_before_is_taken(nursery, calm, home, name, how):
    HURTS[how](run_folder(home) / "checkpoint-9" / name)
    torn = content(run_folder(home) / "checkpoint-9")
    child = nursery.train(home, kill=calm.tick("training", 9), **calm.what["fp32"])
    assert child.status == -9
    assert skipped(child) == [skip(9, "saving it was interrupted" if name == MANIFEST else f"{name} {WORDS[how]}")]
    assert "Continuing after step 8 of 10, from checkpoint-8." in child.said()
    assert content(run_folder(home) / "skipped-9") == torn, "kept as it was"
    child = nursery.train(home, **calm.what["fp32"])
    assert child.status == 0 and outcome(home) == calm.wanted["fp32"]
    assert not [path for path in (home / "pocket" / "checkpoints").iterdir() if path.is_dir()], "all is cleared away"


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
    assert skipped(child)[:2] == [skip(step, damaged) for step in (9, 8)]
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


def put_intruder(path, mark, form: str) -> None:
    """Put a malicious pickle in a file's place: in PyTorch's own format, or raw and of the file's size."""
    if form == "torch":
        torch.save({"state": Intruder(mark)}, path)
    else:
        path.write_bytes(pickle.dumps(Intruder(mark)).ljust(path.stat().st_size, b"\0"))
    reseal(path.parent)


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "rng_state.pth"])
@pytest.mark.parametrize("form", ["pickle", "torch"])
def test_a_malicious_pickle_is_seen_and_never_run(home, tmp_path, name, form):
    path = run_folder(home) / "checkpoint-9" / name
    put_intruder(path, tmp_path / "mark", form)
    assert find_damage(path.parent).startswith(f"{name} holds something else than it should (")
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize(("name", "form"), [("rng_state.pth", "torch"), ("training_args.bin", "pickle")])
def test_a_training_does_not_run_a_malicious_pickle(nursery, calm, home, tmp_path, name, form):
    put_intruder(run_folder(home) / "checkpoint-9" / name, tmp_path / "mark", form)
    child = nursery.train(home, **calm.what["fp32"])
    assert child.status == 0 and "Traceback" not in child.said(), child.said()
    assert not (tmp_path / "mark").exists()
    taken = 9 if name == "training_args.bin" else 8  # nobody reads training_args.bin
    assert len(skipped(child)) == 9 - taken and f"from checkpoint-{taken}." in child.said()
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
    assert find_damage(folder) is not None
    assert find_damage(folder.with_name("checkpoint-8")) is None


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
        assert [step for step, _ in list_checkpoints(run_folder(tmp_path / name))] == list(SAVED), "it is still there"


def test_a_recipe_that_only_a_notebook_can_change_is_not_continued(home, in_process, capsys):
    """The learning rate of notebook 4's third exercise is in no setting: it is part of the folder's key."""
    for changes in ({"learning_rate": 5e-4}, {"weight_decay": 0.0}, {"attention": "eager"}, {"max_length": 64}):
        other = in_process(home, **changes)
        assert other.latest() is None and other.folder != run_folder_of(home, in_process)
    assert in_process(home).latest().endswith("checkpoint-9"), "the first one's work is still there"
    assert capsys.readouterr().out == "Continuing after step 9 of 10, from checkpoint-9.\n"


def run_folder_of(home, in_process):
    """Return the folder of the training that was killed, found by its key."""
    folder = in_process(home).folder
    assert [step for step, _ in list_checkpoints(folder)] == list(SAVED)
    return folder


def test_what_other_libraries_cannot_read_is_never_deleted(nursery, calm, home, in_process, monkeypatch, capsys):
    """After an update of NumPy or PyTorch rng_state.pth can be of a kind that weights_only refuses."""
    folder = run_folder(home)
    before = {step: content(path) for step, path in list_checkpoints(folder)}
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "safe_globals", contextlib.nullcontext)
        assert in_process(home).latest() is None
    said = capsys.readouterr().out.splitlines()
    reason = "rng_state.pth holds something else than it should (UnpicklingError)"
    assert said[-1] == skip(5, reason) and len(said) == len(SAVED) and list_checkpoints(folder) == []
    assert {step: content(folder / f"skipped-{step}") for step in SAVED} == before
    for step in SAVED:  # with the old libraries at hand again
        (folder / f"skipped-{step}").rename(folder / f"checkpoint-{step}")
    in_process(home).lock.release(force=True)
    child = nursery.train(home, **calm.what["fp32"])
    assert "from checkpoint-9." in child.said() and outcome(home) == calm.wanted["fp32"]


def test_what_was_skipped_is_not_overwritten_by_what_is_skipped_later(home, in_process):
    folder, kept = in_process(home), []
    for name in ("skipped-9", "skipped-9-2", "skipped-9-3"):
        last = folder.folder / "checkpoint-9"
        if not last.exists():
            shutil.copytree(folder.folder / "checkpoint-8", last)
        HURTS["missing"](last / MANIFEST)
        (last / "number").write_text(name)
        folder.latest()
        kept.append((folder.folder / name / "number").read_text())
    assert kept == ["skipped-9", "skipped-9-2", "skipped-9-3"]


def test_json_of_a_manifest_is_for_people_too(home):
    manifest = json.loads((run_folder(home) / "checkpoint-9" / MANIFEST).read_text())
    assert set(manifest) == {"seconds", "saving_seconds", "files"}
    assert 0 < manifest["saving_seconds"] < manifest["seconds"] and set(manifest["files"]) == set(FILES) - {MANIFEST}
