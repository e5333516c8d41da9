"""Settings: where they come from, what is refused, and which of them the files of a stage depend on."""

import importlib.machinery
import re
import shutil
import sys
import types
from pathlib import Path

import huggingface_hub.constants
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from support import make_settings, tiny_data, tiny_model

from helpers import checkpoints, colab, files
from helpers import settings as course
from helpers.files import LessonError

COMMIT = "8d51e7e4887a4caaa95b3fbebbf53c0490b58bbb"
STAGES = ("data", "tokenized", "model")


@pytest.fixture
def no_hub(monkeypatch):
    """Point the Hub's client at a port of this machine on which nobody listens."""
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")


def changed(before, after) -> list[str]:
    """Return the stages whose identity differs."""
    return [stage for stage in STAGES if before.identity(stage) != after.identity(stage)]


def test_defaults_of_pocket(tmp_path):
    settings = make_settings(tmp_path)
    assert (settings.edition, settings.epochs, settings.seed, settings.train_rows) == ("pocket", 2, 42, None)
    assert Path(settings.model) == course.POCKET / "model" and Path(settings.dataset) == course.POCKET / "data"
    assert settings.model_revision is None and settings.dataset_revision is None
    assert settings.home == tmp_path / "pocket"
    assert (settings.model_name, settings.dataset_name) == ("pocket-distilbert", "pocket reviews")


def test_defaults_of_full_are_pinned(tmp_path):
    settings = course.read({"LESSON_EDITION": "full", "LESSON_HOME": str(tmp_path)})
    assert (settings.model, settings.dataset) == ("distilbert/distilbert-base-uncased", "stanfordnlp/sst2")
    assert (settings.epochs, settings.batch_size, settings.learning_rate) == (2, 128, 1e-4)
    for revision in (settings.model_revision, settings.dataset_revision):
        assert re.fullmatch("[0-9a-f]{40}", revision)


def test_environment_wins_over_form(tmp_path):
    environ = {"LESSON_EDITION": "pocket", "LESSON_HOME": str(tmp_path), "LESSON_SEED": "7"}
    settings = course.read(environ, edition="full", seed=3, epochs=5, home="/elsewhere", train_rows=0, model="")
    assert (settings.edition, settings.seed, settings.epochs) == ("pocket", 7, 5)
    assert settings.home == tmp_path / "pocket" and settings.train_rows is None


def test_the_notebooks_default_form_equals_no_form(tmp_path):
    form = {"home": "", "model": "", "dataset": "", "train_rows": 0, "epochs": 0, "seed": 42}
    environ = {"LESSON_EDITION": "pocket", "LESSON_HOME": str(tmp_path)}
    assert course.read(environ, edition="auto", **form) == course.read(environ)


def test_auto_names_the_edition_and_why():
    edition, why = course.choose_edition("auto")
    assert edition == ("full" if "GPU is present" in why else "pocket")


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("EDITION", "bucket", ["auto", "pocket", "full"]),
        ("TRAIN_ROWS", "15", ["train_rows", "16", "1,000,000,000"]),
        ("TRAIN_ROWS", "many", ["train_rows", "'many'"]),
        ("EPOCHS", "0", ["epochs", "1 to 100"]),
        ("EPOCHS", "101", ["epochs", "1 to 100"]),
        ("EPOCHS", "1.5", ["epochs", "whole number"]),
        ("SEED", "-1", ["seed", "from 1 to"]),
        ("SEED", str(2**31), ["seed", f"{2**31 - 1:,}"]),
        ("MODEL", "no such model!", ["LESSON_MODEL", "ORG/NAME@COMMIT", "folder"]),
        ("MODEL", "org/name@main", ["LESSON_MODEL", "40 hex digits"]),
        ("DATASET", "a/b/c", ["LESSON_DATASET", "ORG/NAME@COMMIT", "folder"]),
    ],
)
def test_a_bad_value_is_refused_with_the_valid_ones(tmp_path, name, value, wanted):
    with pytest.raises(LessonError) as caught:
        make_settings(tmp_path, **{name.lower(): value})
    assert all(text in str(caught.value) for text in wanted)


def test_a_misspelled_variable_is_refused_with_a_suggestion(tmp_path):
    with pytest.raises(LessonError, match="no setting LESSON_EDTION. Did you mean LESSON_EDITION?") as caught:
        make_settings(tmp_path, edtion="pocket")
    assert all(f"LESSON_{name.upper()}" in str(caught.value) for name in course.NAMES)


