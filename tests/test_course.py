"""The front door: what `course.start` does to a process, says, and refuses."""

import os

import datasets
import huggingface_hub.utils
import pytest
import transformers
from support import ROOT, clean_environ, run, tiny_data, tiny_model

from helpers import __version__, course
from helpers.durable import files
from helpers.durable.files import lock

COMMIT = "8d51e7e4887a4caaa95b3fbebbf53c0490b58bbb"


@pytest.fixture
def begin(tmp_path, monkeypatch):
    """A function: start with these values in the environment, and a home below tmp_path."""
    for name in [name for name in os.environ if name.startswith("LESSON_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("LESSON_EDITION", "pocket")
    monkeypatch.setenv("LESSON_HOME", str(tmp_path / "home"))

    def start(**values):
        for name, value in values.items():
            monkeypatch.setenv(f"LESSON_{name.upper()}", str(value))
        return course.start()

    return start


@pytest.fixture
def bars(monkeypatch):
    """A function: whether progress bars are on, of (downloads, datasets, transformers). All are on at first."""
    transformers.utils.logging.enable_progress_bar()
    datasets.enable_progress_bars()
    huggingface_hub.utils.enable_progress_bars()
    yield lambda: (
        not huggingface_hub.utils.are_progress_bars_disabled(),
        not datasets.are_progress_bars_disabled(),
        transformers.utils.logging.is_progress_bar_enabled(),
    )
    transformers.utils.logging.disable_progress_bar()
    datasets.disable_progress_bars()


def test_it_prints_what_runs_and_where(begin, capsys):
    settings = begin(seed=7)
    said = capsys.readouterr().out
    assert said.startswith("Edition: pocket") and "seed 7" in said and settings.home.is_dir()


def test_nothing_is_downloaded_and_no_bar_is_shown(begin, bars):
    begin()
    assert bars() == (False, False, False)


def test_of_a_folder_of_ones_own_nothing_is_downloaded_either(begin, bars, tmp_path):
    begin(model=tiny_model(tmp_path / "model"), dataset=tiny_data(tmp_path / "data"))
    assert bars() == (False, False, False)


@pytest.mark.parametrize(
    "values", [{"model": f"org/name@{COMMIT}"}, {"dataset": f"org/name@{COMMIT}"}, {"edition": "full"}]
)
def test_where_something_may_be_downloaded_its_bar_is_left_on(begin, bars, monkeypatch, values):
    monkeypatch.setattr("helpers.models.check", lambda settings: None)  # it would ask the Hub
    begin(**values)
    assert bars() == (True, False, False)


def test_the_version_that_made_a_home_is_noted_there(begin):
    assert (begin().home / "version.txt").read_text() == f"{__version__}\n"


def test_several_may_begin_at_once(begin, monkeypatch):
    """Under `accelerate launch`, and in two notebooks that are opened together."""
    held, write_text = [], files.write_text

    def noted(path, text):
        held.append(lock(path.parent).is_locked)
        write_text(path, text)

    monkeypatch.setattr(files, "write_text", noted)
    settings = begin()
    assert held == [True] and not lock(settings.home).is_locked


def test_the_drive_is_opened_once(in_colab, begin, monkeypatch):
    monkeypatch.delenv("LESSON_HOME")
    settings = begin(keep_on_drive="yes")
    assert settings.home == in_colab.place / "lesson_home" / "pocket"
    assert in_colab.opened == [str(in_colab.place.parent)]
    begin()
    assert len(in_colab.opened) == 1


def test_in_colab_it_says_that_machines_differ(in_colab, begin, capsys, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    begin()
    assert "keep_on_drive" in capsys.readouterr().out
    monkeypatch.setattr("helpers.models.check", lambda settings: None)
    begin(edition="full")
    assert "no GPU" in capsys.readouterr().out


def test_options_of_a_command_win_over_the_environment(begin, monkeypatch):
    monkeypatch.setenv("LESSON_SEED", "3")
    monkeypatch.setenv("LESSON_EPOCHS", "2")
    settings = course.start_command({"seed": "9", "epochs": None, "edition": "pocket"})
    assert (settings.seed, settings.recipe.epochs) == (9, 2)


LOAD_METRIC = """
from helpers import course, training
course.start()
print(training.compute_metrics(([[0.1, 0.9], [2.0, 1.0]], [1, 1])))
"""


def test_the_metric_leaves_nothing_in_the_users_home(tmp_path):
    """`evaluate.load` copies a script before it runs it: into LESSON_HOME, where all else is."""
    home = tmp_path / "user"
    home.mkdir()
    environ = clean_environ(tmp_path, LESSON_EDITION="pocket", HOME=home, USERPROFILE=home)
    del environ["HF_HOME"]
    done = run("-c", LOAD_METRIC, cwd=ROOT, env=environ)
    assert done.returncode == 0 and "'accuracy': 0.5" in done.stdout, done.stderr
    left = [path for path in home.rglob("*") if path.is_file() and "matplotlib" not in str(path)]
    assert left == [], "matplotlib alone keeps a list of this machine's fonts there"
