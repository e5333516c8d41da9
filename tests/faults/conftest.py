"""What the fault tests share: a Hub that fails on demand, which this process asks; and trainings to kill."""

import shutil
import sys
import time
from pathlib import Path

import datasets
import huggingface_hub
import pytest
import transformers.utils.hub
from huggingface_hub import constants

sys.path.insert(0, str(Path(__file__).parent.parent))

from hub import Hub, make_repositories

from helpers.durable import hub as helper
from helpers.settings import EDITIONS


@pytest.fixture(scope="session")
def nursery():
    """Return the process that forks trainings."""
    from soak import shared

    return shared()[0]


@pytest.fixture(scope="session")
def calm():
    """Return the undisturbed trainings."""
    from soak import shared

    return shared()[1]


@pytest.fixture(scope="session")
def repositories(tmp_path_factory) -> Path:
    """Make the repositories of the full edition, small."""
    return make_repositories(tmp_path_factory.mktemp("repositories"))


@pytest.fixture
def client(tmp_path, monkeypatch):
    """Return a function that points the Hub's libraries in this process at a Hub, with empty caches below tmp_path."""

    def point(url: str, cache: Path = tmp_path / "hf") -> None:
        for module, name, value in (
            (constants, "ENDPOINT", url),
            (constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}"),
            (constants, "HF_HUB_CACHE", str(cache / "hub")),
            (constants, "HF_TOKEN_PATH", str(cache / "token")),
            (datasets.config, "HF_ENDPOINT", url),
            (datasets.config, "HF_DATASETS_CACHE", cache / "datasets"),
            (datasets.config, "HF_CACHE_HOME", str(cache)),
            (datasets.config, "HF_UPDATE_DOWNLOAD_COUNTS", False),  # a count of uses, kept by another machine
        ):
            monkeypatch.setattr(module, name, value)
        forget()
        helper.install_retries()
        monkeypatch.setattr(helper.RetryingClient, "gave_up", float("-inf"))

    def forget() -> None:
        huggingface_hub.HfFileSystem.clear_instance_cache()
        getattr(getattr(transformers.utils.hub, "hf_api", None), "cache_clear", lambda: None)()
        huggingface_hub.close_session()

    yield point
    forget()


@pytest.fixture
def hub(repositories, client):
    """Start a Hub and point the libraries at it. `hub.root` may be changed: see `copied`."""
    server = Hub(repositories)
    client(server.url)
    yield server
    server.close()


@pytest.fixture
def copied(hub, tmp_path):
    """Let the Hub serve a copy of the repositories, which the test may change; return its folder."""
    hub.root = Path(shutil.copytree(hub.root, tmp_path / "copied"))
    return hub.root


@pytest.fixture
def waits(monkeypatch) -> list[float]:
    """Let nobody in this process really wait; return the list of the seconds that would have been waited."""
    waited = []
    monkeypatch.setattr(time, "sleep", waited.append)
    return waited


@pytest.fixture
def impatient(monkeypatch) -> None:
    """Let nobody in this process wait long for an answer."""
    for module, name in (
        (helper, "TIMEOUT"),
        (constants, "HF_HUB_ETAG_TIMEOUT"),
        (constants, "HF_HUB_DOWNLOAD_TIMEOUT"),
    ):
        monkeypatch.setattr(module, name, 0.2)


@pytest.fixture(scope="session")
def pins() -> dict[str, tuple[str, str]]:
    """Return {"model": (id, commit), "dataset": (id, commit)} of the full edition."""
    return {kind: tuple(EDITIONS["full"][kind].split("@")) for kind in ("model", "dataset")}
