"""Settings: where they come from, what is refused, and which of them the files of a stage depend on."""

import os
import re
import shutil
import time
from pathlib import Path

import huggingface_hub.constants
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from support import ROOT, make_settings, refused, tiny_data, tiny_model

from helpers import settings
from helpers.durable import drive
from helpers.durable.errors import LessonError
from helpers.durable.files import show_path
from helpers.durable.hub import resolve_source

COMMIT = "8d51e7e4887a4caaa95b3fbebbf53c0490b58bbb"
STAGES = ("data", "tokenized", "model")


@pytest.fixture
def no_hub(monkeypatch):
    """Point the Hub's client at a port of this machine on which nobody listens."""
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # tests/faults/test_hub_faults.py counts the seconds


def changed(before, after) -> list[str]:
    """Return the stages whose identity differs."""
    return [stage for stage in STAGES if before.fingerprint(stage) != after.fingerprint(stage)]


def test_defaults_of_pocket(tmp_path):
    chosen = make_settings(tmp_path)
    assert (chosen.edition, chosen.recipe.epochs, chosen.seed, chosen.train_rows) == ("pocket", 2, 42, None)
    assert Path(chosen.model) == settings.SHIPPED / "model" and Path(chosen.dataset) == settings.SHIPPED / "data"
    assert chosen.model_revision is None and chosen.dataset_revision is None
    assert chosen.home == tmp_path / "pocket"
    assert (chosen.model_name, chosen.dataset_name) == ("pocket-distilbert", "pocket reviews")


def test_defaults_of_full_are_pinned(tmp_path):
    chosen = settings.read({"LESSON_EDITION": "full", "LESSON_HOME": str(tmp_path)})
    assert (chosen.model, chosen.dataset) == ("distilbert/distilbert-base-uncased", "stanfordnlp/sst2")
    assert (chosen.recipe.epochs, chosen.recipe.batch_size, chosen.recipe.learning_rate) == (2, 128, 1e-4)
    for revision in (chosen.model_revision, chosen.dataset_revision):
        assert re.fullmatch("[0-9a-f]{40}", revision)


def test_environment_wins_over_form(tmp_path):
    environ = {"LESSON_EDITION": "pocket", "LESSON_HOME": str(tmp_path), "LESSON_SEED": "7"}
    chosen = settings.read(environ, edition="full", seed=3, epochs=5, home="/elsewhere", train_rows=0, model="")
    assert (chosen.edition, chosen.seed, chosen.recipe.epochs) == ("pocket", 7, 5)
    assert chosen.home == tmp_path / "pocket" and chosen.train_rows is None


def test_the_notebooks_default_form_equals_no_form(tmp_path):
    form = {"home": "", "model": "", "dataset": "", "train_rows": 0, "epochs": 0, "seed": 42}
    environ = {"LESSON_EDITION": "pocket", "LESSON_HOME": str(tmp_path)}
    assert settings.read(environ, edition="auto", **form) == settings.read(environ)


def test_auto_names_the_edition_and_why():
    edition, why = settings.choose_edition("auto")
    assert edition == ("full" if "GPU is present" in why else "pocket")


@pytest.mark.parametrize(
    ("name", "value", "code", "named"),
    [
        ("EDITION", "bucket", "no-such-edition", ["'bucket'", "auto", "pocket", "full"]),
        ("TRAIN_ROWS", "15", "no-number", ["train_rows", "16", "1,000,000,000"]),
        ("TRAIN_ROWS", "many", "no-number", ["train_rows", "'many'"]),
        ("EPOCHS", "-1", "no-number", ["epochs", "1", "100"]),
        ("EPOCHS", "101", "no-number", ["epochs", "100"]),
        ("EPOCHS", "1.5", "no-number", ["epochs", "'1.5'"]),
        ("SEED", "-1", "no-number", ["seed", "0"]),
        ("SEED", str(2**31), "no-number", ["seed", f"{2**31 - 1:,}"]),
        ("KEEP_ON_DRIVE", "perhaps", "no-yes-or-no", ["keep_on_drive", "'perhaps'"]),
        ("MODEL", "no such model!", "no-source", ["LESSON_MODEL", "ORG/NAME@COMMIT"]),
        ("MODEL", "org/name@main", "no-source", ["LESSON_MODEL", "40 hex digits"]),
        ("DATASET", "a/b/c", "no-source", ["LESSON_DATASET", "ORG/NAME@COMMIT"]),
    ],
)
def test_a_bad_value_is_refused_with_the_valid_ones(tmp_path, name, value, code, named):
    with refused(code, *named):
        make_settings(tmp_path, **{name.lower(): value})


