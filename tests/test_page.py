"""The course on one page: its code, run as a script, with data and models of all shapes that the course takes."""

import ast
import random
import re

import pytest
from datasets import Dataset
from support import BAD, GOOD, OTHER, PAGE, clean_environ, code_cells, run, source, sst2_like, tiny_data, tiny_model

from helpers import gpu

MORE = """
print("names:", list(model.config.id2label.values()), model.config.label2id)
print("a long text:", classifier("film " * 3000, truncation=True, max_length=recipe.max_length)[0]["label"])
print("nothing:", classifier("", truncation=True, max_length=recipe.max_length)[0]["label"])
"""


@pytest.fixture
def page(tmp_path):
    """Return a function that runs the page's code on a data set; it returns what was printed."""
    cells = ["import helpers"] + [source(cell) for cell in code_cells(PAGE)[1:]] + [MORE]

    def run_page(dataset, **settings) -> str:
        values = {"LESSON_EDITION": "pocket", "LESSON_DATASET": dataset, "OMP_NUM_THREADS": 1}
        values |= {"LESSON_MODEL": tiny_model(tmp_path / "model"), "CUDA_VISIBLE_DEVICES": ""}
        done = run("-c", "\n\n".join(cells), cwd=tmp_path, env=clean_environ(tmp_path, **values, **settings))
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run_page


def three_classes(folder) -> None:
    """Write a train split alone, with other columns' names, and words for labels: good, bad and neither."""
    generator, rows = random.Random(0), []
    for number in range(120):
        kind = ("praise", "blame", "neither")[number % 3]
        words = [*generator.choices(OTHER, k=6), *{"praise": GOOD, "blame": BAD, "neither": OTHER}[kind][:2]]
        rows.append({"review": " ".join([*words, str(number)]), "sentiment": kind})
    folder.mkdir()
    Dataset.from_list(rows).to_parquet(folder / "train.parquet")


def test_three_classes_other_columns_and_no_split_but_train(page, tmp_path):
    three_classes(tmp_path / "data")
    said = page(tmp_path / "data")
    assert "labels: blame, neither, praise" in said and "Learn from 108 rows, measure on 12 others." in said
    assert "names: ['blame', 'neither', 'praise'] {'blame': 0, 'neither': 1, 'praise': 2}" in said
    assert re.search(r"^a long text: (blame|neither|praise)$", said, re.M) and "nothing: " in said


def test_rows_without_a_label_are_left_out(page, tmp_path):
    for name, part in sst2_like().items():
        (tmp_path / "data").mkdir(exist_ok=True)
        part.to_parquet(tmp_path / "data" / f"{name}.parquet")
    said = page(tmp_path / "data")
    assert "'test': 40" in said and "Learn from 720 rows, measure on 120 others." in said
    assert re.search(r"^The model beats it by \d+ sentences\.$", said, re.M) and "The loss has fallen: " in said


@pytest.mark.parametrize(("rows", "used"), [(30, 30), (5000, 96)])
def test_it_learns_from_as_many_rows_as_were_asked_for_and_measures_on_validation(page, tmp_path, rows, used):
    assert f"Learn from {used} rows, measure on 40 others." in page(
        tiny_data(tmp_path / "data"), LESSON_TRAIN_ROWS=rows
    )


@pytest.mark.parametrize("capability", [None, (6, 1), (7, 0), (7, 5), (8, 0), (8, 9), (12, 0)])
def test_it_trains_in_the_precision_that_the_course_chooses_for_a_gpu(capability):
    code = ast.parse("\n".join(source(cell) for cell in code_cells(PAGE)[2:]))
    (call,) = [n for n in ast.walk(code) if isinstance(n, ast.Call) and ast.unparse(n.func) == "TrainingArguments"]
    kinds = {k.arg: ast.unparse(k.value) for k in call.keywords if k.arg in ("bf16", "fp16")}
    chosen = [kind for kind, when in kinds.items() if eval(when, {"capability": capability or (0, 0)})]
    device = gpu.Device("cuda", "a GPU", None, capability)
    assert chosen == [kind for kind in ("bf16", "fp16") if capability and gpu.choose_precision(device)[0] == kind]
