"""Read answers of remotes, with limits on bytes, seconds and nesting for the whole answer.

httpx2's timeouts are for single reads: a remote that sends a byte every few seconds would block a worker for hours. Here
every socket operation of a call gets the rest of the call's time. Redirects are not followed, cookies are not kept, and
compressed answers (which can grow to a thousand times their size) are neither requested nor read.
"""

from __future__ import annotations

import json
import ssl
import time
from dataclasses import dataclass
from functools import cache
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any

import httpcore2
import httpx2

from access_requests.services.following.errors import Away
from access_requests.services.following.texts import one_line

CONNECT, READ = 10.0, 20.0  # seconds for one operation
LONGEST_CALL = 45.0  # seconds for a call as a whole; shorter than a lease
LARGEST_ANSWER = 32 * 2**20  # bytes
MOST_PARTS = 2_000_000  # values in one answer: each costs many times its bytes in memory
LONGEST_NUMBER = 30  # digits; longer ones stay text


@dataclass(frozen=True)
class Answer:
    """One complete answer."""

    status: int
    headers: httpx2.Headers
    content: bytes

    @property
    def next_link(self) -> str:
        """Return the address of the next page, "" if there is none."""
        response = httpx2.Response(self.status, headers={"link": self.headers.get("link", "")})
        return str(response.links.get("next", {}).get("url") or "")


class Wire:
    """Calls to one host with one token."""

    def __init__(self, *, headers: dict[str, str], longest: float = LONGEST_CALL) -> None:
        self._longest = longest
        self._http = httpx2.Client(
            headers={**headers, "accept-encoding": "identity"},
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            follow_redirects=False,
            timeout=httpx2.Timeout(READ, connect=CONNECT),
            verify=_tls_context(),
        )
        self._clock = _Clock()
        for transport in (self._http._transport, *filter(None, self._http._mounts.values())):
            pool: Any = transport._pool  # type: ignore[attr-defined]
            pool._network_backend = _TimedBackend(pool._network_backend, self._clock)

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def call(self, method: str, url: str, body: Any = None) -> Answer:
        """Return the answer, whatever its status.

        Raises `Away` if it is not a whole HTTP answer within limits.
        """
        self._clock.ends = time.monotonic() + self._longest
        try:
            with self._http.stream(method, url, json=body) as response:
                return Answer(response.status_code, response.headers, self._read_content(response))
        except Away:
            raise
        except Exception as error:  # any error of the libraries about the answer
            said = one_line(str(error))[:300] or type(error).__name__
            raise Away(f"it could not be reached ({said})") from error

    def _read_content(self, response: httpx2.Response) -> bytes:
        if response.headers.get("content-encoding", "identity").strip().lower() not in {"", "identity"}:
            raise Away("its answer is compressed, though it was asked for a plain one")
        parts, size = [], 0
        for part in response.iter_raw():
            parts.append(part)
            size += len(part)
            if size > LARGEST_ANSWER:
                raise Away("its answer is too large")
            if self._clock.left() <= 0:
                raise Away("its answer takes too long")
        return b"".join(parts)


def read_answer(content: bytes) -> Any:
    """Return the JSON of an answer; numbers too large for a column become text. Raises `Away` if there is no JSON.

    Unlike `strict_json.read_json`, which refuses what clients send if it is not quite JSON, this takes everything that
    can be read: a remote that answers oddly is still followed.
    """
    if content.count(b",") + content.count(b"[") + content.count(b"{") > MOST_PARTS:
        raise Away("its answer has too many parts")
    try:
        return json.loads(content or b"null", parse_int=_parse_number, parse_constant=str)
    except RecursionError as error:
        raise Away("it answered JSON that is nested too deeply") from error
    except ValueError as error:
        raise Away("it answered something that is not JSON") from error


def _parse_number(digits: str) -> int | str:
    return int(digits) if len(digits) <= LONGEST_NUMBER else digits


@cache
def _tls_context() -> ssl.SSLContext:
    """Return the TLS context, created once per process, since that takes longer than a call."""
    return httpx2.create_ssl_context()


@dataclass
class _Clock:
    """The deadline of the running call, by the monotonic clock."""

    ends: float = 0.0

    def left(self) -> float:
        return self.ends - time.monotonic()

    def within(self, timeout: float | None) -> float:
        """Return the seconds for the next operation. Raises a timeout if none are left."""
        left = self.left()
        if left <= 0:
            raise httpcore2.ReadTimeout("it takes too long")
        return left if timeout is None else min(timeout, left)


class _TimedStream(httpcore2.NetworkStream):
    def __init__(self, stream: httpcore2.NetworkStream, clock: _Clock) -> None:
        self._stream, self._clock = stream, clock

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._clock.within(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._clock.within(timeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.NetworkStream:
        stream = self._stream.start_tls(ssl_context, server_hostname, self._clock.within(timeout))
        return _TimedStream(stream, self._clock)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class _TimedBackend(httpcore2.NetworkBackend):
    """Opens connections on which every operation ends with the call."""

    def __init__(self, backend: httpcore2.NetworkBackend, clock: _Clock) -> None:
        self._backend, self._clock = backend, clock

    def connect_tcp(
        self, host: str, port: int, timeout: float | None = None, local_address: str | None = None,
        socket_options: Any = None,
    ) -> httpcore2.NetworkStream:  # fmt: skip
        stream = self._backend.connect_tcp(
            host, port, self._clock.within(timeout), local_address, socket_options
        )
        return _TimedStream(stream, self._clock)