def test_a_misspelled_variable_is_refused_with_a_suggestion(tmp_path):
    every = [f"LESSON_{name.upper()}" for name in settings.NAMES]
    with refused("no-such-setting", "LESSON_EDTION.", "LESSON_EDITION?", *every):
        make_settings(tmp_path, edtion="pocket")


def test_an_unknown_form_field_is_refused(tmp_path):
    with refused("no-such-setting", "colour"):
        settings.read({"LESSON_EDITION": "pocket", "LESSON_HOME": str(tmp_path)}, colour="red")


@pytest.mark.parametrize("where", ["form", "environment"])
def test_seed_0_is_a_seed(tmp_path, where):
    environ = {"LESSON_EDITION": "pocket", "LESSON_HOME": str(tmp_path)}
    zero = settings.read(environ, seed=0) if where == "form" else settings.read(environ | {"LESSON_SEED": "0"})
    assert zero.seed == 0 and changed(zero, make_settings(tmp_path)) == list(STAGES)
    assert settings.read(environ, seed="").seed == settings.read(environ, seed=None).seed == 42


def test_an_unknown_stage_is_a_key_error(tmp_path):
    with pytest.raises(KeyError):
        make_settings(tmp_path).fingerprint("evaluation")


def test_a_hub_id_is_split_from_its_commit():
    assert resolve_source("dataset", f"org/some.name@{COMMIT}", []) == ("org/some.name", COMMIT)
    assert resolve_source("model", f"name@{COMMIT}", []) == ("name", COMMIT)


def test_a_hub_id_without_commit_says_that_the_hub_did_not_answer(no_hub):
    with refused("hub-away", "LESSON_EDITION=pocket"):
        resolve_source("model", "org/name", [Path.cwd()])


def test_a_folder_is_found_from_here_and_from_home(tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for source in ("mine", "./mine", "~/mine", str(tmp_path / "mine")):
        assert resolve_source("model", source, [Path.cwd()]) == (str(tmp_path / "mine"), None)
    assert resolve_source("model", "helpers/pocket/model", [Path.cwd(), ROOT]) == (
        str(settings.SHIPPED / "model"),
        None,
    )


def test_a_local_model_is_named_by_its_folder_and_learns_slowly(tmp_path):
    chosen = make_settings(tmp_path, model=tiny_model(tmp_path / "mine"))
    assert (chosen.model_name, chosen.model_revision, chosen.recipe.learning_rate) == ("mine", None, 5e-5)
    assert str(tmp_path) not in str(chosen.fingerprint("model"))


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
    other = settings.read({"LESSON_HOME": str(tmp_path / "other"), "LESSON_EDITION": "pocket"})
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
    assert show_path(home / "lesson_home" / "x") == "users/ada/lesson_home/x"
    (tmp_path / "course" / "notebooks").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "course" / "notebooks")
    assert show_path(tmp_path / "course" / "lesson_home") == "lesson_home", "a notebook of a clone"
    for here in (tmp_path / "course", home, home.parent / "bob"):
        here.mkdir(exist_ok=True)
        monkeypatch.chdir(here)
        assert show_path(home / "results") == ("results" if here == home else "~/results")


def test_printed_settings_do_not_name_the_home_folder(tmp_path, monkeypatch):
    home = tmp_path / "users" / "ada"
    work = tmp_path / "elsewhere"
    for folder in (home, work):
        folder.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(work)
    text = str(make_settings(home / "results"))
    assert text.startswith("Edition: pocket (you asked for it)")
    assert "~/results/pocket" in text and str(home) not in text and str(ROOT) not in text


@given(st.none() | st.integers() | st.text() | st.floats() | st.booleans() | st.from_regex(r"\s*[+-]?[\d_]+\s*"))
def test_whole_number_gives_a_number_in_range_or_a_lesson_error(value):
    try:
        number = settings.whole_number("epochs", value, 3, 1, 100)
    except LessonError as error:
        assert "1 to 100" in str(error)
        return
    assert isinstance(number, int) and 1 <= number <= 100
    assert number == 3 if value in (None, "") else int(str(value).replace("_", "")) == number


@given(st.text() | st.text(alphabet="a/.~@ \0-_0é", max_size=12) | st.from_regex(r"[\w./~-]{1,300}(@[0-9a-f]{38,42})?"))
@hypothesis_settings(
    deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
def test_locate_gives_a_source_or_a_lesson_error(monkeypatch, source):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)  # no look-up, however many ids come
    try:
        name, revision = resolve_source("model", source, [Path.cwd()])
    except LessonError as error:
        assert "model" in str(error).lower()
        return
    assert Path(name).is_dir() if revision is None else re.fullmatch("[0-9a-f]{40}", revision)


@pytest.mark.parametrize("source", ["~nobody-of-that-name/model", "a\0b", "x" * 300, "\ud800"])
def test_locate_refuses_paths_that_the_system_cannot_read(source):
    with pytest.raises(LessonError):
        resolve_source("model", source, [Path.cwd()])


