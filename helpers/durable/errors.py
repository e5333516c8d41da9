"""What the Hub's and the libraries' errors mean: one paragraph each, with the one thing to try next."""

import errno
import re

from huggingface_hub.errors import HTTPError, OfflineModeIsEnabled


class LessonError(Exception):
    """Something a student or teacher can mend. The message says what happened, why, and the next thing to try."""

    def __init__(self, text: str, code: str = ""):
        super().__init__(text)
        self.code = code

    def _render_traceback_(self):
        """In a notebook IPython prints these lines instead of a long traceback (IPython's documented hook)."""
        return [f"LessonError: {self}"]


LONGEST = 90  # seconds; when the Hub asks for a longer wait than this, it is better to come back later
OFFLINE_HINT = "The pocket edition (edition = pocket in the settings cell, or LESSON_EDITION=pocket) needs no network."
SOURCE = re.compile(r"^/(api/)?(models/|datasets/)?(.+?)/(?:resolve|revision|tree|paths-info)/([^/]+)")


def away(error: Exception) -> str:
    """Return in a few words why no answer came."""
    text, kind = str(error), type(error).__name__
    if "CERTIFICATE" in text.upper():
        return "Something between here and the Hub intercepts the connection (its certificate is not trusted)"
    if "Timeout" in kind:
        return "The Hub does not answer"
    if re.search(r"Errno -\d|getaddrinfo|name resolution|Name or service", text):
        return "The Hub's address is not found: there seems to be no network"
    return "The Hub cannot be reached" if "Connect" in kind else "The connection to the Hub broke"


def lost(trouble: str, tries: int, wanted: int = 0) -> str:
    """Return the paragraph for a Hub that did not come back."""
    more = f", also after {tries} more tries" if tries else ""
    more += f", and asks us to come back in {wanted / 60:.0f} minutes" if wanted > LONGEST else ""
    return (
        f"{trouble}{more}. Nothing is lost or half done: when the network is back, run the same cell or command again. "
        + OFFLINE_HINT
    )


def refusal(response) -> LessonError | None:
    """Return the error for an answer that no further try would change; None for a good one, or for a missing file."""
    status, code = response.status_code, response.headers.get("X-Error-Code", "")
    if status not in (401, 403) and code not in ("RepoNotFound", "RevisionNotFound"):
        return None
    found = SOURCE.match(response.request.url.path) or re.match(
        "^/(api/)(models/|datasets/)(.+)()", response.request.url.path
    )
    what = f"{'data set' if found and found[2] == 'datasets/' else 'model'} {found[3] if found else 'asked for'}"
    if code == "RevisionNotFound":
        text = (
            f"The Hub's {what} has no commit {found[4]}. Leave out @COMMIT, or copy one from its page (Files, History)."
        )
    elif code == "GatedRepo" or status == 403:
        text = (
            f"The Hub does not give the {what} to everybody ({status}, gated). Choose an open one; or ask for access "
            "on its page and set HF_TOKEN to your token (in Colab: under the key sign on the left)."
        )
    else:
        text = (
            f"The Hub knows no public {what} ({status}). Check its spelling, capital letters too, on huggingface.co; "
            "a private one needs HF_TOKEN, set to a token that may read it."
        )
        if "authorization" in response.request.headers:
            text += " The token in HF_TOKEN may also be out of date: unset it and try again."
    return LessonError(f"{text} {OFFLINE_HINT}")


def explain(error: BaseException | None) -> LessonError | None:
    """Return the paragraph for an error of the Hub or of a download, or None for any other error.

    The libraries wrap what they cannot handle: the cause may stand several links down the chain.
    """
    chain = []
    while error is not None and error not in chain:
        chain.append(error)
        error = error.__cause__ or error.__context__
    for link in chain:
        if isinstance(link, LessonError):
            return link
        if isinstance(link, OSError) and link.errno == errno.ENOSPC:
            return LessonError(
                "The disk is full. Make room (downloads are kept in ~/.cache/huggingface, or HF_HOME) and run the same "
                "again. Nothing half-written is used."
            )
    for link in chain:
        if isinstance(link, OfflineModeIsEnabled):
            why = (
                str(link)
                if str(link).endswith(OFFLINE_HINT)
                else lost("HF_HUB_OFFLINE is set and forbids the network", 0)
            )
            return LessonError(f"What is needed is not in this machine's cache. {why}")
        if getattr(link, "response", None) is not None and refusal(link.response):
            return refusal(link.response)
        if isinstance(link, HTTPError) or "Consistency check failed" in str(link):
            return LessonError(lost(away(link), 0))
        if type(link).__module__ == "datasets.exceptions" or "Config name is missing" in str(link):
            return unreadable_data(chain[-1])
    return None


def unreadable_data(error: BaseException) -> LessonError:
    """Return the paragraph for data that cannot be opened."""
    why = "it has no rows" if "corresponds to no data" in str(error) else first_line(error)
    return LessonError(
        f"The data cannot be opened: {why}. It should be a Hub id or a folder with parquet, csv or json "
        "files that all have the same columns. Mend it, or choose other data with LESSON_DATASET."
    )


def too_little_memory(model, parts: int) -> LessonError:
    """Return the paragraph for a GPU that cannot train this model, with each batch computed in so many parts."""
    return LessonError(
        f"The GPU's memory is too small for this model ({model.num_parameters():,} parameters)"
        f"{', even with one sentence at a time' * (parts > 1)}. "
        "End other programs that use the GPU, or choose a smaller model (LESSON_MODEL)."
    )


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, without addresses' secrets, to be quoted in another one."""
    line = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
    return re.sub(r"hf_\w+|(?<=://)[^/@\s]+@|(?<=\?)\S+", "...", line)[:300].rstrip(". ")


def show(shell, kind, error, trace, tb_offset=None):
    """Show an error in a notebook: what `explain` says, or else as ever (a handler for IPython's set_custom_exc)."""
    told = explain(error) or error
    shell.showtraceback((type(told), told, trace), tb_offset=tb_offset, running_compiled_code=True)


def replace_error(result) -> None:
    """Tell those who run a notebook (nbclient) the same as its reader (a handler for IPython's post_run_cell)."""
    result.error_in_exec = explain(result.error_in_exec) or result.error_in_exec
