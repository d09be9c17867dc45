"""Explain another Hub's refusals in one sentence with advice. No Django: the child that fetches uses it."""

from __future__ import annotations

import errno
import re
from dataclasses import dataclass
from typing import Any

LONGEST = 300  # characters of the remote's message that are kept
RESETS_IN = re.compile(r"\bt=(\d{1,6})\b")  # `RateLimit: "api";r=0;t=55`
# Errors without a response: classes of httpx, requests and the standard library, by name.
AWAY = {"TransportError", "ConnectionError", "Timeout", "TimeoutError", "ChunkedEncodingError", "gaierror"}
LASTING = {
    "LedElsewhere",
    "TooManyRedirects",
    "SSLCertVerificationError",
    "UnsupportedProtocol",
    "ProxyError",
}
OWN_TOKEN = "give GATEHOUSE_HUB_TOKEN a token that has it"  # noqa: S105 - words, no token
WITHHELD = (
    "a superuser must allow this repository before the portal's Hub token is used for it "
    "(Allowed repositories in the admin, or manage.py source_rights allow)"
)
NO_TOKEN = "the token is sent only to the Hub of GATEHOUSE_HUB_ENDPOINT, so fetch it there, or give a folder"  # noqa: S105


@dataclass(frozen=True)
class _Call:
    """A failed call: the Hub, the request and the error."""

    error: BaseException
    repo_id: str
    endpoint: str
    revision: str
    own: bool
    token: bool
    withheld: bool

    @property
    def name(self) -> str:
        return f"{self.repo_id} at {self.endpoint}"

    @property
    def said(self) -> str:
        words = _remote_words(self.error)
        return f", and says: “{words}”" if words else ""


def refused_because(
    error: BaseException,
    *,
    repo_id: str,
    endpoint: str,
    revision: str = "",
    own: bool = True,
    token: bool = False,
    withheld: bool = False,
) -> str:
    """Return the sentence.

    `own`: the portal's token may be sent there; `token`: there is one, and it was sent; `withheld`: there is
    one, but it was not sent because no superuser allowed it for that repository.
    """
    call = _Call(error, repo_id, endpoint, revision, own, token, withheld)
    judges = (
        _led_elsewhere,
        _rate_or_token_refused,
        _gated_or_not_there,
        _refused_with_status,
    )
    if sentence := next((words for judge in judges if (words := judge(call))), ""):
        return sentence
    if _is_full(error):
        return f"{repo_id} cannot be stored: the disk is full; make room and try again."
    why = " ".join(str(error).split())[:200] or type(error).__name__
    return f"{call.name} could not be asked ({why}): check the address and the network, then try again."


def _led_elsewhere(call: _Call) -> str:
    kinds = _error_kinds(call.error)
    if led := next((one for one in _error_chain(call.error) if type(one).__name__ == "LedElsewhere"), None):
        return (
            f"{call.name} is not fetched, since {led}. "
            "An operator who trusts that host names it in GATEHOUSE_HUB_REDIRECTS."
        )
    return (
        f"{call.name} is not fetched, since it redirects without end." if "TooManyRedirects" in kinds else ""
    )


def _rate_or_token_refused(call: _Call) -> str:
    status = _response_status(call.error)
    if status == 429:
        seconds = wait_asked(call.error)
        when = f"in {seconds} s" if seconds else "later"
        return f"{call.endpoint} has reached its rate limit for us: try again {when}{call.said}."
    if status == 401 and call.token and "invalid" in _remote_words(call.error).lower():
        return f"{call.endpoint} does not accept the token in GATEHOUSE_HUB_TOKEN{call.said}: give it a valid one."
    return ""


def _gated_or_not_there(call: _Call) -> str:
    kinds = _error_kinds(call.error)
    if "GatedRepoError" in kinds:
        if call.withheld:
            return f"{call.name} is gated{call.said}: {WITHHELD}."
        remedy = OWN_TOKEN if call.own else NO_TOKEN
        return f"{call.name} is gated{call.said}: ask for access there and {remedy}."
    if "RevisionNotFoundError" in kinds:
        if call.revision:
            return f"{call.name} has no revision {call.revision}: check its name."
        return f"{call.name} has no such revision."
    if "RepositoryNotFoundError" in kinds:
        if call.withheld:
            return f"{call.name} was not found{call.said}: check the name. If it is private, {WITHHELD}."
        may = "GATEHOUSE_HUB_TOKEN may read it" if call.own else "it can be read without a token"
        return f"{call.name} was not found{call.said}: check the name, or whether {may}."
    if "EntryNotFoundError" in kinds:
        return f"{call.name} has no such file{call.said}: check what it holds."
    return ""


def _refused_with_status(call: _Call) -> str:
    status = _response_status(call.error)
    if status >= 500:
        return f"{call.name} could not be asked (the remote failed with status {status}): try again later."
    if status in {401, 403} and call.withheld:
        return f"{call.name} refused with status {status}{call.said}: {WITHHELD}."
    return (
        f"{call.name} refused with status {status}{call.said}: look there for the reason." if status else ""
    )


def wait_asked(error: BaseException) -> int:
    """Return the whole seconds until the remote answers again; 0 if it does not say."""
    headers = getattr(_remote_response(error), "headers", None) or {}
    after = str(headers.get("Retry-After") or "")
    if after.isascii() and after.isdigit() and len(after) <= 6:
        return int(after)
    found = RESETS_IN.search(str(headers.get("RateLimit") or ""))
    return int(found[1]) if found else 0


def is_rate_limit(error: BaseException) -> bool:
    return _response_status(error) == 429


def what_lacks(error: BaseException) -> dict[str, Any]:
    """Return what may become available later: `room` here, or the `remote` (in `seconds`, if it says so).

    The child prints it. Empty if waiting does not help: a refusal, a wrong name, an invalid certificate.
    """
    if _is_full(error):
        return {"lacks": "room", "bytes_needed": 0}
    status, kinds = _response_status(error), _error_kinds(error)
    cut_off = status == 0 and bool(kinds & AWAY) and not kinds & LASTING
    if status in {408, 425, 429} or status >= 500 or cut_off:
        return {"lacks": "remote", "seconds": wait_asked(error)}
    return {}


def _error_chain(error: BaseException) -> list[BaseException]:
    """Return the error and its causes: the client wraps network and Hub errors."""
    found: list[BaseException] = []
    one: BaseException | None = error
    while one is not None and one not in found and len(found) < 10:
        found.append(one)
        one = one.__cause__ or one.__context__
    return found


def _error_kinds(error: BaseException) -> set[str]:
    return {kind.__name__ for one in _error_chain(error) for kind in type(one).__mro__}


def _remote_response(error: BaseException) -> Any:
    return next((r for one in _error_chain(error) if (r := getattr(one, "response", None)) is not None), None)


def _response_status(error: BaseException) -> int:
    return int(getattr(_remote_response(error), "status_code", 0) or 0)


def _is_full(error: BaseException) -> bool:
    return any(
        isinstance(one, OSError) and one.errno in {errno.ENOSPC, errno.EDQUOT} for one in _error_chain(error)
    )


def _remote_words(error: BaseException) -> str:
    """Return the remote's own message, made safe for a terminal and a page."""
    headers = getattr(_remote_response(error), "headers", None) or {}
    message = headers.get("X-Error-Message") or next(
        (m for one in _error_chain(error) if (m := getattr(one, "server_message", None))), ""
    )
    printable = "".join(c for c in str(message) if c.isprintable())
    return " ".join(printable.split())[:LONGEST].rstrip(" .:")
