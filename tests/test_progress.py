"""What a check says and remembers, and the student's card."""

import datetime
import subprocess
import sys

import numpy as np
import pytest
import torch
from support import ROOT, make_settings

from helpers.exercises import judging, progress, registry
from helpers.exercises.check import Check
from helpers.exercises.judging import OPEN, RIGHT, WRONG

SHARES = {"fixed (128)": 0.88, "per batch": 0.70, "grouped by length": 0.06}


def notebook(tmp_path, **more) -> dict:
    return {"settings": make_settings(tmp_path), "shares": SHARES} | more


def test_a_check_says_one_of_three_things(tmp_path):
    checks = Check("tokenization", notebook(tmp_path))
    assert repr(checks.wasted_share(None)).startswith("○ Not answered yet.")
    assert repr(checks.wasted_share(0.7)).startswith("✗ Not yet, because that is the share when")
    assert repr(checks.wasted_share(0.88)).startswith("✓ Yes.")


def test_a_long_reply_is_shown_in_lines_that_end_between_words():
    text = "the TF-IDF baseline is better, as `wilson_interval(times * right.sum(), times * len(right))` shows; " * 3
    lines = repr(judging.wrong(text)).splitlines()
    assert " ".join(lines) == f"✗ Not yet, because {text}".strip() and max(map(len, lines)) <= 92


@pytest.mark.parametrize("answer", [np.float64(0.88), np.float32(0.88), np.array([0.88]), torch.tensor(0.88)])
def test_numbers_of_other_libraries_are_numbers(tmp_path, answer):
    assert Check("tokenization", notebook(tmp_path)).wasted_share(answer).state == RIGHT


@pytest.mark.parametrize("answer", ["0.88", True, [0.88], float("nan"), np.array([0.88, 0.88]), torch.ones(2)])
def test_what_is_no_number_is_refused(tmp_path, answer):
    assert Check("tokenization", notebook(tmp_path)).wasted_share(answer).state == WRONG


def test_a_misspelt_exercise_names_the_real_ones(tmp_path):
    with pytest.raises(AttributeError, match="no exercise 'wasted'.*wasted_share"):
        Check("tokenization", notebook(tmp_path)).wasted  # noqa: B018


def test_a_check_before_its_cells_were_run_says_so(tmp_path):
    reply = Check("tokenization", {"settings": make_settings(tmp_path)}).wasted_share(0.5)
    assert reply.state == OPEN and "no `shares` yet" in reply.text


@pytest.mark.parametrize("answer", [4.0, 7.0])
def test_without_the_settings_cell_an_answer_is_no_traceback(answer):
    """This exercise asks for no setting itself."""
    reply = Check("evaluation", {"low": 0.78, "high": 0.82, "right": range(100)}).interval_width(answer)
    assert reply.state == OPEN and "settings cell at the top first" in reply.text


def test_a_variable_that_means_something_else_is_no_traceback(tmp_path):
    reply = Check("tokenization", notebook(tmp_path, shares=7)).wasted_share(0.88)
    assert reply.state == OPEN and "Run the cells above this one again" in reply.text
    assert progress.read(progress.path(make_settings(tmp_path))) is None


@pytest.mark.parametrize("answer, state", [(0.88, RIGHT), (0.1, WRONG)])
def test_an_answer_is_judged_where_nothing_can_be_written(tmp_path, answer, state, monkeypatch):
    def full(*given):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(progress, "write_json", full)
    reply = Check("tokenization", notebook(tmp_path)).wasted_share(answer)
    assert reply.state == state and "could not be noted for your card" in reply.text and "No space" in reply.text


def test_choices_are_words():
    hints = {"slower": "measure it."}
    assert judging.choice(" Faster ", "faster", "good", hints) == judging.right("good")
    assert judging.choice("slower", "faster", "good", hints) == judging.wrong("measure it.")
    assert '"faster", "slower"' in judging.choice(7, "faster", "good", hints).text


def test_a_students_function_may_fail():
    assert judging.call_safely(lambda x: 2 * x, 4) == (8, None)
    assert "ZeroDivisionError" in judging.call_safely(lambda x: x / 0, 4)[1].text
    assert "SystemExit" in judging.call_safely(lambda x: sys.exit(), 4)[1].text
    assert "returns nothing" in judging.call_safely(lambda x: None, 4)[1].text
    assert "a number" in judging.call_safely(3)[1].text


@pytest.mark.parametrize(
    "value, words",
    [("x", "text"), (3, "a number"), ([], "a list"), ({}, "a dictionary"), (np.ones(2), "an ndarray"),
     (len, "a function"), (test_choices_are_words, "a function"), (None, "nothing"), (object(), "an object")],
)  # fmt: skip
def test_a_value_is_called_by_its_kind(value, words):
    assert judging.describe_type(value) == words


def test_a_solved_exercise_stays_solved_and_tries_are_counted(tmp_path):
    checks = Check("tokenization", notebook(tmp_path))
    for answer in (0.1, None, 0.2, 0.88, 0.3):
        checks.wasted_share(answer)
    entry = progress.read(progress.path(make_settings(tmp_path)))["tokenization"]["wasted_share"]
    assert entry["tries"] == 3 and datetime.datetime.fromisoformat(entry["solved"]).year > 2000


def test_solutions_leave_no_trace(tmp_path):
    Check("tokenization", notebook(tmp_path), remember=False).wasted_share(0.88)
    assert progress.read(progress.path(make_settings(tmp_path))) is None


def test_the_card_counts(tmp_path):
    settings = make_settings(tmp_path)
    total = sum(map(len, registry.EXERCISES.values()))
    assert f"0 of {total}" in repr(progress.card(settings))
    Check("tokenization", notebook(tmp_path)).wasted_share(0.88)
    lines = repr(progress.card(settings)).splitlines()
    assert len(lines) == 8 and "●" in lines[3] and lines[-1].endswith(f"1 of {total}")


@pytest.mark.parametrize("text", ["", "{", "[]", "7", '{"tokenization": 3}', '{"tokenization": {"wasted_share": {}}}'])
def test_a_damaged_file_is_put_aside_and_a_new_one_begun(tmp_path, text):
    settings = make_settings(tmp_path / "anna")
    file = progress.path(settings)
    file.parent.mkdir(parents=True)
    file.write_text(text)
    assert "0 of" in repr(progress.card(settings))
    Check("tokenization", notebook(tmp_path / "anna")).wasted_share(0.88)
    assert progress.read(file)["tokenization"]["wasted_share"]["tries"] == 1
    assert file.with_name("progress.json.damaged").read_text() == text


def test_every_notebook_has_a_title_and_exercises():
    assert list(registry.TITLES) == list(registry.EXERCISES)
    assert [title[0] for title in registry.TITLES.values()] == list("123456")


def test_the_engine_needs_no_heavy_library():
    """A card, a table and a check before its first answer must not wait for torch."""
    lines = [
        "import sys",
        "from helpers.exercises import check, judging, progress, registry",
        "check.Check('training', {}).new_share(None)",
        "heavy = {'torch', 'transformers', 'datasets', 'pandas', 'sklearn', 'matplotlib'} & set(sys.modules)",
        "sys.exit(str(heavy) if heavy else 0)",
    ]
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
