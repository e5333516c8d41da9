"""JupyterLab as a student uses it: open a notebook, Run All, read the results, answer an exercise."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import nbformat
import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from helpers.exercises import progress, registry

ROOT = Path(__file__).resolve().parents[2]
GUARD = ROOT / "tests" / "socket_guard.py"  # every Python process notes, and refuses, connections to other machines
TOKEN = "a-token-of-this-test"
ROWS = 2000  # of train: enough for the notebooks' own checks, and quick
QUIET = ("--LabApp.news_url=None", "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate")
# The notebook that is open, by the name that --expose-app-in-browser gives to JupyterLab.
NOTEBOOK = "const panel = window.jupyterapp?.shell?.currentWidget; const notebook = panel?.content;"

# Scroll to a picture and say whether all of it can be seen.
SEEN = """const picture = arguments[0], box = picture.getBoundingClientRect();
picture.scrollIntoView({block: "center"});
return picture.complete && picture.naturalWidth > 300 && box.top >= 0 && box.bottom <= innerHeight && box.width > 300"""


class Lab:
    """A running JupyterLab: the address of its server and the folder that it works in."""

    def __init__(self, folder: Path, process: subprocess.Popen):
        self.folder, self.process, self.address = folder, process, ""

    def find(self) -> bool:
        """Look for the file that the server writes when it listens; return whether it answers."""
        assert self.process.poll() is None, (self.folder / "server.log").read_text()
        for file in (self.folder / "runtime").glob("jpserver-*.json"):
            try:
                self.address = json.loads(file.read_text())["url"]
                urllib.request.urlopen(f"{self.address}api?token={TOKEN}", timeout=5).close()
            except (ValueError, OSError):
                return False
            return True
        return False

    def outside(self) -> list[dict]:
        """Return what the server and its kernels wanted of other machines."""
        lines = (self.folder / "attempts.log").read_text().splitlines()
        return [line for line in map(json.loads, lines) if line["outside"]]


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """JupyterLab on a copy of the course, with a LESSON_HOME of its own and no way to another machine."""
    folder = tmp_path_factory.mktemp("lab")
    for name in ("helpers", "notebooks"):
        shutil.copytree(ROOT / name, folder / "course" / name, ignore=shutil.ignore_patterns("__pycache__", ".ipynb_*"))
    for path in (folder / "course" / "notebooks").glob("*.ipynb"):  # without results: what is shown later was run here
        notebook = nbformat.read(path, as_version=4)
        for cell in notebook.cells:
            if cell.cell_type == "code":
                cell.outputs, cell.execution_count = [], None
        nbformat.write(notebook, path)
    (folder / "guard").mkdir()
    shutil.copy(GUARD, folder / "guard" / "sitecustomize.py")
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("LESSON_", "HF_", "JUPYTER"))}
    environ |= {"LESSON_HOME": str(folder / "home"), "LESSON_EDITION": "pocket", "LESSON_TRAIN_ROWS": str(ROWS)}
    environ |= {"PYTHONPATH": str(folder / "guard"), "SOCKET_GUARD_LOG": str(folder / "attempts.log")}
    for name in ("HF_HOME", "IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"):
        environ[name] = str(folder / name.removeprefix("JUPYTER_").removesuffix("_DIR").lower())
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", "--port=0", *QUIET]
    command += [f"--IdentityProvider.token={TOKEN}", "--expose-app-in-browser", f"--ServerApp.root_dir={folder}/course"]
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=environ, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    running = Lab(folder, process)
    try:
        WebDriverWait(running, 60, poll_frequency=0.2).until(Lab.find)
        yield running
    finally:
        os.killpg(process.pid, signal.SIGINT)  # the first one asks, the second one ends
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


class Page:
    """A notebook open in JupyterLab."""

    def __init__(self, browser, lab: Lab, name: str):
        self.browser = browser
        browser.get(f"{lab.address}lab/tree/notebooks/{name}?token={TOKEN}")
        ready = f"{NOTEBOOK} return notebook?.model && panel.sessionContext.kernelDisplayStatus === 'idle'"
        self.wait(60, lambda: browser.execute_script(ready), "the notebook opens and its kernel starts")

    def wait(self, seconds: float, condition, what: str):
        """Wait until the condition holds; return what it gave."""
        return WebDriverWait(self.browser, seconds, poll_frequency=0.2).until(lambda _: condition(), what)

    def menu(self, name: str, entry: str) -> None:
        """Choose an entry of a menu with the mouse."""

        def click(selector: str, text: str) -> bool:
            for element in self.browser.find_elements(By.CSS_SELECTOR, selector):
                if element.is_displayed() and element.text.strip() == text:
                    element.click()
                    return True
            return False

        self.wait(10, lambda: click(".lm-MenuBar-itemLabel", name), f"menu {name}")
        self.wait(10, lambda: click(".lm-Menu-itemLabel", entry), f"{name} > {entry}")

    def cells(self) -> list[dict]:
        """Return the cells: kind, source, execution count, and the names of errors."""
        return self.browser.execute_script(
            NOTEBOOK + "return notebook.widgets.map((cell) => ({kind: cell.model.type, source: "
            "cell.model.sharedModel.getSource(), count: cell.model.executionCount ?? null, errors: "
            "(cell.model.outputs?.toJSON() ?? []).filter((o) => o.output_type === 'error').map((o) => o.evalue)}))"
        )

    def idle(self) -> bool:
        """Return whether the kernel has nothing to do."""
        return self.browser.execute_script(f"{NOTEBOOK} return panel.sessionContext.kernelDisplayStatus === 'idle'")

    def run_all(self, seconds: float) -> list[dict]:
        """Choose Run > Run All Cells; wait until every code cell has run, or one has failed; return the cells."""
        self.menu("Run", "Run All Cells")

        def finished() -> bool:
            cells = [cell for cell in self.cells() if cell["kind"] == "code"]
            return self.idle() and (all(cell["count"] for cell in cells) or any(cell["errors"] for cell in cells))

        self.wait(seconds, finished, "all cells run")
        return self.cells()

    def place(self, text: str) -> int:
        """Return the number of the one code cell that contains text."""
        (found,) = [i for i, cell in enumerate(self.cells()) if cell["kind"] == "code" and text in cell["source"]]
        return found

    def show(self, place: int):
        """Scroll to a cell; return its element."""
        self.browser.execute_async_script(
            NOTEBOOK + f"const done = arguments[0]; notebook.scrollToItem({place}, 'center').then(done, done);"
        )
        node = self.browser.execute_script(f"{NOTEBOOK} return notebook.widgets[{place}].node")
        self.wait(10, node.is_displayed, f"cell {place} is on the screen")
        return node

    def output(self, place: int) -> str:
        """Return the text that stands below a cell on the screen."""
        node = self.show(place)
        return "\n".join(part.text for part in node.find_elements(By.CSS_SELECTOR, ".jp-OutputArea-output"))

    def answer(self, place: int, line: str) -> str:
        """Type a first line into a cell in place of the one that stands there, run it, and return its output."""
        before = self.cells()[place]["count"]
        editor = self.show(place).find_element(By.CSS_SELECTOR, ".cm-content")
        editor.click()
        editor.send_keys(Keys.CONTROL + Keys.HOME)
        editor.send_keys(Keys.SHIFT + Keys.END)
        editor.send_keys(line)
        assert self.cells()[place]["source"].splitlines()[0] == line
        editor.send_keys(Keys.CONTROL + Keys.ENTER)
        self.wait(20, lambda: self.idle() and self.cells()[place]["count"] not in (None, before), "the cell runs")
        return self.output(place)


def words(text: str) -> str:
    """Return text without its line breaks: a long reply is shown in several lines."""
    return " ".join(text.split())


def first_exercise(page: Page) -> tuple[int, str, str]:
    """Return the place of the notebook's first exercise, the name of the variable for its answer, and its own name."""
    for place, cell in enumerate(page.cells()):
        if found := re.match(r"(\w+) = None\b.*\ncheck\.(\w+)\(\1\)", cell["source"]):
            return place, found[1], found[2]
    raise AssertionError("no exercise of the form `answer = None` / `check.name(answer)`")


