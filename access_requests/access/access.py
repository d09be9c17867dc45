"""Say whether a person can read a model now and, if not, why and what to do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import F, Q
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from access_requests.access.catalogue import models_named
from access_requests.access.compiled_query import (
    SAMPLE_NUMBER,
    SAMPLE_NUMBERS,
    USER_AND_MODEL,
    CompiledQuery,
)
from access_requests.access.permissions import decidable_models, is_person
from access_requests.access.situation import ACCESS_CODES, NEWEST_FIRST, Situation, situation
from access_requests.access.standing import Standing, owing, standing_by_name, standing_in
from access_requests.enums import DECIDING_ROLES, OPEN_STATES, AccessCode
from access_requests.models import (
    AccessRequest,
    AccessToken,
    GatedModel,
    Grant,
    ModelRole,
)
from access_requests.models.requests import WAITING_FIRST
from access_requests.search import AnyOf


@dataclass(frozen=True)
class AccessDecision:
    """The answer: allowed until a time, or refused for a reason.

    `sentence` is one ASCII line with the page's URL.
    """

    allowed: bool
    code: AccessCode
    sentence: str
    until: datetime | None = None
    grant: Grant | None = None
    request: AccessRequest | None = None
    role: str = ""  # the person's role for the model, whatever the token; "" for none


# One sentence per refusal; {page} is the model's page, {number} the request, {position} its place in the queue.
SENTENCES: dict[AccessCode, Promise] = {
    AccessCode.OPEN_MODEL: gettext_lazy("{model} is not gated: anyone may read it."),
    AccessCode.GRANTED: gettext_lazy("You may read {model} until {until}."),
    AccessCode.STAFF: gettext_lazy("You may read {model} as one of its owners or reviewers."),
    AccessCode.ANONYMOUS: gettext_lazy(
        "Sign in and ask for access at {page} and set HF_TOKEN to the token you get there."
    ),
    AccessCode.NO_REQUEST: gettext_lazy("Ask for access at {page}"),
    AccessCode.DRAFT: gettext_lazy("Your request #{number} is a draft: submit it at {page}/request"),
    AccessCode.PENDING: gettext_lazy(
        "Your request #{number} is waiting for a reviewer (position {position} in the queue): {page}"
    ),
    AccessCode.CHANGES_REQUESTED: gettext_lazy(
        "The reviewer asked for changes to your request #{number}: answer at {page}/request"
    ),
    AccessCode.REJECTED: gettext_lazy(
        "Your request #{number} was rejected ({reason}): read why, appeal or ask again at {page}"
    ),
    AccessCode.WITHDRAWN: gettext_lazy("You withdrew your request #{number}: ask again at {page}"),
    AccessCode.EXPIRED: gettext_lazy("Your access ended on {until}: ask again at {page}"),
    AccessCode.REVOKED: gettext_lazy("Your access was revoked on {until}: read why at {page}"),
    AccessCode.RESET: gettext_lazy(
        "A reviewer closed your request #{number} without a decision: ask again at {page}"
    ),
    AccessCode.LICENCE_OWED: gettext_lazy(
        "The licence of {model} changed: read it and agree at {page}/access"
    ),
    AccessCode.TOKEN_OUT_OF_SCOPE: gettext_lazy(
        "This token belongs to another grant, of another model or one that has ended: take one for this model at {page}/access"
    ),
    AccessCode.DISABLED: gettext_lazy("Your account is disabled: write to the owner of {page}"),
}

MOST_POSITIONS = 1000  # the last place in a queue that is counted


def access_of(user: Any, model: GatedModel, *, token: AccessToken | None = None) -> AccessDecision:
    """Return whether this person may read the model; called before serving any bytes.

    Tokens can only narrow it.
    """
    if not is_person(user):
        return _access_of_nobody(user, model)
    return _access_from_standing(user, model, standing_in(model, user), token)


def model_and_access(
    repo_id: str, *, user: Any, token: AccessToken | None
) -> tuple[GatedModel, AccessDecision] | None:
    """Return the model with that id and what this caller may do there: one query if they may read (the card is deferred).

    None if there is no such model, or this caller may not know of it.
    """
    if not is_person(user):
        model = models_named(repo_id).defer("card").first()
        return (model, _access_of_nobody(user, model)) if model and model.listed else None
    found = standing_by_name(repo_id, user)
    if found is None:
        return None
    model, standing = found
    if not (model.listed or standing.role or standing.was_here):
        return None
    return model, _access_from_standing(user, model, standing, token)


def _access_of_nobody(user: Any, model: GatedModel) -> AccessDecision:
    if not model.is_gated:
        return _make_decision(AccessCode.OPEN_MODEL, model)
    signed_in = user is not None and user.is_authenticated
    return _make_decision(AccessCode.DISABLED if signed_in else AccessCode.ANONYMOUS, model)


def _access_from_standing(
    user: Any, model: GatedModel, standing: Standing, token: AccessToken | None
) -> AccessDecision:
    if not model.is_gated:
        return _make_decision(AccessCode.OPEN_MODEL, model, role=standing.role)
    grant, role = standing.grant, standing.role
    decides = role in DECIDING_ROLES  # and so may read the files
    # A token of a grant fits only that grant, any other token fits every grant.
    only_grant = token.grant_id if token else None
    if (grant or decides) and only_grant is not None and (grant is None or grant.pk != only_grant):
        return _make_decision(AccessCode.TOKEN_OUT_OF_SCOPE, model, role=role)
    if grant and standing.owes_licence and not decides:
        return _make_decision(AccessCode.LICENCE_OWED, model, grant=grant, role=role)
    if grant:
        return _make_decision(AccessCode.GRANTED, model, grant=grant, role=role)
    if decides:
        return _make_decision(AccessCode.STAFF, model, role=role)
    request, ended = latest_request(user, model), _latest_grant.first(user=user.pk, model=model.pk)
    code = ACCESS_CODES[situation(request, ended, timezone.now())]
    if code in {AccessCode.REVOKED, AccessCode.EXPIRED}:
        return _make_decision(code, model, grant=ended, role=role)
    asked = None if code == AccessCode.NO_REQUEST else request
    return _make_decision(code, model, request=asked, role=role)


_latest_grant = CompiledQuery(
    lambda user, model: Grant.objects.filter(user=user, model=model).order_by("-pk")[:1],
    **USER_AND_MODEL,
)


def codes_for(user: Any, models: Iterable[GatedModel]) -> dict[int, AccessCode]:
    """Return `access_of(user, model).code` for a list of models, by primary key, in at most three queries."""
    models = list(models)
    if not is_person(user):
        return {model.pk: access_of(user, model).code for model in models}
    keys = [model.pk for model in models]
    grants = {grant.model_id: grant for grant in _grants_among(user=user.pk, models=keys)}
    requests = {request.model_id: request for request in _requests_among(user=user.pk, models=keys)}
    reviewed = set(keys) if user.is_superuser else {key for (key,) in _roles_among(user=user.pk, models=keys)}
    return {
        model.pk: _code_for(model, grants.get(model.pk), requests.get(model.pk), model.pk in reviewed)
        for model in models
    }


def _code_for(model: GatedModel, grant: Any, request: AccessRequest | None, reviews: bool) -> AccessCode:
    """Return the code for one model. `grant` has the annotation `owes`."""
    if not model.is_gated:
        return AccessCode.OPEN_MODEL
    stands = situation(request, grant, timezone.now())
    if stands == Situation.HAS_ACCESS:
        return AccessCode.LICENCE_OWED if grant.owes and not reviews else AccessCode.GRANTED
    return AccessCode.STAFF if reviews else ACCESS_CODES[stands]


_of_person = {"user": SAMPLE_NUMBER, "models": SAMPLE_NUMBERS}
_grants_among = CompiledQuery(
    lambda user, models: owing(Grant.objects.filter(AnyOf(F("model"), models), user=user)).order_by("pk"),
    **_of_person,
)
_requests_among = CompiledQuery(
    lambda user, models: (
        AccessRequest.objects.filter(AnyOf(F("model"), models), applicant=user)
        .order_by(*NEWEST_FIRST)
        .reverse()
    ),
    **_of_person,
)
_roles_among = CompiledQuery(
    lambda user, models: ModelRole.objects.filter(
        AnyOf(F("model"), models), user=user, role__in=DECIDING_ROLES
    ).values_list("model"),
    **_of_person,
)


def _make_decision(
    code: AccessCode,
    model: GatedModel,
    *,
    grant: Grant | None = None,
    request: AccessRequest | None = None,
    role: str = "",
) -> AccessDecision:
    until = (grant.revoked_at or grant.ends_at) if grant else None
    waiting = request if code == AccessCode.PENDING else None
    reason = ""
    if code == AccessCode.REJECTED:
        decision = request.decisions.order_by("-pk").first() if request else None
        reason = _("see the reviewer's words")
        if decision and decision.reason_code:
            reason = decision.get_reason_code_display()
    facts = {
        "model": model.repo_id,
        "page": model.address(),
        "until": f"{until:%Y-%m-%d}" if until else "",
        "number": request.pk if request else "",
        "position": position_in_words(queue_position(waiting)) if waiting else "",
        "reason": reason,
    }
    allowed = code in {AccessCode.OPEN_MODEL, AccessCode.GRANTED, AccessCode.STAFF}
    return AccessDecision(allowed, code, str(SENTENCES[code]).format(**facts), until, grant, request, role)


def live_grant(user: Any, model: GatedModel) -> Grant | None:
    """Return the grant that gives this person access now, or None."""
    now = timezone.now()
    return model.grants.filter(
        user=user, revoked_at__isnull=True, starts_at__lte=now, ends_at__gt=now
    ).first()


def latest_request(user: Any, model: GatedModel) -> AccessRequest | None:
    """Return the person's open request for the model, or else the one that was closed last."""
    found = _latest_request.first(user=user.pk, model=model.pk) if is_person(user) else None
    if found is not None:
        found.model = model
    return found


