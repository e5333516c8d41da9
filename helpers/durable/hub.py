"""The Hugging Face Hub: name what a run takes from it, wait while it is busy or away, and say why it cannot be had.

`huggingface_hub` sends every request of this course (also those of transformers and datasets) through one HTTP client.
`patient` gives that client patience, so that the calls in the notebooks stay as plain as they are.
"""

import logging
import re
import sys
import time
from pathlib import Path

import huggingface_hub
from huggingface_hub import constants
from huggingface_hub.errors import HTTPError, OfflineModeIsEnabled

from helpers.durable.errors import LONGEST, SOURCE, away, lost, refusal, replace_error, show
from helpers.durable.errors import LessonError
from helpers.durable.files import readable_path

WAITS = (1, 2, 4, 8, 15)  # seconds before each further try
AT_ONCE = 5  # seconds after giving up in which there is one try more and no waiting
TIMEOUT, HURRY = 10, 3  # seconds without a sign of life; the second where a copy in the cache will do
BUSY = {408: "slow", 429: "too many requests", 500: "error", 502: "error", 503: "busy", 504: "slow"}


def install_retries() -> None:
    """Let the Hub's client wait and try again; let notebooks show what `explain` says. Called by `settings.start`.

    Also: downloads go over plain HTTP, whose cuts are seen, resumed and checked; and a repository that brings its own
    Python code is refused without a question (transformers would ask, and run the code after a "y").
    """
    from transformers import dynamic_module_utils

    constants.HF_HUB_DISABLE_XET, dynamic_module_utils.TIME_OUT_REMOTE_CODE = True, 0
    client = huggingface_hub.get_session()  # an httpx.Client; since huggingface_hub 2 an httpx2.Client
    if not isinstance(client, Patience):
        kind, hooks = type("PatientClient", (Patience, type(client)), {}), client.event_hooks
        huggingface_hub.set_client_factory(lambda: kind(event_hooks=hooks, follow_redirects=True, timeout=TIMEOUT))
        logging.getLogger("huggingface_hub.file_download").addFilter(shorten)
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell and Exception not in shell.custom_exceptions:
        shell.set_custom_exc((Exception,), show)
        shell.events.register("post_run_cell", replace_error)


class Patience:
    """What `patient` adds to an httpx client."""

    gave_up = (float("-inf"), 0)  # when, after how many tries; the libraries sometimes ask on, for another file

    def send(self, request, **options):
        """Send a request; while the Hub is busy or away, wait and send it again, saying so.

        Raises:
            LessonError: it cannot be had. OfflineModeIsEnabled (the Hub libraries' own): the same, told at once where
                they can do with the copies in their caches, as they then will.
        """
        if not matters(request.method, request.url.path):
            return super().send(request, **options)
        stored = in_cache(request.url.path)
        when, before = Patience.gave_up
        lately = time.monotonic() < when + AT_ONCE
        waits = () if stored or lately else WAITS
        most = HURRY if stored else float("inf")
        limits = request.extensions.get("timeout", {})  # by name, in seconds; None would wait for ever
        request.extensions["timeout"] = {name: min(limits[name] or TIMEOUT, most) for name in limits}
        for tries in range(1 + len(waits)):
            wanted = 0
            try:
                response = super().send(request, **options)
            except HTTPError as error:
                trouble = away(error)
            else:
                if response.status_code not in BUSY:
                    break
                trouble = f"The Hub answered {response.status_code} ({BUSY[response.status_code]})"
                wanted = pause(response)
            if tries == len(waits) or wanted > LONGEST:
                reason = LessonError(lost(trouble, before if lately else tries, wanted))
                Patience.gave_up = (time.monotonic(), tries) if waits else Patience.gave_up
                raise OfflineModeIsEnabled(str(reason)) if stored else reason
            wait = max(wanted, waits[tries])
            print(f"{trouble}. Trying again in {wait:g} s ({tries + 1} of {len(waits)}).", flush=True)
            time.sleep(wait)
        reason = refusal(response)
        if reason:
            response.close()
            raise OfflineModeIsEnabled(str(reason)) if stored else reason
        return response


def matters(method: str, path: str) -> bool:
    """True for questions about models and data sets, and for files (which may lie on other machines than the Hub).

    All else is the libraries' own affair and may fail: counting uses, looking for news.
    """
    asks = SOURCE.match(path) or path.startswith(("/api/models/", "/api/datasets/"))
    return bool(asks) or (method == "GET" and not path.startswith("/api/"))


def in_cache(path: str) -> bool:
    """True when the libraries can do without this answer, because their caches hold what it is about.

    That is: anything about a data set whose prepared copy of this commit is there, and what transformers asks at each
    loading about a model of which a copy is there (its optional files, its tags).
    """
    model = re.fullmatch(r"/api/models/(.+?)(?:/tree/([0-9a-f]{40})(?:/.*)?)?", path)
    if model:
        copies = Path(constants.HF_HUB_CACHE) / f"models--{model[1].replace('/', '--')}" / "snapshots"
        return (copies / (model[2] or "")).is_dir()
    asked = re.match(r"/(?:api/)?datasets/(.+?)/(?:resolve|revision|tree|paths-info)/([0-9a-f]{40})(?:/|$)", path)
    if not asked:
        return False
    from datasets import config, naming

    owner, _, name = asked[1].rpartition("/")
    folder = "___".join(filter(None, (owner, naming.camelcase_to_snakecase(name))))
    return any(Path(config.HF_DATASETS_CACHE).glob(f"{folder}/*/*/{asked[2]}"))


def pause(response) -> int:
    """Close a busy Hub's answer; return how many seconds it asks to wait, or 0."""
    response.close()
    after, window = response.headers.get("Retry-After", ""), response.headers.get("RateLimit", "")
    window = re.search(r"r=0;\s*t=(\d+)", window)
    return int(after) if after.isdigit() else int(window[1]) + 1 if window else 0


def shorten(record: logging.LogRecord) -> bool:
    """Let the library's remark on a cut download be one short line without the address (a logging filter)."""
    if str(record.msg).startswith("Error while downloading"):
        ended = "Max retries" in record.msg
        record.msg = "The connection was cut" + (" again." if ended else ". Going on with the download from there.")
        record.args = ()
    return True


def resolve_source(kind: str, source: str, bases) -> tuple[str, str | None]:
    """Split "ORG/NAME@COMMIT" into id and commit; return a local folder as an absolute path and None.

    A Hub id without a commit is looked up, so that the run is pinned to what the Hub holds now.

    Raises:
        LessonError: neither a folder nor a Hub id, or the Hub did not name a commit.
    """
    for base in bases:
        folder = readable_path(f"LESSON_{kind.upper()}", source, base)
        if folder.is_dir():
            return str(folder), None
    name, _, revision = source.partition("@")
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name) or (revision and not re.fullmatch(r"[0-9a-f]{40}", revision)):
        raise LessonError(
            f"LESSON_{kind.upper()} = {source!r} is neither a folder here nor the id of a Hub repository. "
            "Give the path of a folder, or ORG/NAME, or ORG/NAME@COMMIT with the commit's 40 hex digits."
        )
    if revision:
        return name, revision
    try:
        return name, huggingface_hub.HfApi().repo_info(name, repo_type=kind, revision="main").sha
    except LessonError:
        raise
    except Exception as error:
        raise LessonError(
            f"The Hugging Face Hub did not answer for the {kind} {name!r} ({type(error).__name__}). "
            "Check its spelling and the network, or set LESSON_EDITION=pocket, which needs no network."
        ) from error
