"""A full disk: an error that says how much is needed and where, and nothing that was there before is lost.

The disk is "full" because no file of the training's process may grow beyond a limit (RLIMIT_FSIZE).
"""

import resource
import shutil
import signal
from contextlib import contextmanager

import pytest
import torch
from datasets import disable_progress_bars, enable_progress_bars, load_dataset
from safetensors.torch import save_file
from soak import outcome
from support import make_settings, sst2_like, tiny_tokenizer

from helpers import data, tokenization
from helpers.durable import handoff
from helpers.durable.checkpoints import find_damage, list_checkpoints
from helpers.durable.errors import LessonError
from helpers.durable.files import is_disk_full, read_json, write_json


@contextmanager
def full(size: int):
    """Let no file of this process grow beyond so many bytes, its own report included: keep the block short."""
    disable_progress_bars()
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
        enable_progress_bars()


@pytest.mark.parametrize("size", [0, 300, 3000])
def test_every_librarys_error_is_recognised(tmp_path, size):
    tokenizer, rows, weights = tiny_tokenizer(), sst2_like(2000), {"weight": torch.zeros(50_000)}
    parquet = tmp_path / "parquet"
    parquet.mkdir()
    rows["train"].to_parquet(parquet / "train.parquet")
    attempts = {
        "safetensors": lambda to: save_file(weights, to),
        "torch, a large file": lambda to: torch.save(weights, to),
        "torch, a small file": lambda to: torch.save({"rng": list(range(5000))}, to),
        "tokenizers": lambda to: tokenizer.save_pretrained(to),
        "datasets, saving": lambda to: rows.save_to_disk(to),
        "datasets, mapping": lambda to: rows["train"].map(lambda row: {"n": row["idx"]}, cache_file_name=f"{to}.arrow"),
        "datasets, reading": lambda to: load_dataset(str(parquet), cache_dir=str(to)),
        "python": lambda to: to.write_text("x" * 5000),
    }
    for name, attempt in attempts.items():
        with pytest.raises(Exception) as caught, full(size):  # noqa: B017
            attempt(tmp_path / name.replace(" ", "-"))
        assert is_disk_full(caught.value), (name, caught.value)


@pytest.mark.parametrize(
    ("error", "wanted"),
    [
        (OSError(28, "No space left on device"), True),
        (OSError(122, "Disk quota exceeded"), True),
        (RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534"), True),
        (RuntimeError("[enforce fail at inline_container.cc:858] . PytorchStreamWriter failed writing file"), True),
        (Exception("No space left on device (os error 28)"), True),
        (OSError(13, "Permission denied"), False),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
        (KeyError("x"), False),
    ],
)
def test_real_texts(error, wanted):
    assert is_disk_full(error) is wanted


def checkpoint_sizes(calm) -> dict[str, int]:
    """Return the sizes of a checkpoint's large files, from its model: the optimizer's file is twice the weights'."""
    weights = (calm.folder / "calm-prepared-fp32" / "pocket" / "model" / "model.safetensors").stat().st_size
    return {"nothing fits": 5000, "the weights do not fit": weights // 2, "the optimizer does not fit": weights + 5000}


@pytest.mark.parametrize("point", ["nothing fits", "the weights do not fit", "the optimizer does not fit"])
def test_no_room_for_a_checkpoint(nursery, calm, tmp_path, point):
    home, what, size = (
        shutil.copytree(calm.prepared, tmp_path / "home"),
        calm.what["fp32"],
        checkpoint_sizes(calm)[point],
    )
    child = nursery.train(home, kill=calm.tick("training", 7), **what)
    assert child.status == -9
    (folder,) = (home / "pocket" / "checkpoints").glob("main-*")
    before = {path.name: find_damage(path) for _, path in list_checkpoints(folder)}
    child = nursery.train(home, limit=size, **what)
    (said,) = [line for line in child.said().splitlines() if "LessonError (disk-full)" in line]
    assert child.status == 2 and "Traceback" not in child.said()
    assert "no room for a checkpoint of about 0 MB in" in said and f"checkpoints/{folder.name}" in said
    assert "The checkpoint before it is whole." in said and "LESSON_HOME" in said
    after = {path.name: find_damage(path) for _, path in list_checkpoints(folder)}
    assert after == before and set(after.values()) == {None}, "nothing torn, nothing lost"
    child = nursery.train(home, **what)  # there is room again
    assert child.status == 0 and "Continuing after step 6 of 10" in child.said()
    assert outcome(home) == calm.wanted["fp32"]


def test_no_room_for_data_or_tokens_leaves_the_old_ones(tmp_path, calm):
    values = {name: calm.what["fp32"][name] for name in ("model", "dataset")}
    old, new = make_settings(tmp_path, **values), make_settings(tmp_path, **values | {"train_rows": 100})
    tokenized, _ = tokenization.load_or_make(old)
    rows = data.load_or_make(old)
    for save in (lambda: data.save(new, rows, {}), lambda: tokenization.save(new, tokenized)):
        with pytest.raises(LessonError) as caught, full(3000):
            save()
        assert caught.value.code == "disk-full" and "What was there before is whole." in str(caught.value)
    for stage in ("data", "tokenized"):
        folder = tmp_path / "pocket" / stage
        assert handoff.find(folder, old.fingerprint(stage)) == folder
    assert not [path for path in (tmp_path / "pocket").iterdir() if path.is_dir() and path.name.startswith(".")]


def test_no_room_for_the_kept_model_loses_no_checkpoint(nursery, calm, tmp_path):
    """All checkpoints fit, but a file of the kept model does not: as when the disk fills up at the very end."""
    home, what = shutil.copytree(calm.prepared, tmp_path / "home"), calm.what["fp32"]
    child = nursery.train(home, kill=calm.tick("best", 10), **what)
    assert child.status == -9
    child = nursery.train(home, limit=5000, **what)  # nothing is left to train, so that only the model is written
    assert child.status == 2 and "Traceback" not in child.said()
    assert "LessonError (disk-full): There is no room for model in" in child.said()
    assert nursery.train(home, **what).status == 0
    assert outcome(home) == calm.wanted["fp32"]


def test_no_room_for_a_text(tmp_path):
    write_json(tmp_path / "made" / "x.json", "old")
    with pytest.raises(LessonError) as caught, full(10):
        write_json(tmp_path / "made" / "x.json", "new" * 100)
    assert caught.value.code == "disk-full"
    assert read_json(tmp_path / "made" / "x.json") == "old" and len(list((tmp_path / "made").iterdir())) == 1


def test_other_errors_stay_what_they_are(tmp_path):
    def make(folder):
        raise KeyError("x")

    with pytest.raises(KeyError):
        handoff.save(tmp_path / "made", {}, make)
    assert not (tmp_path / "made").exists()