def test_an_unknown_form_field_is_refused(tmp_path):
    with pytest.raises(LessonError, match="no setting colour"):
        course.read({"LESSON_EDITION": "pocket", "LESSON_HOME": str(tmp_path)}, colour="red")


def test_an_unknown_stage_is_a_key_error(tmp_path):
    with pytest.raises(KeyError):
        make_settings(tmp_path).identity("evaluation")


def test_a_hub_id_is_split_from_its_commit():
    assert course.locate("dataset", f"org/some.name@{COMMIT}") == ("org/some.name", COMMIT)
    assert course.locate("model", f"name@{COMMIT}") == ("name", COMMIT)


def test_a_hub_id_without_commit_says_that_the_hub_did_not_answer(no_hub):
    with pytest.raises(LessonError, match="(?i)hub.*LESSON_EDITION=pocket"):
        course.locate("model", "org/name")


def test_a_folder_is_found_from_here_and_from_home(tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for source in ("mine", "./mine", "~/mine", str(tmp_path / "mine")):
        assert course.locate("model", source) == (str(tmp_path / "mine"), None)
    assert course.locate("model", "helpers/pocket/model") == (str(course.POCKET / "model"), None)


def test_a_local_model_is_named_by_its_folder_and_learns_slowly(tmp_path):
    settings = make_settings(tmp_path, model=tiny_model(tmp_path / "mine"))
    assert (settings.model_name, settings.model_revision, settings.learning_rate) == ("mine", None, 5e-5)
    assert str(tmp_path) not in str(settings.identity("model"))


@pytest.mark.parametrize(
    ("name", "value", "stages"),
    [
        ("epochs", 7, ["model"]),
        ("seed", 7, list(STAGES)),
        ("train_rows", 100, list(STAGES)),
    ],
)
def test_identity_changes_where_the_setting_matters(tmp_path, name, value, stages):
    assert changed(make_settings(tmp_path), make_settings(tmp_path, **{name: value})) == stages


def test_identity_does_not_depend_on_home_or_why(tmp_path):
    other = course.read({"LESSON_HOME": str(tmp_path / "other"), "LESSON_EDITION": "pocket"})
    assert changed(make_settings(tmp_path), other) == []


def test_a_changed_local_data_file_changes_every_identity(tmp_path):
    folder = tiny_data(tmp_path / "data")
    before = make_settings(tmp_path, dataset=folder)
    assert changed(before, make_settings(tmp_path, dataset=folder)) == []
    shutil.copy(folder / "test.parquet", folder / "train.parquet")
    assert changed(before, make_settings(tmp_path, dataset=folder)) == list(STAGES)


def test_another_local_model_changes_what_is_made_with_it(tmp_path):
    before = make_settings(tmp_path, model=tiny_model(tmp_path / "a" / "mine", seed=0))
    after = make_settings(tmp_path, model=tiny_model(tmp_path / "b" / "mine", seed=1))
    assert changed(before, after) == ["tokenized", "model"]


def test_another_hub_revision_changes_what_is_made_with_it(tmp_path):
    before = make_settings(tmp_path, model=f"org/name@{COMMIT}")
    assert changed(before, make_settings(tmp_path, model=f"org/name@{COMMIT[::-1]}")) == ["tokenized", "model"]


def test_show_path_never_names_the_home_folder(tmp_path, monkeypatch):
    home = tmp_path / "users" / "ada"
    home.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(tmp_path)
    assert course.show_path(home / "lesson_home" / "x") == "users/ada/lesson_home/x"
    monkeypatch.chdir("/")
    assert course.show_path(course.ROOT / "lesson_home") == "lesson_home"


def test_printed_settings_do_not_name_the_home_folder(tmp_path, monkeypatch):
    home = tmp_path / "users" / "ada"
    work = tmp_path / "elsewhere"
    for folder in (home, work):
        folder.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(work)
    text = str(make_settings(home / "results"))
    assert text.startswith("Edition: pocket (you asked for it)")
    assert "~/results/pocket" in text and str(home) not in text and str(course.ROOT) not in text


@given(st.none() | st.integers() | st.text() | st.floats() | st.booleans() | st.from_regex(r"\s*[+-]?[\d_]+\s*"))
def test_whole_number_gives_a_number_in_range_or_a_lesson_error(value):
    try:
        number = course.whole_number("epochs", value, 3, 1, 100)
    except LessonError as error:
        assert "1 to 100" in str(error)
        return
    assert isinstance(number, int) and 1 <= number <= 100
    assert number == 3 if value is None else int(str(value).replace("_", "")) == number


@given(st.text() | st.text(alphabet="a/.~@ \0-_0é", max_size=12) | st.from_regex(r"[\w./~-]{1,300}(@[0-9a-f]{38,42})?"))
@hypothesis_settings(
    deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
def test_locate_gives_a_source_or_a_lesson_error(monkeypatch, source):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)  # no look-up, however many ids come
    try:
        name, revision = course.locate("model", source)
    except LessonError as error:
        assert "model" in str(error).lower()
        return
    assert Path(name).is_dir() if revision is None else re.fullmatch("[0-9a-f]{40}", revision)


@pytest.mark.parametrize("source", ["~nobody-of-that-name/model", "a\0b", "x" * 300, "\ud800"])
def test_locate_refuses_paths_that_the_system_cannot_read(source):
    with pytest.raises(LessonError):
        course.locate("model", source)


def test_a_home_of_an_unknown_user_is_refused():
    with pytest.raises(LessonError):
        course.read({"LESSON_EDITION": "pocket", "LESSON_HOME": "~nobody-of-that-name/lesson"})


@pytest.fixture
def in_colab(tmp_path, monkeypatch):
    """Make this process believe that it runs in Colab; return the folder where its Drive will be."""
    place, opened = tmp_path / "drive" / "MyDrive", []
    drive = types.ModuleType("google.colab.drive")
    drive.mount = lambda path: (opened.append(path), place.mkdir(parents=True))
    for name, module in (("google.colab", types.ModuleType("google.colab")), ("google.colab.drive", drive)):
        module.__spec__ = importlib.machinery.ModuleSpec(name, None)
        monkeypatch.setitem(sys.modules, name, module)
    sys.modules["google.colab"].drive = drive
    if "google" not in sys.modules:
        monkeypatch.setitem(sys.modules, "google", types.ModuleType("google"))
    for module in (files, colab, checkpoints):
        monkeypatch.setattr(module, "DRIVE", place)
    return place, opened


def test_outside_colab_there_is_no_drive(tmp_path):
    assert not colab.in_colab()
    with pytest.raises(LessonError, match="keep_on_drive works in Google Colab only.*LESSON_HOME"):
        course.read({"LESSON_EDITION": "pocket", "LESSON_HOME": str(tmp_path)}, keep_on_drive=True)


@pytest.mark.parametrize("home", ["", "mine"])
def test_keep_on_drive_puts_home_on_the_drive(in_colab, monkeypatch, home):
    place, opened = in_colab
    monkeypatch.setenv("LESSON_EDITION", "pocket")
    monkeypatch.delenv("LESSON_HOME", raising=False)
    settings = course.start(keep_on_drive=True, home=home)
    assert settings.home == place / (home or "lesson_home") / "pocket"
    assert opened == [str(place.parent)], "it is opened once"
    course.start(keep_on_drive=True, home=home)
    assert len(opened) == 1
    assert "about 45 seconds at most" in checkpoints.Run(settings, "fp32").at_risk()


@pytest.mark.parametrize("value", [False, "False", "0", "", None])
def test_without_it_nothing_is_on_the_drive_and_the_risk_is_named(in_colab, tmp_path, value):
    settings = course.read({"LESSON_EDITION": "pocket", "LESSON_HOME": str(tmp_path / "home")}, keep_on_drive=value)
    assert settings.home == tmp_path / "home" / "pocket"
    risk = checkpoints.Run(settings, "fp32").at_risk()
    assert "everything on it is lost" in risk and "keep_on_drive" in risk


def test_a_drive_that_does_not_open_is_a_lesson_error(in_colab, monkeypatch):
    def refuse(path):
        raise ValueError("mount failed")

    monkeypatch.setattr(sys.modules["google.colab.drive"], "mount", refuse)
    with pytest.raises(
        LessonError, match=r"Google Drive did not open \(mount failed\).*allow it, or set keep_on_drive"
    ):
        colab.mount_drive()
