"""A small Hub over real HTTP on loopback that records its callers and redirects where the test says."""

from __future__ import annotations

import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def weights(fill: int = 0) -> bytes:
    """Return a safetensors file of one small tensor."""
    header = json.dumps({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + bytes([fill]) * 8


def write_weights(folder: Path, fill: int = 0) -> Path:
    """Write a folder that can be published unchanged."""
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(weights(fill))
    (folder / "config.json").write_text('{"model_type": "llama"}\n')
    return folder


class SmallHub:
    """The Hub's state. `asked` holds (path, Authorization); `redirects` maps path endings to addresses."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.gated: set[str] = set()
        self.redirects: dict[str, str] = {}
        self.status = 302
        self.asked: list[tuple[str, str]] = []
        self.files = {"model.safetensors": weights(7), "config.json": b'{"model_type": "llama"}\n'}

    @property
    def tokens(self) -> set[str]:
        """Return all Authorization headers that were sent."""
        return {sent for _, sent in self.asked if sent}

    def answer(self, path: str, sent: str) -> tuple[int, dict[str, str], bytes]:
        self.asked.append((path, sent))
        target = next((to for end, to in self.redirects.items() if path.endswith(end)), "")
        if target:
            return self.status, {"Location": target, **self._named(path.rpartition("/")[2])}, b""
        parts = path.removeprefix("/api/models").strip("/").split("/")
        repo_id, rest = "/".join(parts[:2]), parts[2:]
        closed = repo_id in self.gated and not sent
        if path.startswith("/api/models/"):
            return self._api(repo_id, rest, closed)
        return self._file("/".join(rest[2:]), closed)

    def _api(self, repo_id: str, rest: list[str], closed: bool) -> tuple[int, dict[str, str], bytes]:
        if rest[:1] == ["auth-check"]:
            return _gated() if closed else _json({})
        if rest[:1] == ["tree"]:
            entries = [
                {
                    "type": "file",
                    "path": path,
                    "size": len(data),
                    "oid": hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest(),  # noqa: S324 - git's own
                }
                for path, data in self.files.items()
            ]
            return _json(entries)
        siblings = [{"rfilename": path} for path in self.files]
        return _json({"id": repo_id, "modelId": repo_id, "sha": COMMIT, "siblings": siblings, "tags": []})

    def _file(self, path: str, closed: bool) -> tuple[int, dict[str, str], bytes]:
        if closed:
            return _gated()
        data = self.files.get(path)
        if data is None:
            return 404, {"X-Error-Code": "EntryNotFound"}, b""
        return 200, self._named(path), data

    def _named(self, path: str) -> dict[str, str]:
        """Return the headers that the Hub sends about a file, also on redirects to a copy of it."""
        data = self.files.get(path)
        if data is None:
            return {}
        etag = f'"{hashlib.sha256(data).hexdigest()}"'
        return {"X-Repo-Commit": COMMIT, "ETag": etag, "X-Linked-Etag": etag, "X-Linked-Size": str(len(data))}


def _gated() -> tuple[int, dict[str, str], bytes]:
    return 401, {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access to model is restricted."}, b""


def _json(found: Any) -> tuple[int, dict[str, str], bytes]:
    return 200, {"Content-Type": "application/json"}, json.dumps(found).encode()


@contextmanager
def running_hub() -> Iterator[SmallHub]:
    """Run a Hub until the block ends."""
    hubs: list[SmallHub] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, headers, body = hubs[0].answer(
                urlsplit(self.path).path, self.headers.get("Authorization", "")
            )
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_HEAD = do_GET

        def log_message(self, *_: Any) -> None:
            """Log nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        hubs.append(SmallHub(f"http://127.0.0.1:{server.server_address[1]}"))
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield hubs[0]
        finally:
            server.shutdown()
            thread.join(10)
