"""Call the request routes of a Hub, or of another Gatehouse, with huggingface_hub's own HTTP library.

`HfApi` itself is not used: it needs a `requestId` in every entry, follows redirects and `Link`s to any host with the
token, has no time limit, and sleeps longer between its own retries than a lease lasts. Headers and the parsing of rate
limits come from huggingface_hub.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlencode, urljoin, urlsplit

from django.utils import timezone
from huggingface_hub.utils import build_hf_headers, parse_ratelimit_headers  # type: ignore[attr-defined]

from access_requests.enums import FarStatus
from access_requests.services.following.errors import (
    Away,
    FarError,
    Limited,
    NotThere,
    Refused,
    RepositoryGone,
    TokenRefused,
)
from access_requests.services.following.reading import FarItem, read_item
from access_requests.services.following.texts import one_line
from access_requests.services.following.wire import Answer, Wire, read_answer

MOST_PAGES = 200  # of all lists together, for one client: half of what an endpoint's budget allows for polls
MOST_ENTRIES = 100_000  # of all lists together, too
PAGE = 1000  # entries; the most that the Hub gives
LISTS = (FarStatus.PENDING, FarStatus.ACCEPTED, FarStatus.REJECTED, FarStatus.RESET)
LONGEST_WAIT = 3600  # seconds, whatever a remote requests

__all__ = [
    "LISTS", "Away", "FarClient", "FarError", "Limited", "NotThere", "Refused", "RepositoryGone", "TokenRefused",
]  # fmt: skip


class FarClient:
    """One followed repository at its endpoint. `spend` is called before and `closed` after each call.

    Whatever the endpoint sends, the methods raise only `FarError`s (and what `spend` raises).
    """

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
        self._wire = Wire(headers=headers)
        self._pages, self._entries = 0, 0

    def __enter__(self) -> FarClient:
        return self

    def __exit__(self, *exception: object) -> None:
        self._wire.close()

    def entries(self, status: FarStatus, *, name: str = "") -> Iterator[FarItem | None]:
        """Yield the entries of the list with that state, page by page; None for an entry that cannot be understood.

        `name` asks for user names that start with it; a remote that does not support this returns all. If a
        remote has no reset list, it is empty.
        """
        url, seen = f"{self._base}/{status.value}?limit={PAGE}", set[str]()
        if name:
            url += f"&{urlencode({'q': name})}"
        while url:
            if url in seen:
                raise Away(f"the pages of its {status.value} list go in a circle")
            seen.add(url)
            try:
                answer, found = self._call_remote("GET", url)
            except RepositoryGone:
                if status != FarStatus.RESET:
                    raise
                return
            if not isinstance(found, list):
                raise Away("its answer is not a list")
            self._pages, self._entries = self._pages + 1, self._entries + len(found)
            if self._pages > MOST_PAGES or self._entries > MOST_ENTRIES:
                raise Away(f"its lists are longer than {MOST_PAGES} pages or {MOST_ENTRIES:,} entries")
            yield from (read_item(raw, status) for raw in found)
            url = self._next_page(answer, url)

    def _next_page(self, answer: Answer, url: str) -> str:
        """Return the next page, which must belong to the same list: the token is sent nowhere else."""
        try:
            link = answer.next_link
            here, there = urlsplit(url), urlsplit(urljoin(url, link))
        except ValueError as error:
            raise Away("it names a next page that is no address") from error
        if not link:
            return ""
        if (here.scheme, here.netloc, here.path) != (there.scheme, there.netloc, there.path):
            raise Away("it names a next page that is not of this list")
        return there.geturl()

    def handle(self, *, name: str, request_id: str, status: FarStatus, words: str = "") -> None:
        """Write a state. Raises `NotThere` if there is no such request, or it already has that state."""
        body = {"requestId": request_id} if request_id and not name else {"user": name}
        body["status"] = status.value
        if words and status == FarStatus.REJECTED:
            body["rejectionReason"] = words
        if words and status == FarStatus.RESET:
            body["resetReason"] = words
        self._call_remote("POST", f"{self._base}/handle", body)

    def grant(self, *, name: str) -> None:
        """Give access to a person who has no request there."""
        self._call_remote("POST", f"{self._base}/grant", {"user": name})

    def _call_remote(self, method: str, url: str, body: Any = None) -> tuple[Answer, Any]:
        self._spend()
        answer = self._wire.call(method, url, body)
        if answer.status == 429:  # one call too many
            seconds = _seconds_to_wait(answer)
            self._closed(seconds)
            raise Limited("it was asked too often", seconds, there=True)
        pause = _seconds_until_reset(answer)
        if pause is not None:  # the last call allowed for a while
            self._closed(pause)
        if answer.status >= 300:
            raise _error_of(method, answer)
        return answer, read_answer(answer.content)


def _seconds_until_reset(answer: Answer) -> int | None:
    """Return the seconds from `RateLimit` if it says that no call is left, otherwise None."""
    try:
        limit = parse_ratelimit_headers(answer.headers)
    except Exception:  # not parsed by our reader: a header may contain anything
        return None
    if limit is None or limit.remaining != 0:
        return None
    return min(max(limit.reset_in_seconds, 0), LONGEST_WAIT)


def _seconds_to_wait(answer: Answer) -> int:
    """Return the wait from `Retry-After` (seconds or date) or `RateLimit`, from 1 s to 1 h; one minute if neither is set."""
    told = answer.headers.get("retry-after", "").strip()
    seconds = 60
    if told.isascii() and told.isdigit():
        seconds = int(told[:9])
    elif told:
        try:
            seconds = round((parsedate_to_datetime(told[:100]) - timezone.now()).total_seconds())
        except (ValueError, TypeError, OverflowError, IndexError):
            seconds = 60
    elif (reset := _seconds_until_reset(answer)) is not None:
        seconds = reset
    return min(max(seconds, 1), LONGEST_WAIT)


def _error_of(method: str, answer: Answer) -> FarError:
    """Return the error for an answer, with the remote's own message, short and on one line."""
    message: Any = answer.headers.get("x-error-message", "")
    if not message:
        try:
            found = read_answer(answer.content)
        except Away:
            found = None
        message = found.get("error", "") if isinstance(found, dict) else ""
    said = f"it answered {answer.status}: {one_line(message)[:300]}".rstrip(": ")
    status, code = answer.status, answer.headers.get("x-error-code", "")
    if status == 401 or (status == 403 and method == "GET"):
        # A token that can read the lists can decide, so a refused write concerns only that person.
        return TokenRefused(said)
    if 300 <= status < 400:
        try:
            place = one_line(urlsplit(answer.headers.get("location", "")).path)[:200]
        except ValueError:
            place = "no address"
        return RepositoryGone(f"it leads elsewhere ({place}): the repository may have another name now")
    if status in {404, 409}:
        unknown = method == "GET" or code == "RepoNotFound"
        return RepositoryGone(said) if unknown else NotThere(said)
    if status >= 500 or status in {408, 425}:
        return Away(f"it answered {status}")
    return Refused(said)
