"""Refusals: a code that raises the right exception in the client, a status, and one line for the person.

The Hub's own message comes first, since clients and scripts match it; ours follows, with the address of a
page that helps. `docs/clients.md` lists them all.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from http import HTTPStatus

from django.conf import settings

from access_requests.access.access import AccessDecision
from access_requests.enums import AccessCode
from access_requests.errors import Unavailable
from access_requests.lines import ascii_line
from access_requests.models import GatedModel

LONGEST_LINE = 900  # characters; header limits of proxies start at 4 KiB, and the line is sent twice

NOT_LISTED = "Access to model {model} is restricted and you are not in the authorized list."
AWAITING = "Your request to access model {model} is awaiting a review from the repo authors."
RESET = "Your access to model {model} has been reset."
RESTRICTED = "Access to model {model} is restricted."  # for people who have access but lack something else
GATE_OPENINGS: dict[AccessCode, str] = {
    AccessCode.ANONYMOUS: (
        "Access to model {model} is restricted. You must have access to it and be authenticated to access it. "
        "Please log in."
    ),
    AccessCode.NO_REQUEST: NOT_LISTED,
    AccessCode.DRAFT: NOT_LISTED,
    AccessCode.PENDING: AWAITING,
    AccessCode.CHANGES_REQUESTED: AWAITING,
    AccessCode.REJECTED: "Your request to access model {model} has been rejected by the repo's authors.",
    AccessCode.WITHDRAWN: NOT_LISTED,
    AccessCode.EXPIRED: RESET,
    AccessCode.REVOKED: RESET,
    AccessCode.RESET: RESET,
    AccessCode.LICENCE_OWED: RESTRICTED,
    AccessCode.TOKEN_OUT_OF_SCOPE: RESTRICTED,
    AccessCode.DISABLED: NOT_LISTED,
}


@dataclass
class Refused(Exception):
    """An error response; `route.hub_route` turns it into a response."""

    status: int
    code: str  # X-Error-Code, "" for none; the client knows GatedRepo, RepoNotFound, RevisionNotFound, EntryNotFound
    message: str
    warning: str = ""  # X-HF-Warning's topic: `hf` prints the warning if it drops the message
    headers: dict[str, str] = field(default_factory=dict)
    text: str = ""  # the body, if it has text in scripts that a header cannot hold

    def __post_init__(self) -> None:
        super().__init__(self.message)
        self.message = one_line(self.message)
        self.text = self.text or self.message
        if self.status == HTTPStatus.UNAUTHORIZED:
            self.headers.setdefault("WWW-Authenticate", "Bearer")


def one_line(text: str) -> str:
    """Return the text in a form that fits in a header, whatever it quotes."""
    return ascii_line(text, longest=LONGEST_LINE)


def gated(model: GatedModel, access: AccessDecision, *, problem: str = "") -> Refused:
    """Return the gate's refusal: 401 without a valid token, else 403; `problem` says why one is invalid."""
    opening = GATE_OPENINGS.get(access.code, NOT_LISTED).format(model=model.repo_id)
    nobody = access.code == AccessCode.ANONYMOUS
    status = HTTPStatus.UNAUTHORIZED if nobody else HTTPStatus.FORBIDDEN
    sentence = with_page(problem, model.address()) if nobody and problem else access.sentence
    return Refused(status, "GatedRepo", f"{opening} {sentence}", warning="access")


def with_page(sentence: str, page: str) -> str:
    """Return the sentence with the page's address, unless it already has an address of the portal."""
    return sentence if settings.GATEHOUSE_URL in sentence else f"{sentence} See {page}"


def not_ready(sentence: str) -> Refused:
    """Return a refusal for weights still being made, which clients neither retry nor take for absence."""
    return Refused(HTTPStatus.FORBIDDEN, "GatedRepo", sentence, warning="access")


