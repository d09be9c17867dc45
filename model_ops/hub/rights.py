"""What takes a reviewer token: deciding, settings, uploads. First the token's kind is looked at, then its person's role."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.conf import settings

from access_requests.enums import Role
from model_ops.hub import refusals
from model_ops.hub.caller import Caller
from model_ops.hub.repo import Repo

if TYPE_CHECKING:
    from portal.accounts.models import User


def require_reviewer(repo: Repo) -> User:
    """The person, who may decide for this model; else 401 or 403."""
    person = require_deciding_token(repo.caller)
    if not repo.access.role:
        raise refusals.forbidden(
            f"Only reviewers and owners of {repo.model.repo_id} may do this; see {repo.model.address()}"
        )
    return person


def require_owner(repo: Repo) -> User:
    """The person, who may change this model; else 401 or 403."""
    person = require_deciding_token(repo.caller)
    if repo.access.role != Role.OWNER:
        raise refusals.forbidden(
            f"Only an owner of {repo.model.repo_id} may do this; see {repo.model.address()}"
        )
    return person


def require_deciding_token(caller: Caller) -> User:
    """The person behind a reviewer token; nobody is 401, another kind of token 403."""
    person = caller.person()
    if not caller.decides:
        page = f"{settings.GATEHOUSE_URL}/me/tokens"
        raise refusals.forbidden(
            f"This token only reads: reviewers and owners make one of the kind 'reviewer' at {page}"
        )
    return person
