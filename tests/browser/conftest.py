"""A real Chromium, headless, for tests that look at pages as people do. Debian: apt install chromium chromium-driver."""

import functools
import http.server
import shutil
import threading
from pathlib import Path

import pytest

FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage --hide-scrollbars"
)


def program(*names: str) -> str:
    """Return the path of the first program that is installed."""
    for name in names:
        if found := shutil.which(name):
            return found
    raise RuntimeError(f"There is no {names[0]} here. Debian, Ubuntu: sudo apt install chromium chromium-driver.")


def chromium(profile: Path):
    """Yield a new Chromium window of 1280 x 720 points; it keeps the console's messages."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = program("chromium", "chromium-browser", "google-chrome")
    for flag in (*FLAGS.split(), "--window-size=1280,720", f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(program("chromedriver")))
    yield driver
    driver.quit()


@pytest.fixture
def browser(tmp_path):
    """A new Chromium window with an empty profile (see chromium)."""
    yield from chromium(tmp_path / "profile")


@pytest.fixture(scope="module")
def shared_browser(tmp_path_factory):
    """One Chromium window for all tests of a file: for those that only look."""
    yield from chromium(tmp_path_factory.mktemp("shared") / "profile")


@pytest.fixture(scope="module")
def serve():
    """A function: serve a folder over HTTP on this machine, until the file's tests end; return its address."""
    servers = []

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            """Say nothing."""

    def start(folder: Path) -> str:
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()
