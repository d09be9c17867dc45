"""What another Hub's refusals mean, in one sentence with what to do. Without Django: the child that fetches speaks so too."""

from __future__ import annotations

import errno
import re
from typing import Any

LONGEST = 300  # characters that are taken of the far side's words
RESETS_IN = re.compile(r"\bt=(\d{1,6})\b")  # `RateLimit: "api";r=0;t=55`
OWN_TOKEN = "give GATEHOUSE_HUB_TOKEN a token that has it"  # noqa: S105 - words, no token
NO_TOKEN = "a token is sent to the Hub of GATEHOUSE_HUB_ENDPOINT alone, so fetch it there, or give a folder"  # noqa: S105


def refused_because(
    error: BaseException,
    *,
    repo_id: str,
    endpoint: str,
    revision: str = "",
    own: bool = True,
    token: bool = False,
) -> str:
    """The sentence. `own`: the portal's token may be sent there; `token`: there is one, and it was."""
    name, said = f"{repo_id} at {endpoint}", _said(error)
    kinds = _kinds(error)
    status = _status(error)
    if status == 429:
        seconds = wait_asked(error)
        when = f"in {seconds} s" if seconds else "later"
        return f"{endpoint} answers no more questions for now (rate limit): try again {when}{_quoted(said)}."
    if status == 401 and token and "invalid" in said.lower():
        return f"{endpoint} does not accept the token in GATEHOUSE_HUB_TOKEN{_quoted(said)}: give it a valid one."
    if "GatedRepoError" in kinds:
        how = OWN_TOKEN if own else NO_TOKEN
        return f"{name} is gated{_quoted(said)}: ask for access there and {how}."
    if "RevisionNotFoundError" in kinds:
        return (
            f"{name} has no revision {revision}: check its name."
            if revision
            else f"{name} has no such revision."
        )
    if "RepositoryNotFoundError" in kinds:
        may = "GATEHOUSE_HUB_TOKEN may read it" if own else "it can be read without a token"
        return f"{name} was not found{_quoted(said)}: check the name, or whether {may}."
    if "EntryNotFoundError" in kinds:
        return f"{name} has no such file{_quoted(said)}: check what it holds."
    if status and status >= 500:
        return f"{name} could not be asked (the far side has trouble of its own, status {status}): try again later."
    if status:
        return f"{name} refused with status {status}{_quoted(said)}: see there what it wants."
    if _is_full(error):
        return f"{repo_id} cannot be stored: the disk is full; make room and try again."
    why = " ".join(str(error).split())[:200] or type(error).__name__
    return f"{name} could not be asked ({why}): check the address and the network, then try again."


def wait_asked(error: BaseException) -> int:
    """Whole seconds until the far side answers again; 0 where it does not say."""
    headers = getattr(_response(error), "headers", None) or {}
    after = str(headers.get("Retry-After") or "")
    if after.isascii() and after.isdigit() and len(after) <= 6:
        return int(after)
    found = RESETS_IN.search(str(headers.get("RateLimit") or ""))
    return int(found[1]) if found else 0


def is_rate_limit(error: BaseException) -> bool:
    return _status(error) == 429


def _chain(error: BaseException) -> list[BaseException]:
    """The error and those it was raised from: the client wraps what the network and the Hub said."""
    found: list[BaseException] = []
    one: BaseException | None = error
    while one is not None and one not in found and len(found) < 10:
        found.append(one)
        one = one.__cause__ or one.__context__
    return found


def _kinds(error: BaseException) -> set[str]:
    return {kind.__name__ for one in _chain(error) for kind in type(one).__mro__}


def _response(error: BaseException) -> Any:
    return next((r for one in _chain(error) if (r := getattr(one, "response", None)) is not None), None)


def _status(error: BaseException) -> int:
    return int(getattr(_response(error), "status_code", 0) or 0)


def _is_full(error: BaseException) -> bool:
    return any(
        isinstance(one, OSError) and one.errno in {errno.ENOSPC, errno.EDQUOT} for one in _chain(error)
    )


def _said(error: BaseException) -> str:
    """The far side's own sentence, made harmless for a terminal and a page."""
    headers = getattr(_response(error), "headers", None) or {}
    message = headers.get("X-Error-Message") or next(
        (m for one in _chain(error) if (m := getattr(one, "server_message", None))), ""
    )
    printable = "".join(c for c in str(message) if c.isprintable())
    return " ".join(printable.split())[:LONGEST].rstrip(" .:")


def _quoted(said: str) -> str:
    return f", and says: “{said}”" if said else ""
