"""benchmarks/: the commands run offline on a tiny model, print what they promise, and refuse bad options."""

import json
import sys

import pytest
import torch
from support import ROOT, clean_environ, make_settings, run, tiny_data, tiny_model

sys.path.insert(0, str(ROOT / "benchmarks"))

import accuracy  # noqa: E402
import growth  # noqa: E402
import recipes  # noqa: E402

from helpers import models, settings  # noqa: E402
from helpers.durable.errors import LessonError  # noqa: E402
from helpers.recipe import Recipe  # noqa: E402


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder with a tiny model and tiny data."""
    folder = tmp_path_factory.mktemp("benchmarks")
    tiny_model(folder / "model", dim=64)
    tiny_data(folder / "data", train=160)
    return folder


class Pipe:
    """One end of a pipe to a worker that is no process: it keeps what is sent, and answers nothing."""

    def __init__(self):
        self.said = []

    def send(self, value) -> None:
        self.said.append(value)

    def recv(self):
        if not self.said:
            raise EOFError
        return self.said.pop(0)


def command(folder, script: str, *options):
    """Run a benchmark on the tiny model and data, with one thread and no GPU."""
    environ = clean_environ(
        folder, LESSON_EDITION="pocket", OMP_NUM_THREADS=1, CUDA_VISIBLE_DEVICES="", HF_HUB_OFFLINE=1
    )
    source = ["--model", folder / "model", "--dataset", folder / "data"]
    return run(ROOT / "benchmarks" / script, *source, *options, cwd=folder, env=environ, timeout=300)


def test_recipes_takes_turns_and_prints_the_comparison(folder):
    options = ["--rows", 150, "--seconds", 0.2, "--rounds", 2, "--json", folder / "recipes.json"]
    done = command(folder, "recipes.py", *options)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert json.loads((folder / "recipes.json").read_text()) == result
    turns = [line.split(": ")[1] for line in done.stderr.splitlines() if line.startswith("round ")]
    assert turns == ["original", "dynamic", "ours"] * 2
    assert result["device"].startswith("CPU") and (result["rows"], result["train_rows"]) == (150, 160)
    by_name = result["recipes"]
    assert list(by_name) == ["original", "dynamic", "ours"]
    for one in by_name.values():
        assert one["steps"] >= 2 and one["samples_per_second"] > 0 and one["step_seconds"] > 0
        assert 5e7 < one["peak_memory_bytes"] < 2e10
        assert one["useful_flops_per_second"] == pytest.approx(
            6 * result["multiplied_parameters"] * one["tokens_per_second"]
        )
        peak = result["peak_flops_per_second"][one["recipe"]["precision"]]
        assert one["share_of_peak"] == pytest.approx(one["useful_flops_per_second"] / peak)
        assert 0 < one["share_of_peak"] < 1
        assert one["seconds_for_all_epochs"] == pytest.approx(result["epochs"] * 160 / one["samples_per_second"])
    shares = [one["padding_share"] for one in by_name.values()]
    assert shares[0] > 0.7 and all(0 <= share < shares[0] for share in shares[1:])
    assert [one["recipe"]["padding"] for one in by_name.values()] == ["fixed", "batch", "grouped"]
    for other in ("original", "dynamic"):
        ratio = by_name["ours"]["samples_per_second"] / by_name[other]["samples_per_second"]
        assert result[f"ratio_to_{other}"] == pytest.approx(ratio)
    assert result["ratio_to_original"] > 1, "nine of ten positions are padding"


def test_an_error_in_a_worker_is_sent_and_told(folder):
    known = make_settings(folder / "worker", model=folder / "model", dataset=folder / "data")
    pipe = Pipe()
    recipes.worker(pipe, known, Recipe(batch_size=500), rows=1000, seconds=1)
    with pytest.raises(LessonError, match="160 rows do not fill a batch of 500. Take more rows."):
        recipes.receive(pipe)
    pipe.said.append(recipes.plain(ZeroDivisionError("division by zero")))
    with pytest.raises(RuntimeError, match="ZeroDivisionError: division by zero"):
        recipes.receive(pipe)
    with pytest.raises(RuntimeError, match="died, most likely for want of memory"):
        recipes.receive(pipe)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--seconds", "0"], "0 is not above 0"),
        (["--seconds", "inf"], "inf is not above 0"),
        (["--rows", "-5"], "-5 is not above 0"),
        (["--rows", "many"], "invalid"),
        (["--rounds", "0"], "0 is not above 0"),
        (["--device", "tpu"], "invalid choice: 'tpu'"),
    ],
)
def test_bad_options_are_refused(options, said, capsys):
    with pytest.raises(SystemExit) as stopped:
        recipes.parse(options)
    assert stopped.value.code == 2 and said in capsys.readouterr().err


def test_a_gpu_that_is_not_there_is_told(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(LessonError, match="--device cuda: PyTorch sees no CUDA GPU here. Try --device cpu"):
        recipes.compare(recipes.parse(["--device", "cuda"]))


def test_data_smaller_than_a_batch_is_told(folder, monkeypatch):
    small = tiny_data(folder / "small", train=20)
    monkeypatch.setenv("LESSON_HOME", str(folder / "few"))
    monkeypatch.setenv("LESSON_EDITION", "pocket")
    with pytest.raises(LessonError, match="The data has 20 training rows, and ours needs a batch of 32."):
        recipes.compare(recipes.parse(["--model", str(folder / "model"), "--dataset", str(small)]))


def test_distilbert_shape_is_distilberts(tmp_path, monkeypatch):
    for name in ("LESSON_MODEL", "LESSON_DATASET"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LESSON_HOME", str(tmp_path))
    monkeypatch.setenv("LESSON_EDITION", "pocket")
    found = recipes.read_settings(recipes.parse(["--model", recipes.SHAPE]))
    assert models.untrained_model(found).num_parameters() == 66_955_010  # DistilBERT-base with a head of two labels
    assert models.load_tokenizer(found)("A film.")["input_ids"]


def test_a_folder_that_holds_no_model_is_refused(tmp_path):
    with pytest.raises(LessonError, match="is no model: it has no config.json"):
        recipes.read_settings(recipes.parse(["--model", str(tmp_path)]))


def test_growth_measures_each_number_of_rows(folder):
    done = command(folder, "growth.py", "--rows", 160, "--skip-start")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    (only,) = result["runs"]
    assert only["rows"] == 160 and only["seconds"] > 0 and only["peak_memory_bytes"] > 5e7
    assert result["train_rows"] == 160 and "first_step" not in result and "growth" not in result


def test_growth_times_tokenizing_and_the_first_step(folder, monkeypatch):
    def measure(known, kind, rows=None):  # in this process: to start another one takes seconds
        pipe = Pipe()
        growth.worker(pipe, known, kind, rows)
        return growth.recipes.receive(pipe)

    monkeypatch.setattr(growth, "measure", measure)
    monkeypatch.setenv("LESSON_HOME", str(folder / "starts"))
    source = ["--model", str(folder / "model"), "--dataset", str(folder / "data")]
    result = growth.compare(growth.parse([*source, "--rows", "160", "64"]))
    assert [one["rows"] for one in result["runs"]] == [64, 160]
    assert result["growth"] == growth.growth(result["runs"])
    assert result["tokenize"]["rows"] == 160 + 40 + 50 and result["tokenize"]["seconds"] > 0
    assert result["first_step"]["empty_home_seconds"] > result["first_step"]["filled_home_seconds"] > 0


def test_growth_of_straight_lines():
    runs = [{"rows": n, "seconds": 0.5 * n, "peak_memory_bytes": 100 + n} for n in (100, 200, 800)]
    assert growth.growth(runs) == {
        "seconds_per_more_row": [0.5, 0.5],
        "exponent": pytest.approx(1.0),
        "memory_ratio": 900 / 200,
    }


def test_growth_refuses_rows_that_are_not_there(folder, monkeypatch):
    monkeypatch.setenv("LESSON_HOME", str(folder / "rows"))
    source = ["--model", str(folder / "model"), "--dataset", str(folder / "data")]
    with pytest.raises(LessonError, match="--rows 900: there are only 160 training rows"):
        growth.compare(growth.parse([*source, "--rows", "20", "900"]))


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_padding_does_not_change_what_the_model_answers(attention):
    known = settings.read(environ={}, edition="pocket")
    tokenizer, model = models.load_tokenizer(known), models.load_model(known, ["negative", "positive"]).eval()
    model.set_attn_implementation(attention)
    sentences = ["Dull.", "A joy from start to end.", "I laughed once, by mistake, and then never again."]
    own, fixed = (
        tokenizer(sentences, return_tensors="pt", **padding)
        for padding in ({"padding": True}, {"padding": "max_length", "max_length": 128})
    )
    assert own["input_ids"].shape[1] < fixed["input_ids"].shape[1] == 128
    with torch.no_grad():
        assert torch.allclose(model(**own).logits, model(**fixed).logits, atol=1e-5)


def test_accuracy_trains_both_recipes(folder):
    known = make_settings(folder / "accuracy", model=folder / "model", dataset=folder / "data", epochs=1)
    for name, expected in {
        "original": (16, 2e-5, "fp32"),
        "ours,batch_size=32,precision=fp32": (32, 5e-5, "fp32"),
    }.items():
        result = accuracy.run(known, name)
        assert (result["batch_size"], result["learning_rate"], result["precision"]) == expected
        assert result["recipe"] == name and result["rows"] == 160 and 0 <= result["accuracy"] <= 1


@pytest.mark.parametrize("name", ["best", "ours,batchsize=3", "ours,batch_size=many", "ours,batch_size"])
def test_accuracy_refuses_an_unknown_recipe(folder, name):
    known = make_settings(folder / "accuracy", model=folder / "model", dataset=folder / "data")
    with pytest.raises(LessonError, match=r"There is no recipe|is no change of a recipe"):
        accuracy.run(known, name)
