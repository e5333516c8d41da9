"""The teacher's table: whose progress file is whose, and what is said of files that are none."""

import json
import subprocess
import sys
import zipfile

import pytest
from support import ROOT

from helpers import __main__ as command
from helpers.classroom.table import LARGEST, collect, table
from helpers.durable.errors import LessonError
from helpers.exercises import registry

SOLVED = {"tokenization": {"wasted_share": {"tries": 2, "solved": "2026-01-01T10:00:00+00:00"}}}
TRIED = {"tokenization": {"wasted_share": {"tries": 5, "solved": None}}}


def write(folder, files: dict):
    """Write files, each as JSON or, where it is text, as it is; return the folder."""
    for name, content in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


def rows(text: str) -> dict[str, list[str]]:
    """Return the table's rows: {student: what stands behind the name}."""
    students = text.split("\n\n")[0].splitlines()[1:]
    return {line.split("  ")[0]: line.split("  ", 1)[1].split() for line in students}


def test_the_table_of_a_class(tmp_path, capsys):
    older = {"tokenization": TRIED["tokenization"] | {"of_an_older_course": {"tries": 1, "solved": "then"}}}
    write(tmp_path, {"anna.json": SOLVED, "Bo 12/progress.json": older, "cy/progress.json": {}})
    assert command.main(["progress", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    found = rows(shown)
    assert set(found) == {"anna", "Bo 12", "cy"}
    count = len(registry.EXERCISES["tokenization"])
    total = sum(map(len, registry.EXERCISES.values()))
    assert found["anna"][2] == f"1/{count}" and found["anna"][-1] == f"1/{total}"
    assert found["cy"][-3:] == [f"0/{total}", "not", "begun"] and "begun" not in found["Bo 12"]
    lines = shown.splitlines()
    (row,) = [line for line in lines if line.startswith("3.4 wasted_share")]
    assert row.split()[2:] == ["1", "of", "3", "7"]
    exercises = lines[lines.index("") + 2 :]
    assert exercises[-1] == row and len(exercises) == total  # the hardest first


def test_two_students_of_one_name_are_two_rows(tmp_path):
    write(tmp_path, {"g1/anna.json": SOLVED, "g2/anna.json": TRIED, "bo.json": SOLVED, "bo/progress.json": {}})
    students, unread, others = collect(tmp_path)
    names = {"g1/anna.json": SOLVED, "g2/anna.json": TRIED, "bo.json": SOLVED, "bo/progress.json": {}}
    assert students == names and not unread and not others


def test_a_student_is_called_after_the_folder_and_not_after_lesson_home(tmp_path):
    write(tmp_path, {"s1/lesson_home/progress.json": SOLVED, "g/s2/progress.json": {}, "lesson_home/progress.json": {}})
    assert list(collect(tmp_path)[0]) == [tmp_path.name if n == "own" else n for n in ("g/s2", "own", "s1")]
    assert list(collect(tmp_path / "s1")[0]) == ["s1"]


def test_other_files_of_a_lesson_home_are_no_students_and_no_noise(tmp_path):
    home = {"results.json": {"accuracy": 0.8}, "full/machine.json": {}, "full/model/config.json": {"training": 1}}
    home |= {"full/torn.json": '{"a"', "cache/list.json": [1], "progress.json": SOLVED}
    write(tmp_path / "s1", home)
    write(tmp_path, {"s2/results.json": {"accuracy": 0.8}, "s2/tokenizer.json": '"' + LARGEST * "x"})
    students, unread, others = collect(tmp_path)
    assert students == {"s1": SOLVED} and not unread and len(others) == 7
    shown = table(tmp_path)
    assert "not read" not in shown and shown.splitlines()[-1].startswith("left out, because no progress is in them: 7")


@pytest.mark.parametrize("text", ["", "{", '{"gpu": 3}', '{"tokenization": {"wasted_share": {}}}', "\x00\x01"])
def test_a_damaged_file_is_named(tmp_path, text):
    write(tmp_path, {"anna.json": text, "bo.json": SOLVED})
    assert "not read: anna.json" in table(tmp_path) and "bo" in rows(table(tmp_path))
    write(tmp_path / "only", {"anna/progress.json": text})
    assert "not read: anna/progress.json" in table(tmp_path / "only")


def test_what_computers_leave_in_folders_and_archives_is_passed_over(tmp_path):
    files = {"anna.json": SOLVED, "__MACOSX/._anna.json": "\x00", ".ipynb_checkpoints/anna-checkpoint.json": SOLVED}
    with zipfile.ZipFile(tmp_path / "class.zip", "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content if isinstance(content, str) else json.dumps(content))
        archive.extractall(tmp_path)
    (tmp_path / "folder.json").mkdir()
    (tmp_path / "gone.json").symlink_to(tmp_path / "nowhere")
    assert collect(tmp_path) == ({"anna": SOLVED}, [], [])


@pytest.mark.parametrize("place, code", [("nowhere", "no-folder"), (".", "no-progress-files")])
def test_a_folder_without_files_is_an_error_that_says_what_to_do(tmp_path, capsys, place, code):
    write(tmp_path, {"results.json": {"accuracy": 0.8}})
    assert command.main(["progress", str(tmp_path / place)]) == 2
    assert "progress.json" in capsys.readouterr().err
    with pytest.raises(LessonError) as raised:
        collect(tmp_path / place)
    assert raised.value.code == code


def test_the_command_loads_no_heavy_library(tmp_path):
    write(tmp_path, {"anna.json": SOLVED})
    code = f"import sys; from helpers.__main__ import main; main(['progress', {str(tmp_path)!r}]); "
    code += "sys.exit(str({'torch', 'transformers', 'datasets', 'pandas'} & set(sys.modules)).replace('set()', ''))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stderr.strip() == "" and "anna" in done.stdout


def test_a_reader_who_has_seen_enough_is_no_error(tmp_path):
    """`python -m helpers progress FOLDER | head`."""
    write(tmp_path, {f"{number}.json": SOLVED for number in range(300)})
    line = [sys.executable, "-m", "helpers", "progress", str(tmp_path)]
    with subprocess.Popen(line, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        assert process.stderr.read() == "" and process.wait() == 0