def test_a_home_of_an_unknown_user_is_refused():
    with pytest.raises(LessonError):
        settings.read({"LESSON_EDITION": "pocket", "LESSON_HOME": "~nobody-of-that-name/lesson"})


def test_a_folder_that_pip_installed_is_no_model_of_that_name(tmp_path, monkeypatch):
    """Installed, the package lies among others: a Hub id that is called as one of them is a Hub id still."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(settings, "clone_root", lambda: None)
    assert settings.read({"LESSON_EDITION": "pocket"}, model=f"helpers@{COMMIT}").model_revision == COMMIT


@pytest.mark.parametrize("value", ["no", "off", "false", "False", "NO", "0", 0, "", None, False])
@pytest.mark.parametrize("where", ["form", "environment"])
def test_no_is_no(tmp_path, value, where):
    environ = {"LESSON_EDITION": "pocket", "LESSON_HOME": str(tmp_path / "home")}
    if where == "environment":
        environ["LESSON_KEEP_ON_DRIVE"] = "" if value is None else str(value)
    chosen = settings.read(environ, keep_on_drive=value if where == "form" else False)
    assert chosen.home == tmp_path / "home" / "pocket"


@pytest.mark.parametrize("value", ["yes", "on", "true", "True", "1", 1, True])
def test_yes_is_yes_and_outside_colab_there_is_no_drive(tmp_path, value):
    with refused("not-colab", "LESSON_HOME"):
        settings.read({"LESSON_EDITION": "pocket", "LESSON_HOME": str(tmp_path)}, keep_on_drive=value)


@pytest.mark.parametrize("home", ["", "mine", "mine/deeper", "./mine", "one/../mine"])
def test_keep_on_drive_puts_home_on_the_drive(in_colab, home):
    chosen = settings.read({"LESSON_EDITION": "pocket"}, keep_on_drive=True, home=home)
    assert chosen.home == Path(os.path.normpath(in_colab.place / (home or "lesson_home") / "pocket"))


@pytest.mark.parametrize("home", ["/content/mine", "../mine", "mine/../..", ".", "mine/../../../x", "/"])
def test_a_home_that_leads_away_from_the_drive_is_refused(in_colab, home):
    with refused("not-on-drive", repr(home)):
        settings.read({"LESSON_EDITION": "pocket"}, keep_on_drive=True, home=home)


def test_what_an_interruption_costs_is_told_for_each_place(in_colab, tmp_path, monkeypatch):
    on_drive, here = in_colab.place / "home" / "x", tmp_path / "home" / "x"
    assert "keep_on_drive" in drive.describe_risk(here, 45)
    assert "keep_on_drive" not in drive.describe_risk(on_drive, 45) and "45" in drive.describe_risk(on_drive, 45)
    monkeypatch.setenv("KAGGLE_KERNEL_RUN_TYPE", "Interactive")
    assert "/kaggle/working" in drive.describe_risk(here, 45)
    assert "45" in drive.describe_risk(drive.KAGGLE / "lesson_home", 45)


@pytest.mark.parametrize("gpu", [True, False])
def test_in_colab_auto_is_full_with_and_without_a_gpu(in_colab, monkeypatch, gpu):
    """There each notebook has a machine of its own, and all of them must tell of the same data."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: gpu)
    assert settings.choose_edition("auto")[0] == "full"
    assert settings.choose_edition("pocket")[0] == "pocket"


@pytest.mark.parametrize("gpu", [True, False])
def test_kaggle_is_not_colab_although_its_image_is(in_colab, monkeypatch, gpu):
    monkeypatch.setenv("KAGGLE_KERNEL_RUN_TYPE", "Interactive")
    monkeypatch.setattr("torch.cuda.is_available", lambda: gpu)
    assert not drive.in_colab() and settings.choose_edition("auto")[0] == ("full" if gpu else "pocket")
    with refused("not-colab"):
        settings.read({"LESSON_EDITION": "pocket"}, keep_on_drive=True)


def test_in_kaggle_without_a_clone_home_is_the_folder_that_is_kept(monkeypatch):
    monkeypatch.setenv("KAGGLE_KERNEL_RUN_TYPE", "Interactive")
    monkeypatch.setattr(settings, "clone_root", lambda: None)
    assert settings.read({"LESSON_EDITION": "pocket"}).home == drive.KAGGLE / "lesson_home" / "pocket"


def test_a_drive_that_does_not_open_is_a_lesson_error(in_colab, monkeypatch):
    def refuse(path):
        raise ValueError("mount failed")

    monkeypatch.setattr(in_colab.module, "mount", refuse)
    with refused("no-drive", "mount failed", "keep_on_drive"):
        drive.mount_drive()
