"""Check who may decide, change settings and upload: first the token's kind, then its person's role."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from django.conf import settings
from django.http import HttpRequest

from access_requests.access.permissions import is_owner
from access_requests.enums import DECIDING_ROLES, Role
from access_requests.models import AccessToken
from model_ops.hub import refusals
from model_ops.hub.caller import Caller, caller_of
from model_ops.hub.repo import Repo, open_repo

if TYPE_CHECKING:
    from portal.accounts.models import User


def require_reviewer(repo: Repo) -> User:
    """Return the person if they may decide for this model; else raise a 401 or 403."""
    person = require_deciding_token(repo.caller)
    if repo.access.role not in DECIDING_ROLES:
        raise refusals.forbidden(
            f"Only reviewers and owners of {repo.model.repo_id} may do this; see {repo.model.address()}"
        )
    return person


def require_owner(repo: Repo) -> User:
    """Return the person if they may change this model; else raise a 401 or 403."""
    person = require_deciding_token(repo.caller)
    if repo.access.role != Role.OWNER:
        raise refusals.forbidden(
            f"Only an owner of {repo.model.repo_id} may do this; see {repo.model.address()}"
        )
    return person


def require_deciding_token(caller: Caller) -> User:
    """Return the person of a reviewer token; raise a 401 without a token, a 403 for other kinds."""
    person = caller.person()
    if not caller.decides:
        page = f"{settings.GATEHOUSE_URL}/me/tokens"
        raise refusals.forbidden(
            f"This token only reads: reviewers and owners make one of the kind 'reviewer' at {page}"
        )
    return person


def uploader(request: HttpRequest) -> tuple[User, AccessToken]:
    """Return the person and token if the token may write; raise a 401 without one, a 403 for other kinds."""
    caller = caller_of(request)
    person = caller.person()
    if caller.token is None or not caller.decides:
        kind = caller.token.kind if caller.token else "page"
        sentence = (
            f"This is a {kind} token, which only reads: uploading takes a reviewer token, which "
            f"a model's owner makes at {settings.GATEHOUSE_URL}/me/tokens"
        )
        raise refusals.Refused(HTTPStatus.FORBIDDEN, "NotAllowed", sentence, warning="upload")
    return person, caller.token


def owned_repo(request: HttpRequest, repo_id: str) -> tuple[Repo, User, AccessToken]:
    """Return the model if the caller may upload to it; a model that they must not know of is not found."""
    repo = open_repo(request, repo_id)
    person, token = uploader(request)
    if not is_owner(person, repo.model):
        sentence = (
            f"Only an owner of {repo.model.repo_id} may upload to it, and {person.username} is not one: ask an owner "
            f"for that role; see {repo.model.address()}"
        )
        raise refusals.Refused(HTTPStatus.FORBIDDEN, "NotAllowed", sentence, warning="upload")
    return repo, person, token
