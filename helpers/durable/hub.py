"""The Hugging Face Hub: name what a run takes from it, wait while it is busy or away, and say why it cannot be had.

`huggingface_hub` sends every request of this course (also those of transformers and datasets) through one HTTP client.
`install_retries` lets that client wait, so that the calls in the notebooks stay as plain as they are. The library's own
retries are not enough: they do not repeat a file that is answered 503 or a connection that closes without an answer,
they begin anew with every file, they wait for hours when the Hub says so, and even when the data is here already.
"""

import logging
import re
import sys
import time
from pathlib import Path

import huggingface_hub
from huggingface_hub import constants
from huggingface_hub.errors import HTTPError, OfflineModeIsEnabled

from helpers.durable import errors
from helpers.durable.errors import OFFLINE_HINT, LessonError
from helpers.durable.files import readable_path

BACKOFF_SECONDS = (1, 2, 4, 8, 15)  # before each further try
GIVE_UP_SECONDS = 30  # after which no further try begins, unless the Hub asks for a wait
MAX_RETRY_AFTER = 90  # seconds; when the Hub asks for a longer wait than this, it is better to come back later
TIMEOUT, CACHED_TIMEOUT = 10, 3  # seconds without a sign of life; the second where we can do without the answer
RETRY_STATUS = {408: "slow", 429: "too many requests", 500: "error", 502: "error", 503: "busy", 504: "slow"}
SOURCE = re.compile(r"/(?:api/)?(models/|datasets/)?(.+?)(?:/(?:resolve|revision|tree|paths-info)/([^/]+).*)?")
# What transformers asks about a model, and can do without: its chat templates, and which model it comes from.
OPTIONAL = re.compile(r"/api/models/[^/]+(/[^/]+)?(/tree/.+)?")


def install_retries() -> None:
    """Let the Hub's client wait and try again; let notebooks show what `explain` says. Called by `course.start`.

    Also: downloads go over plain HTTP, whose cuts are seen, resumed and checked; and a repository that brings its own
    Python code is refused without a question (transformers would ask, and run the code after a "y").
    """
    from transformers import dynamic_module_utils

    constants.HF_HUB_DISABLE_XET, dynamic_module_utils.TIME_OUT_REMOTE_CODE = True, 0
    client = huggingface_hub.get_session()  # an httpx.Client; since huggingface_hub 2 an httpx2.Client
    if not isinstance(client, RetryingClient):
        kind, hooks = type("HubClient", (RetryingClient, type(client)), {}), client.event_hooks
        huggingface_hub.set_client_factory(lambda: kind(event_hooks=hooks, follow_redirects=True))
        logging.getLogger("huggingface_hub.file_download").setLevel(logging.ERROR)  # cuts are mended, unsaid
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell and Exception not in shell.custom_exceptions:
        shell.set_custom_exc((Exception,), errors.ipython_handler)
        shell.events.register("post_run_cell", errors.on_post_run_cell)


class RetryingClient:
    """What `install_retries` adds to an httpx client."""

    gave_up = float("-inf")  # when; AutoTokenizer then asks for another file, and need not wait once more

    def send(self, request, **options):
        """Send a request; while the Hub is busy or away, wait and send it again, saying so.

        Raises:
            LessonError: it cannot be had. Where the libraries can do without the answer, they are told so at once.
        """
        path, begin = request.url.path, time.monotonic()
        if not is_hub_request(request.method, path):
            return super().send(request, **options)
        optional = OPTIONAL.fullmatch(path)
        needed = not (optional or is_prepared(path))
        waits = BACKOFF_SECONDS if needed and begin > RetryingClient.gave_up + 5 else ()
        limit = TIMEOUT if needed else CACHED_TIMEOUT
        request.extensions["timeout"] = dict.fromkeys(("connect", "read", "write", "pool"), limit)
        for tries in range(1 + len(waits)):
            asked = 0
            try:
                response = super().send(request, **options)
            except HTTPError as error:
                trouble = errors.connection_problem(error)
            else:
                if response.status_code not in RETRY_STATUS:
                    break
                response.close()
                trouble = f"The Hub answered {response.status_code} ({RETRY_STATUS[response.status_code]})"
                asked = retry_after(response)
            late = not asked and time.monotonic() > begin + GIVE_UP_SECONDS
            if late or tries == len(waits) or asked > MAX_RETRY_AFTER:
                if waits:
                    RetryingClient.gave_up = time.monotonic()
                if tries:
                    trouble += f", also after {tries} more {'try' if tries == 1 else 'tries'}"
                if asked > MAX_RETRY_AFTER:
                    trouble += f", and asks us to come back in {asked / 60:.0f} minutes"
                reason = errors.hub_unreachable(trouble)
                raise OfflineModeIsEnabled(str(reason)) if optional else reason
            wait = max(asked, waits[tries])
            print(f"{trouble}. Trying again in {wait:g} s ({tries + 1} of {len(waits)}).", flush=True)
            time.sleep(wait)
        reason = access_error(path, response)
        if reason:
            response.close()
            raise OfflineModeIsEnabled(str(reason)) if optional else reason
        return response


