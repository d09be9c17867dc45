"""What is asked more than once; first of all: may this person read this model now?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import Q, QuerySet
from django.db.models.functions import Lower
from django.db.models.lookups import Exact
from django.utils import timezone

from access_requests.enums import OPEN_STATES, WAITING_STATES, AccessCode, RequestState
from access_requests.models import AccessRequest, AccessToken, GatedModel, Grant
from access_requests.permissions import decidable_models, is_person, is_reviewer


@dataclass(frozen=True)
class Access:
    """*Allowed until* or *refused because*; `sentence` is one ASCII line for the person, with the page's address."""

    allowed: bool
    code: AccessCode
    sentence: str
    until: datetime | None = None
    grant: Grant | None = None
    request: AccessRequest | None = None


# One sentence per refusal; {page} is the model's page, {number} the request, {position} its place in the queue.
SENTENCES: dict[AccessCode, str] = {
    AccessCode.OPEN_MODEL: "{model} is not gated: anybody may read it.",
    AccessCode.GRANTED: "You may read {model} until {until}.",
    AccessCode.STAFF: "You may read {model} as one of its owners or reviewers.",
    AccessCode.ANONYMOUS: "Sign in and ask for access at {page} and set HF_TOKEN to the token you get there.",
    AccessCode.NO_REQUEST: "Ask for access at {page}",
    AccessCode.DRAFT: "Your request #{number} is a draft: submit it at {page}/request",
    AccessCode.PENDING: "Your request #{number} is waiting for a reviewer (position {position} in the queue): {page}",
    AccessCode.CHANGES_REQUESTED: "The reviewer asked for changes to your request #{number}: answer at {page}/request",
    AccessCode.REJECTED: "Your request #{number} was rejected ({reason}): read why, appeal or ask again at {page}",
    AccessCode.WITHDRAWN: "You withdrew your request #{number}: ask again at {page}",
    AccessCode.EXPIRED: "Your access ended on {until}: ask again at {page}",
    AccessCode.REVOKED: "Your access was revoked on {until}: read why at {page}",
    AccessCode.TOKEN_OUT_OF_SCOPE: "This token belongs to another grant: take one for this model at {page}/access",
    AccessCode.DISABLED: "Your account is disabled: write to the owner of {page}",
}

REQUEST_CODES = {
    RequestState.DRAFT: AccessCode.DRAFT,
    RequestState.SUBMITTED: AccessCode.PENDING,
    RequestState.IN_REVIEW: AccessCode.PENDING,
    RequestState.APPEALED: AccessCode.PENDING,
    RequestState.CHANGES_REQUESTED: AccessCode.CHANGES_REQUESTED,
    RequestState.REJECTED: AccessCode.REJECTED,
    RequestState.WITHDRAWN: AccessCode.WITHDRAWN,
}


def access_of(user: Any, model: GatedModel, *, token: AccessToken | None = None) -> Access:
    """The one answer that everything serving bytes asks for; a token can only narrow it."""
    if not model.is_gated:
        return _answer(AccessCode.OPEN_MODEL, model)
    if user is None or not user.is_authenticated:
        return _answer(AccessCode.ANONYMOUS, model)
    if not user.is_active:
        return _answer(AccessCode.DISABLED, model)
    if token and token.grant is None:
        token = None  # it stands for its person, and narrows nothing
    if token and token.grant and token.grant.model_id == model.pk and token.grant.is_live():
        return _answer(AccessCode.GRANTED, model, grant=token.grant)
    grant = live_grant(user, model)
    if grant and token:
        return _answer(AccessCode.TOKEN_OUT_OF_SCOPE, model)
    if grant:
        return _answer(AccessCode.GRANTED, model, grant=grant)
    if is_reviewer(user, model):
        return _answer(AccessCode.TOKEN_OUT_OF_SCOPE if token else AccessCode.STAFF, model)
    return _refusal(user, model)


def _refusal(user: Any, model: GatedModel) -> Access:
    request = latest_request(user, model)
    ended = model.grants.filter(user=user).order_by("-pk").first()
    code = _why_not(request, ended)
    if code in {AccessCode.REVOKED, AccessCode.EXPIRED}:
        return _answer(code, model, grant=ended)
    return _answer(code, model, request=None if code == AccessCode.NO_REQUEST else request)


