# @title Setup: run this first { display-mode: "form" }
import subprocess
import sys
import tempfile
from pathlib import Path

COURSE = "https://github.com/OWNER/REPO"
WHEELS = [  # pip takes these two files, with exactly these contents, and nothing else
    "HELPERS"
    "#sha256=HASH",
    "EVALUATE"
    "#sha256=HASH",
]  # fmt: skip


class Stop(Exception):
    def _render_traceback_(self):  # a notebook shows the reason, and no lines of code
        return list(self.args)


here = [p for p in ("..", "../..", *sys.path) if Path(p, "helpers/pocket").is_dir()]
if not here:  # no clone of the course, and not installed: so it is in Colab
    # NO ADDRESS
    print("Installing the course's helpers: a few seconds ...")
    here = [tempfile.mkdtemp()]
    kaggle = [p.parent for p in Path("/kaggle/input").rglob("finetune_*-VERSION-*.whl")]
    source = kaggle[0].as_uri() if kaggle else f"{COURSE}/releases/download/vVERSION"
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", *here]
    pip += [f"{source}/{wheel}" for wheel in WHEELS]
    done = subprocess.run(pip, capture_output=True, text=True)
    if done.returncode:
        why = done.stderr.partition("ERROR: ")[2] or done.stderr
        raise Stop(
            f"The course's helpers could not be installed. pip says: {why[:300]}\n"
            "Check the network and run this cell again. On Kaggle, switch Internet on "
            "in the sidebar, or add the release's two .whl files as a data set."
        )
sys.path.insert(0, str(Path(here[0]).resolve()))
import helpers

if (found := getattr(helpers, "__version__", None)) != "VERSION":
    raise Stop(
        f"This notebook needs the course's helpers VERSION, not {helpers} {found}. If "
        "that is a file of yours, rename it and restart the kernel. If it is another "
        f"version of the course, open that version's notebooks: {COURSE}/tree/v{found}"
    )
