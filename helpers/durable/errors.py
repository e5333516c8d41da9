"""What went wrong, said so that a student can mend it: one paragraph each, with the one thing to try next."""

import errno
import re
import traceback

from huggingface_hub.errors import HfHubHTTPError, HTTPError, OfflineModeIsEnabled

OFFLINE_HINT = "The pocket edition (edition = pocket in the settings cell, or LESSON_EDITION=pocket) needs no network."


class LessonError(Exception):
    """Something a student or teacher can mend. The message says what happened, why, and the next thing to try.

    Args:
        code: a short word for the kind of error, such as "disk-full". Programs and tests ask for it, not for the text.
    """

    def __init__(self, text: str, code: str = ""):
        super().__init__(text)
        self.code = code

    def _render_traceback_(self):
        """In a notebook IPython prints these lines instead of a long traceback (IPython's documented hook)."""
        return [f"LessonError: {self}"]


def explain(error: BaseException | None) -> LessonError | None:
    """Return the paragraph for a full disk, and for an error of the Hub or of a data set; None for any other error.

    The libraries wrap what they cannot handle: the cause may stand several links down the chain. What was raised
    `from None` has no other cause. An error of a student's own, such as one of `requests`, is any other error.
    """
    chain = []
    while error is not None and error not in chain:
        chain.append(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    for link in chain:
        if isinstance(link, LessonError):
            return link
        if isinstance(link, OSError) and link.errno == errno.ENOSPC:
            return LessonError(
                "The disk is full. Make room (downloads are kept in ~/.cache/huggingface, or HF_HOME) and run the same "
                "again. Nothing half-written is used.",
                "disk-full",
            )
    for link in chain:
        if isinstance(link, OfflineModeIsEnabled) or "(OfflineModeIsEnabled)" in str(link):
            trouble = "What is needed is not in this machine's cache, and HF_HUB_OFFLINE forbids the network"
            return hub_unreachable(trouble, "offline")
        if is_hub_error(link):
            return hub_unreachable(connection_problem(link))
        if type(link).__module__ == "datasets.exceptions" or "Config name is missing" in str(link):
            return unreadable_data(chain[-1])
    return None


def is_hub_error(error: BaseException) -> bool:
    """True when a download of huggingface_hub broke, or did not arrive whole; False for an error of anybody else."""
    modules = [frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__)]
    if not any(module.startswith("huggingface_hub.") for module in modules):
        return False
    broke = isinstance(error, HTTPError) and not isinstance(error, HfHubHTTPError)  # that one is an answer
    return broke or "Consistency check failed" in str(error)


def connection_problem(error: BaseException) -> str:
    """Return in a few words why no answer came."""
    text, kind = str(error), type(error).__name__
    if "CERTIFICATE" in text.upper():
        return "Something between here and the Hub intercepts the connection (its certificate is not trusted)"
    if "Timeout" in kind:
        return "The Hub does not answer"
    if re.search(r"Errno -\d|getaddrinfo|name resolution|Name or service", text):
        return "The Hub's address is not found: there seems to be no network"
    return "The Hub cannot be reached" if "Connect" in kind else "The connection to the Hub broke"


def hub_unreachable(trouble: str, code: str = "hub-away") -> LessonError:
    """Return the error for a Hub that did not come back, or cannot be asked."""
    return LessonError(
        f"{trouble}. Nothing is lost or half done: when the network is back, run the same cell or command again. "
        + OFFLINE_HINT,
        code,
    )


def unreadable_data(error: BaseException) -> LessonError:
    """Return the error for data that cannot be opened."""
    why = "it has no rows" if "corresponds to no data" in str(error) else first_line(error)
    return LessonError(
        f"The data cannot be opened: {why}. It should be a Hub id or a folder with parquet, csv or json "
        "files that all have the same columns. Mend it, or choose other data with LESSON_DATASET.",
        "data-unreadable",
    )


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, without addresses' secrets, to be quoted in another one."""
    line = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
    return re.sub(r"hf_\w+|(?<=://)[^/@\s]+@|(?<=\?)\S+", "...", line)[:300].rstrip(". ")


def ipython_handler(shell, kind, error, trace, tb_offset=None):
    """Show an error in a notebook: what `explain` says, or else as ever (for IPython's set_custom_exc)."""
    told = explain(error) or error
    shell.showtraceback((type(told), told, trace), tb_offset=tb_offset, running_compiled_code=True)


def on_post_run_cell(result) -> None:
    """Tell those who run a notebook (nbclient) the same as its reader (for IPython's post_run_cell)."""
    result.error_in_exec = explain(result.error_in_exec) or result.error_in_exec
