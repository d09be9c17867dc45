"""Who may upload: a reviewer-kind token of an owner of the model."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from django.conf import settings
from django.http import HttpRequest

from access_requests.models import AccessToken
from access_requests.permissions import is_owner
from model_ops.hub.caller import caller_of
from model_ops.hub.refusals import Refused
from model_ops.hub.repo import Repo, open_repo

if TYPE_CHECKING:
    from portal.accounts.models import User


def uploader(request: HttpRequest) -> tuple[User, AccessToken]:
    """The person behind a token that may write; anonymous 401, another kind of token 403."""
    caller = caller_of(request)
    person = caller.person()
    if caller.token is None or not caller.decides:
        kind = caller.token.kind if caller.token else "page"
        sentence = (
            f"This is a {kind} token, which only reads: uploading takes a reviewer token, which "
            f"a model's owner makes at {settings.GATEHOUSE_URL}/me/tokens"
        )
        raise Refused(HTTPStatus.FORBIDDEN, "NotAllowed", sentence, warning="upload")
    return person, caller.token


def owned_repo(request: HttpRequest, repo_id: str) -> tuple[Repo, User, AccessToken]:
    """The model, if the caller may upload to it; what strangers may not know of is not found."""
    repo = open_repo(request, repo_id)
    person, token = uploader(request)
    if not is_owner(person, repo.model):
        sentence = (
            f"Only an owner of {repo.model.repo_id} may upload to it, and {person.username} is none: ask one of them "
            f"for that role; see {repo.model.address()}"
        )
        raise Refused(HTTPStatus.FORBIDDEN, "NotAllowed", sentence, warning="upload")
    return repo, person, token
