"""Check the pinned packages for known vulnerabilities, with pip-audit in an environment of its own.

    python tools/audit.py

Exit status: 0 when none is known, or when the check could not be made (the last line then begins with "NOT RUN");
1 when a vulnerability is known. A package whose version the database does not know is not a safe one: pip-audit calls
a list of such packages "no known vulnerabilities", this program does not.
"""

import json
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def audit(folder: Path) -> tuple[list[dict] | None, str]:
    """Return pip-audit's findings for constraints.txt, one entry a package, or None and why there are none."""
    venv.create(folder / "venv", with_pip=True)
    python, found = folder / "venv" / "bin" / "python", folder / "found.json"
    options = {"capture_output": True, "text": True, "timeout": 900}
    install = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "pip-audit"]
    check = [python, "-m", "pip_audit", "-r", ROOT / "constraints.txt", "--no-deps", "--disable-pip"]
    check += ["--progress-spinner", "off", "--format", "json", "--output", found]
    for command in (install, check):
        try:
            done = subprocess.run(command, **options)
        except subprocess.TimeoutExpired:
            return None, "no answer within 15 minutes"
        if done.returncode and not (command is check and found.exists()):
            return None, (done.stderr.strip().splitlines() or ["pip-audit failed"])[-1][:200]
    try:
        return json.loads(found.read_text(encoding="utf-8"))["dependencies"], ""
    except (OSError, ValueError, KeyError) as error:
        return None, f"pip-audit left no findings ({type(error).__name__})"


def verdict(found: list[dict] | None, why: str) -> tuple[int, list[str]]:
    """Return the exit status and the lines that report these findings."""
    checked = [package for package in found or [] if "skip_reason" not in package]
    if not checked:
        return 0, [f"NOT RUN: the database of known vulnerabilities cannot be reached ({why or 'it knows no package'})"]
    bad = [package for package in checked if package["vulns"]]
    lines = [f"{p['name']} {p['version']}: {flaw['id']}, mended in {', '.join(flaw['fix_versions']) or 'none'}"
             for p in bad for flaw in p["vulns"]]  # fmt: skip
    unknown = [package["name"] for package in found if "skip_reason" in package]
    lines.append(f"{len(checked)} packages checked, {len(bad)} with known vulnerabilities")
    lines += [f"not checked, because the database does not know them: {', '.join(unknown)}"] if unknown else []
    return int(bool(bad)), lines


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        status, report = verdict(*audit(Path(name)))
    print(*report, sep="\n")
    sys.exit(status)
