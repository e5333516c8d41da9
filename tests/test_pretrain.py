"""tools/pretrain_pocket.py, from end to end, with a tiny teacher and a few texts; and after a kill.

The tool is run once a year: `make soak` runs this file, `make test` does not.
"""

import shutil
import subprocess
import sys

import pytest
import torch
from support import ROOT, clean_environ, run, sst2_like, tiny_data, tiny_model
from transformers import AutoModelForSequenceClassification, AutoTokenizer

pytestmark = pytest.mark.soak
SCRIPT = ROOT / "tools" / "pretrain_pocket.py"
SIZES = {"joined": 20, "replaced": 20, "crossed": 20, "vocab": 150, "dim": 16, "hidden": 32, "layers": 1, "heads": 2}
SMALL = [part for name, value in SIZES.items() for part in (f"--{name}", value)] + ["--epochs", 2]


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """Options that name a tiny teacher and tiny texts, in folders."""
    folder = tmp_path_factory.mktemp("sources")
    tiny_model(folder / "teacher")
    (folder / "text").mkdir()
    sst2_like(60)["train"].to_parquet(folder / "text" / "train.parquet")
    own = tiny_data(folder / "own")
    return ["--teacher", folder / "teacher", "--target-layer", 1, "--text", folder / "text", "--own-text", own, *SMALL]


def command(sources, folder) -> list[str]:
    return [str(part) for part in (SCRIPT, *sources, "--out", folder / "out", "--work", folder / "work")]


@pytest.fixture(scope="module")
def made(sources, tmp_path_factory):
    """The folder of a pretraining that nothing interrupted."""
    folder = tmp_path_factory.mktemp("made")
    done = run(*command(sources, folder), env=clean_environ(folder))
    assert done.returncode == 0, done.stderr
    return folder


def test_it_leaves_a_model_that_the_lessons_can_load(made):
    model = AutoModelForSequenceClassification.from_pretrained(made / "out", dtype=torch.float32, num_labels=2)
    tokenizer = AutoTokenizer.from_pretrained(made / "out")
    assert model.config.model_type == "distilbert" and tokenizer.pad_token_id == 0
    assert model(**tokenizer("a dull film", return_tensors="pt")).logits.isfinite().all()


def test_the_student_learned(made, sources):
    """The loss on words fell from the first epoch to the last."""
    losses = torch.load(made / "work" / "student.pt")["losses"]
    assert len(losses) == 2 and losses[1] < losses[0]


def test_killed_between_two_epochs_it_goes_on_and_ends_with_the_same_weights(made, sources, tmp_path):
    shutil.copytree(made / "work" / "tokenizer", tmp_path / "work" / "tokenizer")
    process = subprocess.Popen(
        [sys.executable, *command(sources, tmp_path)], env=clean_environ(tmp_path), stdout=subprocess.PIPE, text=True
    )
    for line in process.stdout:
        if line.startswith("epoch 2"):
            process.kill()
    process.wait()
    (tmp_path / "work" / "teacher_done.json").write_text('{"key": "torn')  # and the teacher reads everything again
    done = run(*command(sources, tmp_path), env=clean_environ(tmp_path))
    assert "resuming after epoch" in done.stdout, done.stderr
    new, old = (folder / "out" / "model.safetensors" for folder in (tmp_path, made))
    assert new.read_bytes() == old.read_bytes()


def test_other_options_in_the_same_folder_are_refused(made, sources):
    done = run(*command(sources, made), "--lr", "0.5", env=clean_environ(made))
    assert done.returncode == 1 and "other options" in done.stderr and "--work" in done.stderr


def test_a_source_that_is_not_there_is_named(sources, tmp_path):
    for option in ("--teacher", "--text"):
        asked = [*command(sources, tmp_path), option, str(tmp_path / "nothing")]
        done = run(*asked, env=clean_environ(tmp_path, HF_HUB_OFFLINE=1))
        assert done.returncode == 1 and "Cannot read" in done.stderr and "Next:" in done.stderr, done.stderr
