"""The request routes of a Hub, or of another Gatehouse, over huggingface_hub's own HTTP library.

`HfApi` itself is not used for them: it needs a `requestId` in every entry, follows redirects and `Link`s to any host
with the token, knows no time limit, and sleeps between its own retries, longer than a lease lasts. From
huggingface_hub come the headers and the reading of rate limits.
"""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Callable, Iterator
from email.utils import parsedate_to_datetime
from functools import cache
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpx2
from django.utils import timezone
from huggingface_hub.utils import build_hf_headers, parse_ratelimit_headers  # type: ignore[attr-defined]

from access_requests.enums import FarStatus
from access_requests.services.following.reading import FarItem, one_line, read_item

CONNECT, READ = 10.0, 20.0  # seconds
LONGEST_CALL = 45.0  # seconds, however slowly an answer drips
LARGEST_ANSWER = 32 * 2**20  # bytes
MOST_PAGES = 1000
PAGE = 1000  # entries; the most that the Hub gives
LISTS = (FarStatus.PENDING, FarStatus.ACCEPTED, FarStatus.REJECTED, FarStatus.RESET)


class FarError(Exception):
    """Why a call was not answered as hoped; the text is the end of a sentence for the owner."""


class TokenRefused(FarError):
    """The token is not known there, or may not decide."""


class Limited(FarError):
    """Too many calls; `seconds` says how long to wait."""

    def __init__(self, why: str, seconds: int) -> None:
        super().__init__(why)
        self.seconds = seconds


class Away(FarError):
    """No answer, or none that makes sense: whether a write arrived is not known."""


class RepositoryGone(FarError):
    """There is no such repository there, or it has another name."""


class NotThere(FarError):
    """A write found no request in a state from which it could be made."""


class Refused(FarError):
    """The write makes no sense to the far side, and never will."""


class FarClient:
    """One followed repository as its endpoint shows it. `spend` is asked before, `closed` told after each call."""

    def __init__(
        self,
        *,
        endpoint: str,
        far_id: str,
        token: str,
        spend: Callable[[], None],
        closed: Callable[[int], None],
    ) -> None:
        self.endpoint, self.far_id = endpoint, far_id
        self._spend, self._closed = spend, closed
        self._base = f"{endpoint}/api/models/{far_id}/user-access-request"
        headers = {**build_hf_headers(token=token, library_name="gatehouse"), "accept": "application/json"}
        self._http = httpx2.Client(
            headers=headers,
            follow_redirects=False,
            timeout=httpx2.Timeout(READ, connect=CONNECT),
            verify=_trusted(),
        )

    def __enter__(self) -> FarClient:
        return self

    def __exit__(self, *exception: object) -> None:
        self._http.close()

    def entries(self, status: FarStatus, *, name: str = "") -> Iterator[FarItem | None]:
        """The list of that state, page by page; None for an entry that cannot be understood.

        `name` asks for user names that begin so; a far side that does not know the question answers with all.
        A far side without a reset list has nobody in it.
        """
        url, seen = f"{self._base}/{status.value}?limit={PAGE}", set[str]()
        if name:
            url += f"&{httpx2.QueryParams({'q': name})}"
        while url and url not in seen and len(seen) < MOST_PAGES:
            seen.add(url)
            try:
                answer, found = self._call("GET", url)
            except RepositoryGone:
                if status != FarStatus.RESET:
                    raise
                return
            if not isinstance(found, list):
                raise Away("it answered something else than a list")
            yield from (read_item(raw, status) for raw in found)
            url = self._next(answer, url)

    def _next(self, answer: httpx2.Response, url: str) -> str:
        """The next page, which must be one of the same list: the token goes nowhere else."""
        link = str(answer.links.get("next", {}).get("url") or "")
        if not link:
            return ""
        here, there = urlsplit(url), urlsplit(urljoin(url, link))
        if (here.scheme, here.netloc, here.path) != (there.scheme, there.netloc, there.path):
            raise Away("it names a next page that is not of this list")
        return there.geturl()

    def handle(self, *, name: str, request_id: str, status: FarStatus, words: str = "") -> None:
        """Writes a state; `NotThere` when there is no request, or it has that state already."""
        body = {"requestId": request_id} if request_id and not name else {"user": name}
        body["status"] = status.value
        if words and status == FarStatus.REJECTED:
            body["rejectionReason"] = words
        if words and status == FarStatus.RESET:
            body["resetReason"] = words
        self._write("handle", body)

    def grant(self, *, name: str) -> None:
        """Gives access to somebody who has no request there."""
        self._write("grant", {"user": name})

    def _write(self, route: str, body: dict[str, str]) -> None:
        self._call("POST", f"{self._base}/{route}", body)

    def _call(self, method: str, url: str, body: Any = None) -> tuple[httpx2.Response, Any]:
        self._spend()
        try:
            with self._http.stream(method, url, json=body) as answer:
                content = _read(answer)
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
            raise Away(f"it could not be reached ({one_line(str(error)) or type(error).__name__})") from error
        self._heed_limits(answer)
        if answer.status_code >= 300:
            raise _failure(method, answer, content)
        try:
            return answer, json.loads(content or b"null")
        except ValueError as error:
            raise Away("it answered something that is not JSON") from error

    def _heed_limits(self, answer: httpx2.Response) -> None:
        """Tells `closed` when this was the last call allowed for a while, or one too many."""
        limit = parse_ratelimit_headers(answer.headers)
        if answer.status_code == 429:
            seconds = _seconds_to_wait(answer)
            self._closed(seconds)
            raise Limited("it was asked too often", seconds)
        if limit is not None and limit.remaining == 0:
            self._closed(min(limit.reset_in_seconds, 3600))


