"""A small Hugging Face Hub on this machine: it serves folders over the Hub's own download API, and notes every request.

`Hub(root)` serves `root/models/ORG/NAME` and `root/datasets/ORG/NAME` until `close`. A client is pointed at it with
HF_ENDPOINT=<hub.url>. A commit of 40 hex digits is answered as itself; every other revision is FLOATING. It fails on
demand (`fail`), and asks for a token where a repository holds a file GATED.
"""

import hashlib
import json
import math
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Lock, Thread
from urllib.parse import parse_qs, unquote, urlsplit

from support import sst2_like, tiny_model

FLOATING = "f" * 40
GATED = ".token"  # a repository with this file is only shown to whoever brings the token that it holds


class Hub(ThreadingHTTPServer):
    """The server. `requests` holds (method, path) of every request, in order; `faults` what is still to go wrong."""

    daemon_threads = True

    def __init__(self, root: Path):
        super().__init__(("127.0.0.1", 0), Handler)
        self.root, self.requests, self.faults, self.authorizations = Path(root), [], [], set()
        self.turn, self.healed = Lock(), Event()
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.thread = Thread(target=self.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()

    def fail(self, kind: str, where: str = "", times: float = float("inf"), **headers: str) -> None:
        """Let the next `times` requests whose "METHOD path" matches the pattern `where` go wrong.

        Args:
            kind: a status ("503"), "drop" (the connection closes without an answer), "cut" (it closes in the middle of
                the body), "empty" (it closes before the body), "slow" (the body comes in small pieces) or "hang" (no
                answer until `close` or `heal`).
        """
        self.faults.append([kind, where, times, headers])

    def heal(self) -> None:
        """Let everything go right again."""
        self.faults.clear()
        self.healed.set()
        self.healed = Event()

    def fault(self, request: str) -> tuple[str, dict] | None:
        """Return what goes wrong with this request, and count it."""
        with self.turn:
            for fault in self.faults:
                kind, where, times, headers = fault
                if times > 0 and re.search(where, request):
                    fault[2] -= 1
                    return kind, headers
        return None

    def handle_error(self, *_):
        """Print nothing when a client goes away."""

    def close(self) -> None:
        """Stop serving."""
        self.heal()
        self.shutdown()
        self.server_close()
        self.thread.join()


def count_parameters(path: Path) -> int:
    """Return how many parameters the header of a safetensors file tells of."""
    content = path.read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    return sum(math.prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__")


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        """Print nothing."""

    def answer(self, status: int, body: bytes, **headers: str) -> None:
        """Send an answer; underscores in the headers' names stand for hyphens."""
        self.send_response(status)
        usual = {"X-Repo-Commit": self.commit, "Content-Length": str(len(body))}
        for name, value in (usual | {name.replace("_", "-"): value for name, value in headers.items()}).items():
            self.send_header(name, value)
        self.end_headers()
        whole, sent = len(body), {"cut": len(body) // 2, "empty": 0}.get(self.trouble, len(body))
        piece = max(1, whole // 10) if self.trouble == "slow" else whole
        for start in range(0, sent if self.command != "HEAD" else 0, piece or 1):
            self.wfile.write(body[start : min(start + piece, sent)])
            if self.trouble == "slow":
                Event().wait(0.02)
        self.close_connection = self.close_connection or sent < whole

    def send_json(self, value) -> None:
        """Send a value as JSON."""
        self.answer(200, json.dumps(value).encode(), Content_Type="application/json")

    def missing(self, code: str) -> None:
        """Answer that there is no such thing: RepoNotFound or EntryNotFound."""
        self.answer(404, b"{}", X_Error_Code=code)

    def handle_request(self) -> None:
        """Answer any request."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.requests.append((self.command, self.path))
        self.server.authorizations.add(self.headers.get("Authorization") or "")
        self.trouble, headers = self.server.fault(f"{self.command} {self.path}") or ("", {})
        url = urlsplit(self.path)
        if self.trouble in ("drop", "hang"):
            self.close_connection = True
            return None if self.trouble == "drop" else self.server.healed.wait()
        self.commit = next(iter(re.findall(r"/([0-9a-f]{40})(?=/|$)", url.path)), FLOATING)
        parts = [unquote(part) for part in url.path.split("/") if part]
        asked = parts[:1] == ["api"]
        parts = parts[1:] if asked else parts
        kind = parts.pop(0) if parts[:1] in (["models"], ["datasets"]) else "models"
        self.name, rest = "/".join(parts[:2]), parts[2:]
        self.repo = self.server.root / kind / self.name
        if self.trouble.isdigit():
            return self.answer(int(self.trouble), b"{}", **headers)
        if len(parts) < 2 or ".." in parts or not self.repo.is_dir():
            return self.missing("RepoNotFound")
        token = self.repo / GATED
        if token.exists() and self.headers.get("Authorization") != f"Bearer {token.read_text()}":
            return self.answer(401, b"{}", X_Error_Code="GatedRepo")
        verb, inside = (rest[0] if rest else "revision"), "/".join(rest[2:])
        if not asked:
            return self.send_file(self.repo / inside) if verb == "resolve" else self.missing("EntryNotFound")
        if verb == "revision":
            return self.send_json(self.info())
        if verb == "tree":
            return self.tree(inside, "recursive=true" in url.query.lower())
        if verb == "paths-info":
            return self.send_json(self.paths(body))
        return self.missing("EntryNotFound")

    do_GET = do_HEAD = do_POST = handle_request

    def info(self) -> dict:
        """Return what the Hub tells about a repository."""
        files = [{"rfilename": path.relative_to(self.repo).as_posix()} for path in self.files(self.repo)]
        flags = {"private": False, "gated": False, "disabled": False, "tags": [], "downloads": 0, "likes": 0}
        known = {"_id": "0", "id": self.name, "sha": self.commit, "siblings": files} | flags
        weights = list(self.repo.glob("*.safetensors"))
        if weights:  # the Hub reads their headers itself, whatever else the repository says about its size
            count = sum(map(count_parameters, weights))
            known["safetensors"] = {"parameters": {"F32": count}, "total": count}
        return known

    def files(self, folder: Path) -> list[Path]:
        """Return all files below a folder."""
        return sorted(path for path in folder.rglob("*") if path.is_file() and path.name != GATED)

    def entry(self, path: Path) -> dict:
        """Return a line of a listing."""
        name = path.relative_to(self.repo).as_posix()
        if path.is_dir():
            return {"type": "directory", "path": name, "oid": "0" * 40, "size": 0}
        return {"type": "file", "path": name, "oid": self.tag(path), "size": path.stat().st_size}

    def tag(self, path: Path) -> str:
        """Return what changes when the file does."""
        return hashlib.sha1(path.read_bytes()).hexdigest()

    def tree(self, inside: str, recursive: bool) -> None:
        """Send the listing of a folder."""
        folder = self.repo / inside
        if not folder.is_dir():
            return self.missing("EntryNotFound")
        return self.send_json(
            [self.entry(path) for path in sorted(folder.rglob("*") if recursive else folder.iterdir())]
        )

    def paths(self, body: bytes) -> list[dict]:
        """Return the listing of the paths that a request names."""
        text = body.decode()
        names = json.loads(text)["paths"] if text.startswith("{") else parse_qs(text).get("paths", [])
        return [self.entry(self.repo / name) for name in names if (self.repo / name).exists()]

    def send_file(self, path: Path) -> None:
        """Send a file, or the range of it that was asked for."""
        if not path.is_file():
            return self.missing("EntryNotFound")
        content, headers = path.read_bytes(), {"ETag": f'"{self.tag(path)}"', "Accept_Ranges": "bytes"}
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if not wanted:
            return self.answer(200, content, **headers)
        first, last = int(wanted[1]), int(wanted[2] or len(content) - 1)
        part = content[first : last + 1]
        headers["Content_Range"] = f"bytes {first}-{first + len(part) - 1}/{len(content)}"
        return self.answer(206, part, **headers)


def make_repositories(root: Path) -> Path:
    """Write a tiny SST-2 and a tiny DistilBERT under the names that the full edition asks for; return root."""
    folder = Path(root) / "datasets" / "stanfordnlp" / "sst2" / "data"
    folder.mkdir(parents=True)
    for name, part in sst2_like().items():
        part.to_parquet(folder / f"{name}-00000-of-00001.parquet")
    tiny_model(Path(root) / "models" / "distilbert" / "distilbert-base-uncased", dim=64)
    return Path(root)