# What a student may type into the first exercise: (notebook, a common mistake, the hint, the right answer).
TRIES = [
    ("01_gpu_check.ipynb", "min(speeds.values()) / max(speeds.values())", "Turn it round.",
     "max(speeds.values()) / min(speeds.values())"),
    ("05_evaluate.ipynb", "100 * (high - low) / 2", "that is the half width", "100 * (high - low)"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "mistake", "hint", "right"), TRIES, ids=[name[:2] for name, *_ in TRIES])
def test_run_all_then_answer_an_exercise(browser, lab, name, mistake, hint, right):
    page = Page(browser, lab, name)
    cells = page.run_all(90)
    assert [cell["errors"] for cell in cells if cell["errors"]] == []
    counts = [cell["count"] for cell in cells if cell["kind"] == "code"]
    assert counts == list(range(1, len(counts) + 1)), "each cell ran once, in order"
    assert "All checks passed." in page.output(page.place("All checks passed."))
    cell = page.show(page.place("plots." + ("bars" if name < "02" else "confusion")))
    figure = cell.find_element(By.CSS_SELECTOR, ".jp-OutputArea img")
    page.wait(10, lambda: browser.execute_script(SEEN, figure), "the whole figure is on the screen")

    place, variable, exercise = first_exercise(page)
    assert "Not answered yet" in page.output(place)
    said = words(page.answer(place, f"{variable} = {mistake}"))
    assert "Not yet, because" in said and hint in said
    assert "Yes." in page.answer(place, f"{variable} = {right}")

    chapter = list(registry.TITLES)[int(name[:2]) - 1]
    known = progress.read(lab.folder / "home" / "progress.json")[chapter][exercise]
    assert known["tries"] == 2 and known["solved"]
    card = page.place("progress.card(settings)")
    title = re.escape(registry.TITLES[chapter])
    assert re.search(rf"^{title} +○+ +0 of", page.output(card), re.M), "as Run All left it"
    assert re.search(rf"^{title} +●○+ +1 of", page.answer(card, "from helpers.exercises import progress"), re.M)
    assert lab.outside() == [], "nothing was asked of another machine"
