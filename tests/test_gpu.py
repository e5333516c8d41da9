"""The machine: which precision, how much work, and what is refused before it is downloaded."""

import json
import math
import resource

import pytest
import torch
from support import make_settings, refused, tiny_data, tiny_model

from helpers import data, gpu, models, threads, tokenization
from helpers.durable.files import read_json
from helpers.gpu import Device

FASTER = 2 * gpu.MIN_BF16_SPEEDUP  # bfloat16 against float32, on a CPU that has instructions for it
SLOWER = 0.5 * gpu.MIN_BF16_SPEEDUP


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


def test_matmul_flops_per_second_is_positive():
    for dtype in (torch.float32, torch.bfloat16):
        assert gpu.matmul_flops_per_second("cpu", dtype, size=64, seconds=0.01) > 1e6


@pytest.fixture
def speeds(monkeypatch):
    """A function: let each round of measuring a CPU find the next of these ratios; it returns those left."""

    def come(*ratios: float) -> list[float]:
        left = list(ratios)

        def measured(device, dtype, size=1024, seconds=0.3):
            return 1e10 if dtype == torch.float32 else 1e10 * left.pop(0)

        monkeypatch.setattr(gpu, "matmul_flops_per_second", measured)
        return left

    return come


def test_rounds_that_agree_are_enough(speeds):
    left = speeds(FASTER, FASTER + 0.1, FASTER + 0.2, SLOWER)
    float32, bfloat16 = gpu.measure_cpu(rounds=3)
    assert left == [SLOWER] and bfloat16 / float32 == pytest.approx(FASTER + 0.1), "the middle one counts"


def test_rounds_that_disagree_are_repeated_and_the_middle_one_counts(speeds):
    left = speeds(SLOWER, FASTER, SLOWER, *[FASTER] * 9, SLOWER)
    float32, bfloat16 = gpu.measure_cpu(rounds=3)
    assert left == [SLOWER], "3 rounds, then 6, then 12"
    assert gpu.choose_precision(Device("cpu", "x", None, None), float32, bfloat16)[0] == "bf16"


def test_one_measurement_serves_all(settings, speeds):
    left = speeds(*[FASTER] * 3, *[SLOWER] * 3)
    first = gpu.measure_machine(settings)
    assert set(first) == {"device", "float32_flops_per_second", "bfloat16_flops_per_second", "precision", "why"}
    assert first["precision"] == "bf16"
    assert gpu.measure_machine(settings) == first and gpu.choose_recipe(settings).precision == "bf16"
    assert len(left) == 3, "nothing was measured again"


@pytest.mark.parametrize(
    "other",
    [
        {"name": "another model, AVX512"},
        {"name": "one model, AVX2"},
        {"torch": "0.0"},
        {"threads": 97},
    ],
    ids=lambda other: next(iter(other)) + " " + str(next(iter(other.values()))),
)
def test_another_machine_measures_for_itself(settings, speeds, monkeypatch, other):
    """A LESSON_HOME on a Drive meets other machines; one with bfloat16 instructions must not speak for one without."""
    monkeypatch.setattr(gpu, "cpu_name", lambda: "one model, AVX512")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    speeds(*[FASTER] * 3, *[SLOWER] * 3)
    monkeypatch.setattr(gpu, "step_seconds", lambda *_, **__: 1.0)
    lengths = [5] * 96
    assert gpu.predict_seconds(settings, lengths)["step_seconds"] == 1.0
    assert gpu.measure_machine(settings)["precision"] == "bf16"
    if "name" in other:
        monkeypatch.setattr(gpu, "cpu_name", lambda: other["name"])
    if "torch" in other:
        monkeypatch.setattr(torch, "__version__", other["torch"])
    if "threads" in other:
        monkeypatch.setattr(torch, "get_num_threads", lambda: other["threads"])
    monkeypatch.setattr(gpu, "step_seconds", lambda *_, **__: 7.0)
    assert gpu.measure_machine(settings)["precision"] == "fp32"
    assert gpu.predict_seconds(settings, lengths)["step_seconds"] == 7.0