def _why_not(request: AccessRequest | None, ended: Grant | None) -> AccessCode:
    """The refusal that a person's latest request and latest grant, which is not live, come to."""
    newest_is_grant = (
        request is None
        or request.state == RequestState.APPROVED
        or (ended is not None and not request.is_open and request.created_at < ended.starts_at)
    )
    if ended is not None and newest_is_grant:
        return AccessCode.REVOKED if ended.revoked_at else AccessCode.EXPIRED
    if request is None or request.state not in REQUEST_CODES:
        return AccessCode.NO_REQUEST
    return REQUEST_CODES[RequestState(request.state)]


def codes_for(user: Any, models: Iterable[GatedModel]) -> dict[int, AccessCode]:
    """`access_of(user, model).code` for a whole list, by the model's key, in three queries."""
    models = list(models)
    if not is_person(user):
        return {model.pk: access_of(user, model).code for model in models}
    grants = {g.model_id: g for g in Grant.objects.filter(user=user, model__in=models).order_by("pk")}
    requests = {
        r.model_id: r for r in AccessRequest.objects.filter(applicant=user, model__in=models).order_by("pk")
    }
    reviewed = set(decidable_models(user).filter(pk__in=[m.pk for m in models]).values_list("pk", flat=True))
    return {
        model.pk: _code(model, grants.get(model.pk), requests.get(model.pk), model.pk in reviewed)
        for model in models
    }


def _code(model: GatedModel, grant: Grant | None, request: AccessRequest | None, reviews: bool) -> AccessCode:
    if not model.is_gated:
        return AccessCode.OPEN_MODEL
    if grant and grant.is_live():
        return AccessCode.GRANTED
    return AccessCode.STAFF if reviews else _why_not(request, grant)


def _answer(
    code: AccessCode, model: GatedModel, *, grant: Grant | None = None, request: AccessRequest | None = None
) -> Access:
    until = (grant.revoked_at or grant.ends_at) if grant else None
    facts = {
        "model": model.repo_id,
        "page": model.address(),
        "until": f"{until:%Y-%m-%d}" if until else "",
        "number": request.pk if request else "",
        "position": queue_position(request) if request and code == AccessCode.PENDING else "",
        "reason": _reason(request) if code == AccessCode.REJECTED else "",
    }
    allowed = code in {AccessCode.OPEN_MODEL, AccessCode.GRANTED, AccessCode.STAFF}
    return Access(allowed, code, SENTENCES[code].format(**facts), until, grant, request)


def _reason(request: AccessRequest | None) -> str:
    decision = request.decisions.order_by("-pk").first() if request else None
    return (
        decision.get_reason_code_display()
        if decision and decision.reason_code
        else "see the reviewer's words"
    )


def live_grant(user: Any, model: GatedModel) -> Grant | None:
    """The grant by which this person may read now."""
    now = timezone.now()
    return model.grants.filter(
        user=user, revoked_at__isnull=True, starts_at__lte=now, ends_at__gt=now
    ).first()


def latest_request(user: Any, model: GatedModel) -> AccessRequest | None:
    return model.requests.filter(applicant=user).order_by("-pk").first() if is_person(user) else None


def open_request(user: Any, model: GatedModel) -> AccessRequest | None:
    return model.requests.filter(applicant=user, state__in=OPEN_STATES).first()


def queue_position(request: AccessRequest) -> int:
    """1 is next: how many of the model's waiting requests were submitted before, plus one."""
    waiting = AccessRequest.objects.filter(model=request.model_id, state__in=WAITING_STATES)
    before = Q(submitted_at__lt=request.submitted_at) | Q(
        submitted_at=request.submitted_at, pk__lt=request.pk
    )
    return waiting.filter(before).count() + 1


def may_know_of(user: Any, model: GatedModel) -> bool:
    """Listed models are public; an unlisted one exists only for those with a role, a request or a grant."""
    if model.listed or is_reviewer(user, model):
        return True
    return is_person(user) and (
        model.grants.filter(user=user).exists() or model.requests.filter(applicant=user).exists()
    )


def visible_models(user: Any) -> QuerySet[GatedModel]:
    """The catalogue as this person may see it."""
    if not is_person(user):
        return GatedModel.objects.filter(listed=True)
    if user.is_superuser:
        return GatedModel.objects.all()
    mine = Q(roles__user=user) | Q(grants__user=user) | Q(requests__applicant=user)
    return GatedModel.objects.filter(Q(listed=True) | mine).distinct()


def find_model(repo_id: str) -> GatedModel | None:
    """By id, whatever its case."""
    if "\0" in repo_id:
        return None
    same = Exact(
        Lower("repo_id"), repo_id.lower()
    )  # as the unique index has it; `iexact` would compare in upper case
    return GatedModel.objects.select_related("form").filter(same).first()
