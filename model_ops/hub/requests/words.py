"""The Hub's messages for refusals, followed by ours. Most have no error code, as on the Hub."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from django.http import HttpRequest

from access_requests.models import GatedModel
from model_ops.hub import rights
from model_ops.hub.refusals import Refused
from model_ops.hub.repo import Repo, open_repo

if TYPE_CHECKING:
    from portal.accounts.models import User

NO_RIGHT = "You have read access but not the required permissions for this operation."
NO_USER = "User not found"
NO_REQUEST = "No access request found matching your criteria"
NOTHING_PENDING = "No pending access request found for this repo and this user"
HAS_ACCESS = "That user already has access to the repo"
NOT_GATED = "Repo is not gated"


def reviewed(request: HttpRequest, repo_id: str) -> tuple[Repo, User]:
    """Return the model and the reviewer; raise a 401 without a token, a 404 if it is hidden, else a 403."""
    repo = open_repo(request, repo_id)
    person_of(repo)
    try:
        return repo, rights.require_reviewer(repo)
    except Refused as refused:
        raise no_right(refused.message) from refused


def person_of(repo: Repo) -> User:
    """Return the caller's person; without a token raise a 401 without a code, as on the Hub."""
    try:
        return repo.caller.person()
    except Refused as refused:
        refused.code = ""
        raise


def no_right(sentence: str) -> Refused:
    return Refused(HTTPStatus.FORBIDDEN, "", f"{NO_RIGHT} {sentence}")


def not_found(opening: str, sentence: str = "") -> Refused:
    return Refused(HTTPStatus.NOT_FOUND, "", f"{opening}. {sentence}" if sentence else opening)


def bad_field(name: str, sentence: str) -> Refused:
    return Refused(HTTPStatus.BAD_REQUEST, "", f"{name}: {sentence}")


def require_gate(model: GatedModel) -> None:
    if not model.is_gated:
        sentence = f"{NOT_GATED}. Anyone may read {model.repo_id}; see {model.address()}"
        raise Refused(HTTPStatus.BAD_REQUEST, "RepoNotGated", sentence)