_latest_request = CompiledQuery(
    lambda user, model: AccessRequest.objects.filter(applicant=user, model=model).order_by(*NEWEST_FIRST)[:1],
    **USER_AND_MODEL,
)


def open_request(user: Any, model: GatedModel) -> AccessRequest | None:
    """Return the person's open request, or None."""
    return model.requests.filter(applicant=user, state__in=OPEN_STATES).first()


def queue_position(request: AccessRequest) -> int:
    """Return the place in the queue: 1 plus the number of the model's waiting requests that were first submitted earlier.

    The count stops at `MOST_POSITIONS`; every later place is returned as `MOST_POSITIONS + 1`.
    """
    since = request.first_submitted_at
    waiting = AccessRequest.objects.alias(waits=WAITING_FIRST).filter(model=request.model_id, waits=0)
    before = waiting.filter(first_submitted_at__lte=since).exclude(
        first_submitted_at=since, pk__gte=request.pk
    )
    return before.order_by().values("pk")[:MOST_POSITIONS].count() + 1


def position_in_words(position: int) -> str:
    """Return the place in the queue in words, as pages and refusals show it."""
    if position <= MOST_POSITIONS:
        return f"{position:,}"
    return _("after the first %(count)s") % {"count": f"{MOST_POSITIONS:,}"}


def readable_models(user: Any) -> list[GatedModel]:
    """Return the gated models that this person may read now, by grant or role, without cards; a superuser gets all."""
    now = timezone.now()
    granted = Grant.objects.filter(user=user, revoked_at=None, starts_at__lte=now, ends_at__gt=now)
    mine = Q(pk__in=granted.values("model")) | Q(pk__in=decidable_models(user).values("pk"))
    models = list(GatedModel.objects.filter(mine).order_by("repo_id").defer("card", "card_data"))
    codes = codes_for(user, models)
    return [model for model in models if codes[model.pk] in {AccessCode.GRANTED, AccessCode.STAFF}]