def is_hub_request(method: str, path: str) -> bool:
    """True for a question about a model or data set, and for a file (which may lie on another machine than the Hub).

    All else may fail, or is not to be sent twice: counting uses, looking for news, writing to the Hub.
    """
    if path.startswith(("/api/models/", "/api/datasets/")):
        return method == "GET" or "/paths-info/" in path
    return "/resolve/" in path or (method == "GET" and not path.startswith("/api/"))


def is_prepared(path: str) -> bool:
    """True when a request is about a data set that `load_dataset` has prepared here, from the same commit."""
    commit = re.search(r"/datasets/.+/([0-9a-f]{40})(?:/|$)", path)
    if not commit:
        return False
    from datasets import config

    return any(Path(config.HF_DATASETS_CACHE).glob(f"*/*/*/{commit[1]}"))  # name, configuration, version


def retry_after(response) -> int:
    """Return how many seconds a busy Hub asks us to wait, or 0."""
    after, window = response.headers.get("Retry-After", ""), response.headers.get("RateLimit", "")
    window = re.search(r"r=0;\s*t=(\d+)", window)
    return int(after) if after.isdigit() else int(window[1]) + 1 if window else 0


def access_error(path: str, response) -> LessonError | None:
    """Return the error for an answer that no further try would change; None for a good one, or for a missing file."""
    status, answer = response.status_code, response.headers.get("X-Error-Code", "")
    if status not in (401, 403) and answer not in ("RepoNotFound", "RevisionNotFound"):
        return None
    kind, name, commit = SOURCE.fullmatch(path).groups()
    what = f"{'data set' if kind == 'datasets/' else 'model'} {name if kind or commit else 'asked for'}"
    if answer == "RevisionNotFound":
        code = "no-such-commit"
        text = (
            f"The Hub's {what} has no commit {commit}. Leave out @COMMIT, or copy one from its page (Files, History)."
        )
    elif answer == "GatedRepo" or status == 403:
        code = "hub-gated"
        text = (
            f"The Hub does not give the {what} to everybody ({status}, gated). Choose an open one; or ask for access "
            "on its page and set HF_TOKEN to your token (in Colab: under the key sign on the left)."
        )
    else:
        code = "hub-refused"
        text = (
            f"The Hub knows no public {what} ({status}). Check its spelling, capital letters too, on huggingface.co; "
            "a private one needs HF_TOKEN, set to a token that may read it."
        )
        if "authorization" in response.request.headers:
            text += " The token in HF_TOKEN may also be out of date: unset it and try again."
    return LessonError(f"{text} {OFFLINE_HINT}", code)


def resolve_source(kind: str, source: str, bases: list[Path]) -> tuple[str, str | None]:
    """Split "ORG/NAME@COMMIT" into id and commit; return a local folder as an absolute path and None.

    A Hub id without a commit is looked up, so that the run is pinned to what the Hub holds now.

    Args:
        kind: "model" or "dataset".
        bases: the folders from which a relative path may start, in this order.

    Raises:
        LessonError: neither a folder nor a Hub id, or the Hub did not name a commit.
    """
    setting, code, what = f"LESSON_{kind.upper()}", "no-source", "neither a folder here nor the id of a Hub repository"
    for place in [readable_path(setting, source, base) for base in bases]:
        if place.is_dir():
            return str(place), None
        if place.is_file():
            code, what = "file-not-folder", "a file; this course opens folders, so put it into one of its own"
    name, _, revision = source.partition("@")
    known = re.fullmatch(r"(\w[\w.-]*/)?\w[\w.-]*", name) and re.fullmatch(r"([0-9a-f]{40})?", revision)
    if code != "no-source" or not known:
        raise LessonError(
            f"{setting} = {source!r} is {what}. "
            "Give the path of a folder, or ORG/NAME, or ORG/NAME@COMMIT with the commit's 40 hex digits.",
            code,
        )
    if revision:
        return name, revision
    try:
        return name, huggingface_hub.HfApi().repo_info(name, repo_type=kind, revision="main").sha
    except Exception as error:
        if isinstance(error, LessonError):
            raise
        raise LessonError(
            f"The Hugging Face Hub did not answer for the {kind} {name!r} ({type(error).__name__}). "
            "Check its spelling and the network, or set LESSON_EDITION=pocket, which needs no network.",
            "hub-away",
        ) from error