def test_a_cpu_is_named_by_its_model_and_its_instructions(monkeypatch):
    named = gpu.cpu_name()
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "NONE")
    assert gpu.cpu_name() != named and gpu.cpu_name().endswith("NONE")


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_an_untrained_model_has_an_output_for_each_class(settings, classes):
    assert models.untrained_model(settings, classes).classifier.out_features == classes
    assert gpu.step_seconds(settings, settings.recipe, tokens=5, classes=classes, seconds=0) > 0


def test_untrained_model_on_meta_has_shapes_only(settings):
    model = models.untrained_model(settings)
    assert {p.device.type for p in model.parameters()} == {"meta"}
    assert models.untrained_model(settings, device="cpu").num_parameters() == model.num_parameters()


def test_a_giant_model_is_refused_from_its_config_alone(tmp_path):
    giant = {"model_type": "distilbert", "dim": 8192, "hidden_dim": 32768, "n_layers": 48, "n_heads": 64}
    folder = tmp_path / "giant"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(giant | {"vocab_size": 30522}))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with refused("too-large", "giant has 38,", "3,000,000,000"):
        models.untrained_model(make_settings(tmp_path, model=folder))
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before  # in KiB
    assert grown < 2**20, "its weights would need 144 GiB"


def test_work_is_counted_as_one_would_by_hand(settings):
    splits, tokenizer = data.load_or_make(settings), models.load_tokenizer(settings)
    train = splits["train"]["sentence"][:]
    lengths = [len(tokenizer(sentence)["input_ids"]) for sentence in train]
    tokens, work = sum(lengths) / len(train), gpu.count_work(settings, lengths)
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


def test_a_last_batch_that_is_not_full_is_a_step(settings):
    assert gpu.count_work(settings, [5] * 33)["steps"] == 4


def test_a_prediction_is_kept_and_made_again_for_other_settings(tmp_path, settings, monkeypatch):
    monkeypatch.setattr(threads, "busy", lambda *_, **__: 0.0)
    quick = gpu.median_seconds
    monkeypatch.setattr(gpu, "median_seconds", lambda work, seconds: quick(work, 0))
    lengths = tokenization.lengths(tokenization.load_or_make(settings)[0]["train"])
    first, work = gpu.predict_seconds(settings, lengths), gpu.count_work(settings, lengths)
    assert first["predicted_train_seconds"] == pytest.approx(first["step_seconds"] * work["steps"])
    assert first["flops_per_second"] == pytest.approx(work["flops"] / first["predicted_train_seconds"])
    assert gpu.predict_seconds(settings, lengths) == first, "predicted again, the times would differ"
    again = make_settings(tmp_path, model=settings.model, dataset=settings.dataset, epochs=5)
    other = gpu.predict_seconds(again, lengths)
    assert other["predicted_train_seconds"] == pytest.approx(15 * other["step_seconds"])
    assert other["step_seconds"] != first["step_seconds"]
    assert gpu.predict_seconds(again, lengths) == other == read_json(settings.home / "prediction" / "value.json")


def test_a_prediction_from_a_busy_machine_is_made_again(settings, monkeypatch):
    loads, steps = iter([gpu.BUSY, 0.0]), iter([9.0, 1.0])
    monkeypatch.setattr(threads, "busy", lambda *_, **__: next(loads))
    monkeypatch.setattr(gpu, "measure_machine", lambda _: {"precision": "fp32"})
    monkeypatch.setattr(gpu, "step_seconds", lambda *_, **__: next(steps))
    assert [gpu.predict_seconds(settings, [5] * 96)["step_seconds"] for _ in range(3)] == [9.0, 1.0, 1.0]


def test_the_load_is_told():
    assert gpu.describe_load(0.0) != gpu.describe_load(0.8)
    assert "80%" in gpu.describe_load(0.8) and "quiet" in gpu.describe_load(math.nextafter(gpu.BUSY, 0))


def test_attention_follows_the_processor_and_the_batch(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert [models.attention(size) for size in (16, 32, 64, 128)] == ["sdpa", "sdpa", "eager", "eager"]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert models.attention(128) == "sdpa"