@cache
def _trusted() -> ssl.SSLContext:
    """Read once for a process: it takes longer than a call."""
    return httpx2.create_ssl_context()


def _read(answer: httpx2.Response) -> bytes:
    deadline, parts, size = time.monotonic() + LONGEST_CALL, [], 0
    for part in answer.iter_bytes():
        parts.append(part)
        size += len(part)
        if size > LARGEST_ANSWER:
            raise Away("its answer is too large")
        if time.monotonic() > deadline:
            raise Away("its answer takes too long")
    return b"".join(parts)


def _seconds_to_wait(answer: httpx2.Response) -> int:
    """From `Retry-After` (seconds or a date) or `RateLimit`, between a second and an hour; a minute when neither says."""
    limit, told = parse_ratelimit_headers(answer.headers), answer.headers.get("retry-after", "").strip()
    seconds = 60
    if told.isascii() and told.isdigit():
        seconds = int(told[:9])
    elif told:
        try:
            seconds = round((parsedate_to_datetime(told) - timezone.now()).total_seconds())
        except (ValueError, TypeError):
            seconds = 60
    elif limit is not None and limit.remaining == 0:
        seconds = limit.reset_in_seconds
    return min(max(seconds, 1), 3600)


def _failure(method: str, answer: httpx2.Response, content: bytes) -> FarError:
    status, code, said = answer.status_code, answer.headers.get("x-error-code", ""), _said(answer, content)
    if status == 401 or (status == 403 and method == "GET"):
        return TokenRefused(
            said
        )  # who may read the lists may decide; a write refused alone is about that person
    if 300 <= status < 400:
        path = one_line(urlsplit(answer.headers.get("location", "")).path)[:200]
        return RepositoryGone(f"it leads elsewhere ({path}): the repository may have another name now")
    if status in {404, 409}:
        unknown = method == "GET" or code == "RepoNotFound"
        return RepositoryGone(said) if unknown else NotThere(said)
    if status >= 500 or status in {408, 425}:
        return Away(f"it answered {status}")
    return Refused(said)


def _said(answer: httpx2.Response, content: bytes) -> str:
    """The far side's own words, short and on one line."""
    message: Any = answer.headers.get("x-error-message", "")
    if not message:
        try:
            found = json.loads(content)
            message = found.get("error", "") if isinstance(found, dict) else ""
        except ValueError:
            message = ""
    return f"it answered {answer.status_code}: {one_line(message)[:300]}".rstrip(": ")
