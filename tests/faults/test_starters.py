"""Two at once: thirty processes that start at the same moment all get the same complete data, whoever dies."""

import json

import pytest
from support import ROOT, clean_environ, run, tiny_data, tiny_model

from helpers.durable import handoff

STARTERS = 30
# Argument: a folder. For each case: who is killed in the middle of making the data, or the ids, or nobody.
SCRIPT = """
import hashlib, json, os, signal, sys, traceback
from pathlib import Path
sys.path.insert(0, str(Path("tests").resolve()))
from helpers import data, tokenization
from support import make_settings
folder, number_of_starters = Path(sys.argv[1]), int(sys.argv[2])

def child(work):
    number = os.fork()
    if number:
        return number
    status = 1
    try:
        work()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(status)

def case(killed):
    settings = make_settings(folder / killed, dataset=folder / "tiny", model=folder / "mine")
    gate, open_gate = os.pipe()
    told, tell = os.pipe()

    def stop_inside(*_):  # it holds the lock, has an unfinished folder, and never goes on
        (next(settings.home.glob(f".{killed}-*")) / "half").write_text("half")
        os.write(tell, b"x")
        signal.pause()

    def victim():
        if killed == "data":
            data.write_json = stop_inside
        else:
            tokenization.tokenize = lambda *_: type("", (), {"save_to_disk": stop_inside})
        tokenization.load_or_make(settings)

    def starter():
        os.close(open_gate)
        os.read(gate, 1)  # returns when the parent opens the gate for all
        splits, (tokenized, _) = data.load_or_make(settings), tokenization.load_or_make(settings)
        rows = [[name, part.to_list()] for source in (splits, tokenized) for name, part in sorted(source.items())]
        with open(folder / killed / "seen", "a") as file:
            file.write(hashlib.sha256(json.dumps(rows).encode()).hexdigest() + "\\n")

    held = child(victim) if killed != "nobody" else None
    if held:
        os.read(told, 1)
    starters = [child(starter) for _ in range(number_of_starters)]
    os.close(open_gate)
    if held:
        os.kill(held, signal.SIGKILL)
        assert os.waitstatus_to_exitcode(os.waitpid(held, 0)[1]) == -signal.SIGKILL
    print(killed, [os.waitstatus_to_exitcode(os.waitpid(number, 0)[1]) for number in starters], flush=True)

for killed in ("nobody", "data", "tokenized"):
    case(killed)
"""


@pytest.fixture(scope="module")
def starters(tmp_path_factory):
    """Run all cases in one process, which imports once and forks; return the folder and what was printed."""
    folder = tmp_path_factory.mktemp("starters")
    tiny_data(folder / "tiny")
    tiny_model(folder / "mine")
    environ = clean_environ(folder, OMP_NUM_THREADS=1, TOKENIZERS_PARALLELISM="false")
    return folder, run("-c", SCRIPT, folder, STARTERS, cwd=ROOT, env=environ, timeout=200)


@pytest.mark.parametrize("killed", ["nobody", "data", "tokenized"])
def test_thirty_starters_get_the_same_complete_data(starters, killed):
    folder, done = starters
    assert f"{killed} {[0] * STARTERS}" in done.stdout.splitlines(), done.stderr[-3000:]
    seen = (folder / killed / "seen").read_text().split()
    assert len(seen) == STARTERS and len(set(seen)) == 1
    home = folder / killed / "pocket"
    for name in ("data", "tokenized"):
        made_for = json.loads((home / name / "complete.json").read_text())["fingerprint"]
        assert made_for["stage"] == name and handoff.find(home / name, made_for) == home / name
        assert not (home / name / "half").exists() and not list(home.glob(f".{name}-*"))


def test_the_others_wait_and_use_what_the_first_one_made(starters):
    printed = starters[1].stdout.partition("nobody [")[0]
    assert (printed.count("preparing it now"), printed.count("tokenizing now")) == (1, 1)
