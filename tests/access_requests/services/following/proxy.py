"""A small HTTP proxy on a real socket that can tamper with what passes through it."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

Body = Any


@dataclass
class Call:
    """One request as it arrived, and the answer's status; 0 if there was no answer."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    status: int = 0

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Reply:
    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)

    def content(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


@dataclass
class _Fault:
    wanted: Callable[[Call], bool]
    act: Callable[[Call, Reply | None], Reply | None]
    before: bool
    times: int | None


class FaultProxy:
    """A proxy at `url`. Without faults everything passes; without an upstream there is no remote."""

    def __init__(self, upstream: str = "") -> None:
        self.upstream = upstream
        self.calls: list[Call] = []
        self._faults: list[_Fault] = []
        self._lock = threading.Lock()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                proxy._pass(self)

            do_POST = do_GET

            def log_message(self, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def instead(self, text: str, reply: Reply, *, times: int | None = None) -> None:
        """Answer requests with `text` in their request line ourselves; the remote never sees them."""
        self._add(text, lambda call, _: reply, before=True, times=times)

    def lose(self, text: str, *, times: int | None = 1) -> None:
        """Let the remote handle the request, then close the connection without an answer."""
        self._add(text, lambda call, _: None, before=False, times=times)

    def change(self, text: str, change: Callable[[Any], Any]) -> None:
        """Change the JSON of the answer."""

        def act(call: Call, reply: Reply | None) -> Reply | None:
            assert reply is not None
            reply.body = change(json.loads(reply.body))
            return reply

        self._add(text, act, before=False, times=None)

    def hold(self, text: str) -> tuple[threading.Event, threading.Event]:
        """Pass one request on, set `happened`, and keep the answer back until `go_on` is set."""
        happened, go_on = threading.Event(), threading.Event()

        def act(call: Call, reply: Reply | None) -> Reply | None:
            happened.set()
            go_on.wait(120)
            return reply

        self._add(text, act, before=False, times=1)
        return happened, go_on

    def _add(
        self, text: str, act: Callable[[Call, Reply | None], Reply | None], *, before: bool, times: int | None
    ) -> None:
        self._faults.append(_Fault(lambda call: text in f"{call.method} {call.path}", act, before, times))

    def clear(self) -> None:
        self._faults.clear()
        self.calls.clear()

    def wrote(self, route: str = "handle") -> list[Any]:
        """Return the JSON of the writes that arrived here."""
        return [call.json for call in self.calls if call.method == "POST" and call.path.endswith(f"/{route}")]

    def _take(self, call: Call, *, before: bool) -> _Fault | None:
        with self._lock:
            for fault in self._faults:
                if fault.before == before and fault.wanted(call) and fault.times != 0:
                    fault.times = None if fault.times is None else fault.times - 1
                    return fault
        return None

    def _pass(self, handler: BaseHTTPRequestHandler) -> None:
        length = int(handler.headers.get("Content-Length") or 0)
        headers = {name.lower(): value for name, value in handler.headers.items()}
        call = Call(handler.command, handler.path, headers, handler.rfile.read(length))
        self.calls.append(call)
        fault = self._take(call, before=True)
        reply = fault.act(call, None) if fault else self._forward(call)
        if fault is None and (after := self._take(call, before=False)):
            reply = after.act(call, reply)
        if reply is None:
            handler.close_connection = True
            return
        call.status = reply.status
        content = reply.content()
        handler.send_response(reply.status)
        for name, value in reply.headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)

    def _forward(self, call: Call) -> Reply:
        there = urlsplit(self.upstream)
        connection = http.client.HTTPConnection(there.hostname or "", there.port, timeout=60)
        kept = {
            k: v
            for k, v in call.headers.items()
            if k in {"authorization", "content-type", "accept", "user-agent"}
        }
        try:
            connection.request(call.method, call.path, body=call.body or None, headers=kept)
            answer = connection.getresponse()
            passed = {
                k: v for k, v in answer.getheaders() if k.lower().startswith(("x-error", "retry", "rate"))
            }
            passed |= {
                k: v.replace(self.upstream, self.url) for k, v in answer.getheaders() if k.lower() == "link"
            }
            return Reply(answer.status, answer.read(), passed)
        finally:
            connection.close()