def no_repo(repo_id: str, *, problem: str = "") -> Refused:
    """Return the refusal for a model that is unknown or hidden from this caller; both look the same."""
    sentence = (
        f"Repository not found: {repo_id[:200]} is not a model that you can see here; "
        f"ids read NAMESPACE/NAME, see {settings.GATEHOUSE_URL}/"
    )
    return Refused(
        HTTPStatus.NOT_FOUND,
        "RepoNotFound",
        f"{sentence} {problem}".strip(),
        warning="token" if problem else "repository",
    )


def renamed(asked: str, now: str, location: str) -> Refused:
    """Return a redirect, not an error: the client repeats the request there, with its token and method."""
    sentence = f"{asked} is called {now} now: use that name."
    return Refused(
        HTTPStatus.TEMPORARY_REDIRECT,
        "RepoRenamed",
        sentence,
        warning="renamed",
        headers={"Location": location},
    )


def no_revision(repo_id: str, revision: str) -> Refused:
    sentence = (
        f"Invalid rev id: {revision[:100]}. {repo_id} has no branch, tag or commit of that name; "
        f"see {settings.GATEHOUSE_URL}/{repo_id}"
    )
    return Refused(HTTPStatus.NOT_FOUND, "RevisionNotFound", sentence, warning="revision")


def no_entry(repo_id: str, path: str, commit: str) -> Refused:
    """Return the refusal for an absent file, with the commit, so that the client remembers it.

    It has no warning, since clients look for many files that may be absent.
    """
    sentence = (
        f"Entry not found: {path[:300]} is not in {repo_id} at {commit[:8]}; "
        f"see {settings.GATEHOUSE_URL}/{repo_id}"
    )
    return Refused(HTTPStatus.NOT_FOUND, "EntryNotFound", sentence, headers={"X-Repo-Commit": commit})


def bad_request(sentence: str) -> Refused:
    return Refused(HTTPStatus.BAD_REQUEST, "BadRequest", sentence)


def bad_token(sentence: str) -> Refused:
    """Return the refusal for routes about the person, where no repository is involved."""
    opening = "Invalid username or password."
    return Refused(HTTPStatus.UNAUTHORIZED, "InvalidToken", f"{opening} {sentence}", warning="token")


def forbidden(sentence: str) -> Refused:
    """Return the refusal for a person who is not allowed to do this."""
    return Refused(HTTPStatus.FORBIDDEN, "NotAllowed", sentence, warning="access")


def damaged(model: GatedModel, path: str) -> Refused:
    """Return a refusal for a row without content, which clients neither retry nor take for an absent file."""
    sentence = (
        f"{path[:300]} of {model.repo_id} cannot be read on this server; tell the owner: {model.address()}"
    )
    return Refused(HTTPStatus.FORBIDDEN, "GatedRepo", sentence, warning="access")


def busy(sentence: str, seconds: int) -> Refused:
    """Return a 429. Use it only for GET of a body and for paged lists, where clients wait and retry."""
    told = f"{sentence} try again in {seconds} s (Hugging Face clients do so by themselves)."
    return Refused(
        HTTPStatus.TOO_MANY_REQUESTS, "TooManyDownloads", told, headers={"Retry-After": str(seconds)}
    )


# huggingface_hub retries a file after a 503 before 1.0, then after a 429 (`_http.py`, `file_download.py`).
FILES_AGAIN_AFTER_503 = re.compile(r"\bhf_hub/0\.")


def unavailable(found: Unavailable, *, client: str, file: bool) -> Refused:
    """Return the refusal for a part of the portal that is unavailable.

    With `file`, for GET of a file, where clients retry after a different status than elsewhere.
    """
    status = found.status
    if file and found.seconds and not FILES_AGAIN_AFTER_503.search(client):
        status = HTTPStatus.TOO_MANY_REQUESTS
    again = (
        f"Try again in {found.seconds} s (Hugging Face clients do so by themselves)." if found.seconds else ""
    )
    headers = {"Retry-After": str(found.seconds)} if found.seconds else {}
    message = " ".join(filter(None, [found.sentence, found.advice, again]))
    return Refused(status, found.code, message, warning="unavailable", headers=headers)
