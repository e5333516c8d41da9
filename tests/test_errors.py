"""Errors: what each one means, and what a student sees of it. (Their texts: test_error_texts.py.)"""

import ast
import copy
import errno
import itertools
import pickle
import re
import sys

import httpx
import pytest
import requests
from datasets.exceptions import DatasetGenerationError
from huggingface_hub import file_download
from huggingface_hub.errors import HTTPError, OfflineModeIsEnabled
from IPython.core.interactiveshell import InteractiveShell
from support import ROOT

from helpers.durable.errors import LessonError, explain, first_line, ipython_handler, on_post_run_cell

CLIENT = sys.modules[HTTPError.__module__.partition(".")[0]]  # httpx, or httpx2, whichever huggingface_hub uses


class Error(Exception):
    """Any error."""


def caused(*errors: BaseException) -> BaseException:
    """Return the first error, each with the next one as its cause."""
    for error, cause in itertools.pairwise(errors):
        error.__cause__ = cause
    return errors[0]


def meanwhile(other: BaseException, error: BaseException, hidden: bool = False) -> BaseException:
    """Return the error that was raised while another one was handled; if hidden, `from None`."""
    error.__context__, error.__suppress_context__ = other, hidden
    return error


def in_a_download(error: BaseException) -> BaseException:
    """Return an error that was raised inside huggingface_hub, while it fetched a file."""

    class Headers:
        def __deepcopy__(self, _):
            raise error

    try:
        file_download.http_get("http://127.0.0.1:9", None, headers=Headers())
    except BaseException as raised:
        return raised
    raise AssertionError("it should have failed")


def answered(library, status: int) -> BaseException:
    """Return the error that requests, httpx or httpx2 raises for an answer of another machine."""
    try:
        if library is requests:
            response = requests.Response()
            response.status_code, response.url = status, "https://example.org/data"
        else:
            response = library.Response(status, request=library.Request("GET", "https://example.org/data"))
        response.raise_for_status()
    except Exception as raised:
        return raised
    raise AssertionError("it should have failed")


FULL = OSError(errno.ENOSPC, "No space left on device")
CUT = HTTPError("[SSL: CERTIFICATE_VERIFY_FAILED]")
SIZE = OSError("Consistency check failed: file should be of size 5")
MEANINGS = {
    "nothing": (None, None),
    "another error": (Error("a"), None),
    "another error, with a cause": (caused(Error("a"), KeyError("b")), None),
    "our own": (LessonError("told", "its-code"), "its-code"),
    "our own, deep inside": (caused(OSError("a"), Error("b"), LessonError("told", "its-code")), "its-code"),
    "our own, raised while another was handled": (meanwhile(FULL, LessonError("told", "its-code")), "its-code"),
    "another error, raised while our own was handled": (meanwhile(LessonError("told", "b"), Error("a")), "b"),
    "a loop": (caused(*[Error("a")] * 2), None),
    "a full disk": (caused(Error("a"), FULL), "disk-full"),
    "another error, raised while the disk was full": (meanwhile(FULL, Error("a")), "disk-full"),
    "another error, from None, while the disk was full": (meanwhile(FULL, KeyError("b"), hidden=True), None),
    "another error, from another, while the disk was full": (
        meanwhile(FULL, caused(KeyError("b"), Error("c"))), None),
    "HF_HUB_OFFLINE": (caused(Error("a"), OfflineModeIsEnabled("x")), "offline"),
    "HF_HUB_OFFLINE, as datasets tells it": (ConnectionError("Couldn't reach 'a' (OfflineModeIsEnabled)"), "offline"),
    "a download of the wrong size": (in_a_download(SIZE), "hub-away"),
    "a download that breaks": (caused(Error("a"), in_a_download(CUT)), "hub-away"),
    "the same words from elsewhere": (OSError(*SIZE.args), None),
    "data that cannot be opened": (caused(DatasetGenerationError("a"), Error("line 7")), "data-unreadable"),
    "data in several parts": (ValueError("Config name is missing.\nPick one"), "data-unreadable"),
} | {
    f"{library.__name__}: a machine that is not the Hub answers {status}": (answered(library, status), None)
    for library in dict.fromkeys((requests, httpx, CLIENT)) for status in (401, 403, 404, 503)
}  # fmt: skip


@pytest.mark.parametrize("name", MEANINGS)
def test_what_an_error_means(name):
    error, code = MEANINGS[name]
    told = explain(error)
    assert (told and told.code) == code and "\n" not in str(told)


@pytest.mark.parametrize("way", [lambda error: pickle.loads(pickle.dumps(error)), copy.copy], ids=["pickle", "copy"])
def test_an_error_goes_whole_from_one_process_to_another(way):
    error = way(LessonError("What happened. What to do.", "some-code"))
    assert type(error) is LessonError
    assert (str(error), error.code) == ("What happened. What to do.", "some-code")
    assert LessonError("no code").code == ""


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError(""), "ValueError"),
        (ValueError("\n first. \n second"), "first"),
        (ValueError("hf_abcDEF1 at https://me:secret@host/x?Signature=abc"), "... at https://...host/x?"),
    ],
)
def test_a_quoted_error_is_one_line_without_secrets(error, line):
    assert first_line(error) == line


@pytest.fixture
def shell():
    """Return IPython, as in a notebook, with the course's handlers."""
    shell = InteractiveShell()
    shell.set_custom_exc((Exception,), ipython_handler)
    shell.events.register("post_run_cell", on_post_run_cell)
    yield shell
    shell.history_manager.end_session()


OWN = [
    "raise requests.HTTPError('401 Client Error', response=answered(requests, 401).response)",
    "raise answered(httpx, 403)",
    "{}['missing']",
]


@pytest.mark.parametrize("cell", OWN)
def test_a_students_own_error_is_shown_as_it_is_and_the_next_one_of_ours_still_as_a_paragraph(shell, capsys, cell):
    shell.user_ns |= {"requests": requests, "httpx": httpx, "answered": answered, "LessonError": LessonError}
    result = shell.run_cell(cell)
    shown = re.sub(r"\x1b\[[\d;]*m", "", "".join(capsys.readouterr()))  # without colours
    assert "Traceback" in shown and cell in shown
    assert "unregistering" not in shown and "Error in callback" not in shown
    assert not isinstance(result.error_in_exec, LessonError)
    result = shell.run_cell(
        "try:\n    1 / 0\nexcept ZeroDivisionError as error:\n    raise LessonError('Mend it.') from error"
    )
    assert capsys.readouterr().out.strip() == "LessonError: Mend it."
    assert isinstance(result.error_in_exec, LessonError)


def test_errors_can_be_explained_without_the_course():
    """The module stands below all others: it imports none of them."""
    tree = ast.parse((ROOT / "helpers" / "durable" / "errors.py").read_text(encoding="utf-8"))
    names = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    names += [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    assert len(names) > 3 and [name for name in names if name.startswith("helpers")] == []
