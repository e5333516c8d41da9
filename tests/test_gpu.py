"""The machine: which precision, how much work, and what is refused before it is downloaded."""

import json
import resource

import pytest
import torch
from support import make_settings, tiny_data, tiny_model

from helpers import data, gpu
from helpers.files import LessonError, read_json, write_json
from helpers.gpu import Device


def graphics(*capability: int) -> Device:
    """Return a GPU of this compute capability."""
    return Device("cuda", "some GPU", 16 * 2**30, capability)


@pytest.fixture
def settings(tmp_path):
    """Return settings of a tiny model on tiny data."""
    return make_settings(tmp_path, model=tiny_model(tmp_path / "model"), dataset=tiny_data(tmp_path / "data"))


@pytest.mark.parametrize(
    ("capability", "precision"),
    [((6, 1), "fp32"), ((7, 0), "fp16"), ((7, 5), "fp16"), ((8, 0), "bf16"), ((8, 9), "bf16"), ((9, 0), "bf16"),
     ((10, 0), "bf16"), ((12, 0), "bf16")],
)  # fmt: skip
def test_a_gpu_is_judged_by_its_compute_capability(monkeypatch, capability, precision):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_: True)  # what PyTorch says on a T4 too
    assert gpu.choose_precision(graphics(*capability))[0] == precision


def test_measured_cpu_speeds_do_not_change_what_a_gpu_uses():
    assert gpu.choose_precision(graphics(7, 5), float32=1e9, bfloat16=1e12)[0] == "fp16"


@pytest.mark.parametrize(
    ("ratio", "precision"), [(0.1, "fp32"), (1.0, "fp32"), (1.4, "fp32"), (1.6, "bf16"), (3.0, "bf16")]
)
def test_a_cpu_is_judged_by_what_was_measured(ratio, precision):
    found, why = gpu.choose_precision(Device("cpu", "x86_64", None, None), 5e10, ratio * 5e10)
    assert found == precision
    assert f"{ratio:.1f} times" in why if precision == "bf16" else "not clearly faster" in why


def test_devices_are_described():
    assert str(graphics(7, 5)) == "some GPU, 16.0 GiB, compute capability 7.5"
    assert str(Device("cpu", "x86_64", None, None)) == f"CPU (x86_64), {torch.get_num_threads()} threads"


def test_find_device_finds_what_torch_finds():
    assert gpu.find_device().kind == ("cuda" if torch.cuda.is_available() else "cpu")


def test_matmul_flops_is_positive():
    for dtype in (torch.float32, torch.bfloat16):
        assert gpu.matmul_flops("cpu", dtype, size=64, seconds=0.01) > 1e6


def test_machine_is_measured_once(settings):
    first = gpu.machine(settings)
    assert first["precision"] in ("fp32", "fp16", "bf16") and first["float32_flops"] > 0
    assert gpu.machine(settings) == first, "measured again, the speeds would differ"
    path = settings.home / "machine.json"
    write_json(path, read_json(path) | {"torch": "0.0"})
    assert gpu.machine(settings)["torch"] == torch.__version__


def test_untrained_model_on_meta_has_shapes_only(settings):
    model = gpu.untrained_model(settings)
    assert {p.device.type for p in model.parameters()} == {"meta"}
    assert gpu.untrained_model(settings, "cpu").num_parameters() == model.num_parameters()


def test_a_giant_model_is_refused_from_its_config_alone(tmp_path):
    giant = {"model_type": "distilbert", "dim": 8192, "hidden_dim": 32768, "n_layers": 48, "n_heads": 64}
    folder = tmp_path / "giant"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(giant | {"vocab_size": 30522}))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(LessonError, match="giant has 38,[0-9,]+ parameters; .* below 3,000,000,000.*LESSON_MODEL"):
        gpu.untrained_model(make_settings(tmp_path, model=folder))
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before  # in KiB
    assert grown < 2**20, "its weights would need 144 GiB"


def test_training_work_counts_as_one_would_by_hand(settings):
    work = gpu.training_work(settings)
    splits, tokenizer = data.prepare(settings), gpu.tokenization.load_tokenizer(settings)
    train = splits["train"]["sentence"][:]
    tokens = sum(len(tokenizer(s)["input_ids"]) for s in train) / len(train)  # fewer than 1000 rows: all are counted
    dim, hidden, vocabulary = 32, 64, len(tokenizer)
    tables = (vocabulary + 128) * dim
    norm = 2 * dim
    layer = 4 * (dim * dim + dim) + (dim * hidden + hidden) + (hidden * dim + dim) + 2 * norm
    head = (dim * dim + dim) + (dim * 2 + 2)
    assert work["rows"] == len(train) == 96
    assert (work["epochs"], work["steps"]) == (2, 2 * 3)
    assert work["tokens"] == pytest.approx(tokens)
    assert work["parameters"] == tables + norm + layer + head
    assert work["multiplied"] == norm + layer + head
    assert work["flops"] == pytest.approx(6 * work["multiplied"] * tokens * 96 * 2)


def test_a_last_batch_that_is_not_full_is_a_step(tmp_path):
    settings = make_settings(tmp_path, dataset=tiny_data(tmp_path / "data"), train_rows=33, epochs=2)
    assert gpu.training_work(settings)["steps"] == 4


def test_predict_is_kept_and_made_again_for_other_settings(tmp_path, settings):
    first = gpu.predict(settings)
    assert first["predicted_train_seconds"] == pytest.approx(first["step_seconds"] * first["work"]["steps"])
    assert first["flops_per_second"] == pytest.approx(first["work"]["flops"] / first["predicted_train_seconds"])
    assert gpu.predict(settings) == first, "predicted again, the times would differ"
    again = make_settings(tmp_path, model=settings.model, dataset=settings.dataset, epochs=5)
    other = gpu.predict(again)
    assert other["work"]["steps"] == 15 and other["step_seconds"] != first["step_seconds"]
    assert gpu.predict(again) == other == read_json(settings.home / "prediction.json")


def test_attention_follows_the_processor_and_the_batch(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert [gpu.attention(size) for size in (16, 32, 64, 128)] == ["sdpa", "sdpa", "eager", "eager"]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert gpu.attention(128) == "sdpa"
