"""What a check says and remembers; the student's card; the teacher's table."""

import json

import numpy as np
import pytest
import torch
from support import make_settings

from helpers import __main__ as command
from helpers import check, progress
from helpers.check import OPEN, RIGHT, WRONG, Check
from helpers.files import LessonError

SHARES = {"fixed (128)": 0.88, "per batch": 0.70, "grouped by length": 0.06}


def notebook(tmp_path, **more) -> dict:
    return {"settings": make_settings(tmp_path), "shares": SHARES} | more


def test_a_check_says_one_of_three_things(tmp_path):
    checks = Check("tokenization", notebook(tmp_path))
    assert repr(checks.wasted_share(None)).startswith("○ Not answered yet.")
    assert repr(checks.wasted_share(0.7)).startswith("✗ Not yet, because that is the share when")
    assert repr(checks.wasted_share(0.88)).startswith("✓ Yes.")


def test_a_long_reply_is_shown_in_lines_that_end_between_words():
    text = "the TF-IDF baseline is better, as `evaluation.wilson(times * right.sum(), times * len(right))` shows; " * 3
    lines = repr(check.wrong(text)).splitlines()
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


def test_choices_are_words(tmp_path):
    hints = {"slower": "measure it."}
    assert check.choice(" Faster ", "faster", "good", hints) == check.right("good")
    assert check.choice("slower", "faster", "good", hints) == check.wrong("measure it.")
    assert '"faster", "slower"' in check.choice(7, "faster", "good", hints).text


def test_a_students_function_may_fail(tmp_path):
    assert check.call(lambda x: 2 * x, 4) == (8, None)
    assert "ZeroDivisionError" in check.call(lambda x: x / 0, 4)[1].text
    assert "returns nothing" in check.call(lambda x: None, 4)[1].text
    assert "a number" in check.call(3)[1].text


def test_a_solved_exercise_stays_solved_and_tries_are_counted(tmp_path):
    checks = Check("tokenization", notebook(tmp_path))
    for answer in (0.1, None, 0.2, 0.88, 0.3):
        checks.wasted_share(answer)
    entry = progress.read(progress.path(make_settings(tmp_path)))["tokenization"]["wasted_share"]
    assert entry["tries"] == 3 and entry["solved"].startswith("20")


def test_solutions_leave_no_trace(tmp_path):
    Check("tokenization", notebook(tmp_path), remember=False).wasted_share(0.88)
    assert progress.read(progress.path(make_settings(tmp_path))) is None


def test_the_card_counts(tmp_path):
    settings = make_settings(tmp_path)
    total = sum(map(len, progress.solved({}).values()))
    assert f"0 of {total}" in repr(progress.card(settings))
    Check("tokenization", notebook(tmp_path)).wasted_share(0.88)
    lines = repr(progress.card(settings)).splitlines()
    assert len(lines) == 8 and "●" in lines[3] and lines[-1].endswith(f"1 of {total}")


@pytest.mark.parametrize("text", ["", "{", "[]", "7", '{"tokenization": 3}', '{"tokenization": {"wasted_share": {}}}'])
def test_a_damaged_file_starts_anew_and_is_named_to_the_teacher(tmp_path, text):
    settings = make_settings(tmp_path / "anna")
    file = progress.path(settings)
    file.parent.mkdir(parents=True)
    file.write_text(text)
    assert "0 of" in repr(progress.card(settings))
    assert "not read: anna/progress.json" in progress.table(tmp_path)
    Check("tokenization", notebook(tmp_path / "anna")).wasted_share(0.88)
    assert progress.read(file)["tokenization"]["wasted_share"]["tries"] == 1


def test_the_table_of_a_class(tmp_path, capsys):
    solved = {"tokenization": {"wasted_share": {"tries": 2, "solved": "2026-01-01T10:00:00+00:00"}}}
    tried = {
        "tokenization": {
            "wasted_share": {"tries": 5, "solved": None},
            "of_an_older_course": solved["tokenization"]["wasted_share"],
        }
    }
    for name, known in {"anna.json": solved, "Bo 12/progress.json": tried, "cy/progress.json": {}}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(json.dumps(known))
    assert command.main(["progress", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {line.split("  ")[0] for line in lines[1:4]} == {"anna", "Bo 12", "cy"}
    count = len(check.exercises("tokenization"))
    (anna,) = [line for line in lines if line.startswith("anna")]
    assert anna.split()[3] == f"1/{count}"
    (row,) = [line for line in lines if line.startswith("3. wasted_share")]
    assert row.split()[2:] == ["1", "of", "3", "7"]


@pytest.mark.parametrize("place", ["nowhere", "."])
def test_a_folder_without_files_is_an_error_that_says_what_to_do(tmp_path, capsys, place):
    assert command.main(["progress", str(tmp_path / place)]) == 2
    assert "progress file" in capsys.readouterr().err.replace("progress.json files", "progress file")
    with pytest.raises(LessonError):
        progress.collect(tmp_path / place)
