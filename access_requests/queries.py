"""What is asked more than once; first of all: may this person read this model now?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import CharField, F, Func, Q, QuerySet, Value
from django.db.models.functions import Lower
from django.db.models.lookups import Exact
from django.utils import timezone

from access_requests.enums import OPEN_STATES, AccessCode, RequestState, Role
from access_requests.models import (
    AccessRequest,
    AccessToken,
    GatedModel,
    Grant,
    ModelRole,
    Namespace,
)
from access_requests.models.requests import WAITING_FIRST
from access_requests.permissions import decidable_models, is_person, is_reviewer
from access_requests.prepared import SAMPLE_NUMBER, SAMPLE_NUMBERS, SAMPLE_TEXT, USER_AND_MODEL, Prepared
from access_requests.search import AnyOf
from access_requests.standing import Standing, owing, standing_by_name, standing_in


@dataclass(frozen=True)
class Access:
    """*Allowed until* or *refused because*; `sentence` is one ASCII line for the person, with the page's address."""

    allowed: bool
    code: AccessCode
    sentence: str
    until: datetime | None = None
    grant: Grant | None = None
    request: AccessRequest | None = None
    role: str = ""  # the person's role for the model, whatever the token; "" for none


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
    AccessCode.RESET: "A reviewer reset your request #{number}: ask again at {page}",
    AccessCode.LICENCE_OWED: "The licence of {model} changed: read it and agree at {page}/access",
    AccessCode.TOKEN_OUT_OF_SCOPE: "This token belongs to another grant, of another model or one that has ended: take one for this model at {page}/access",
    AccessCode.DISABLED: "Your account is disabled: write to the owner of {page}",
}

# The open request, else the one that was closed last: an older one may have been reopened since.
NEWEST_FIRST = (F("closed_at").desc(nulls_first=True), F("pk").desc())

REQUEST_CODES = {
    RequestState.DRAFT: AccessCode.DRAFT,
    RequestState.SUBMITTED: AccessCode.PENDING,
    RequestState.IN_REVIEW: AccessCode.PENDING,
    RequestState.APPEALED: AccessCode.PENDING,
    RequestState.CHANGES_REQUESTED: AccessCode.CHANGES_REQUESTED,
    RequestState.REJECTED: AccessCode.REJECTED,
    RequestState.WITHDRAWN: AccessCode.WITHDRAWN,
    RequestState.RESET: AccessCode.RESET,
}

MOST_POSITIONS = 1000  # places in a queue that are counted


def access_of(user: Any, model: GatedModel, *, token: AccessToken | None = None) -> Access:
    """The one answer that everything serving bytes asks for; a token can only narrow it."""
    if not is_person(user):
        return _access_of_nobody(user, model)
    return _access(user, model, standing_in(model, user), token)


def model_and_access(
    repo_id: str, *, user: Any, token: AccessToken | None
) -> tuple[GatedModel, Access] | None:
    """The model of that id and what this caller may there, in one query where they may read (the card is deferred).

    None: there is no such model, or none that this caller may know of.
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
    return model, _access(user, model, standing, token)


def _access_of_nobody(user: Any, model: GatedModel) -> Access:
    if not model.is_gated:
        return _answer(AccessCode.OPEN_MODEL, model)
    signed_in = user is not None and user.is_authenticated
    return _answer(AccessCode.DISABLED if signed_in else AccessCode.ANONYMOUS, model)


def _access(user: Any, model: GatedModel, standing: Standing, token: AccessToken | None) -> Access:
    if not model.is_gated:
        return _answer(AccessCode.OPEN_MODEL, model, role=standing.role)
    grant, role = standing.grant, standing.role
    fits = token is None or token.grant_id is None or (grant is not None and token.grant_id == grant.pk)
    if not fits and (grant or role):
        return _answer(AccessCode.TOKEN_OUT_OF_SCOPE, model, role=role)
    if grant and standing.owes_licence and not role:
        return _answer(AccessCode.LICENCE_OWED, model, grant=grant)
    if grant:
        return _answer(AccessCode.GRANTED, model, grant=grant, role=role)
    return _answer(AccessCode.STAFF, model, role=role) if role else _refusal(user, model)


def _refusal(user: Any, model: GatedModel) -> Access:
    request, ended = latest_request(user, model), _latest_grant.first(user=user.pk, model=model.pk)
    code = _why_not(request, ended)
    if code in {AccessCode.REVOKED, AccessCode.EXPIRED}:
        return _answer(code, model, grant=ended)
    return _answer(code, model, request=None if code == AccessCode.NO_REQUEST else request)


_latest_grant = Prepared(
    lambda user, model: Grant.objects.filter(user=user, model=model).order_by("-pk")[:1],
    **USER_AND_MODEL,
)


def _why_not(request: AccessRequest | None, ended: Grant | None) -> AccessCode:
    """The refusal that a person's latest request and latest grant, which is not live, come to."""
    if ended is not None and (request is None or is_older(request, ended)):
        return AccessCode.REVOKED if ended.revoked_at else AccessCode.EXPIRED
    if request is None or request.state not in REQUEST_CODES:
        return AccessCode.NO_REQUEST
    return REQUEST_CODES[RequestState(request.state)]


def is_older(request: AccessRequest, grant: Grant) -> bool:
    """Whether the grant, and not the request, is the last word: a decision against counts from when it was given."""
    if request.is_open:
        return False
    if request.state == RequestState.APPROVED:
        return True
    against = request.state in {RequestState.REJECTED, RequestState.RESET}
    since = request.closed_at if against else request.created_at
    return since is not None and since < grant.starts_at


def codes_for(user: Any, models: Iterable[GatedModel]) -> dict[int, AccessCode]:
    """`access_of(user, model).code` for a whole list, by the model's key, in at most three queries."""
    models = list(models)
    if not is_person(user):
        return {model.pk: access_of(user, model).code for model in models}
    keys = [model.pk for model in models]
    grants = {grant.model_id: grant for grant in _grants_among(user=user.pk, models=keys)}
    requests = {request.model_id: request for request in _requests_among(user=user.pk, models=keys)}
    reviewed = set(keys) if user.is_superuser else {key for (key,) in _roles_among(user=user.pk, models=keys)}
    return {
        model.pk: _code(model, grants.get(model.pk), requests.get(model.pk), model.pk in reviewed)
        for model in models
    }


_of_person = {"user": SAMPLE_NUMBER, "models": SAMPLE_NUMBERS}
_grants_among = Prepared(
    lambda user, models: owing(Grant.objects.filter(AnyOf(F("model"), models), user=user)).order_by("pk"),
    **_of_person,
)
_requests_among = Prepared(
    lambda user, models: (
        AccessRequest.objects.filter(AnyOf(F("model"), models), applicant=user)
        .order_by(*NEWEST_FIRST)
        .reverse()
    ),
    **_of_person,
)
_roles_among = Prepared(
    lambda user, models: ModelRole.objects.filter(AnyOf(F("model"), models), user=user).values_list("model"),
    **_of_person,
)


def _code(model: GatedModel, grant: Any, request: AccessRequest | None, reviews: bool) -> AccessCode:
    """`grant` carries `owes`."""
    if not model.is_gated:
        return AccessCode.OPEN_MODEL
    if grant and grant.is_live():
        return AccessCode.LICENCE_OWED if grant.owes and not reviews else AccessCode.GRANTED
    return AccessCode.STAFF if reviews else _why_not(request, grant)


def _answer(
    code: AccessCode,
    model: GatedModel,
    *,
    grant: Grant | None = None,
    request: AccessRequest | None = None,
    role: str = "",
) -> Access:
    until = (grant.revoked_at or grant.ends_at) if grant else None
    facts = {
        "model": model.repo_id,
        "page": model.address(),
        "until": f"{until:%Y-%m-%d}" if until else "",
        "number": request.pk if request else "",
        "position": _position(request) if request and code == AccessCode.PENDING else "",
        "reason": _reason(request) if code == AccessCode.REJECTED else "",
    }
    allowed = code in {AccessCode.OPEN_MODEL, AccessCode.GRANTED, AccessCode.STAFF}
    return Access(allowed, code, SENTENCES[code].format(**facts), until, grant, request, role)


def _position(request: AccessRequest) -> str:
    return position_in_words(queue_position(request))


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
    """The person's open request for the model, else the one that was closed last."""
    found = _latest_request.first(user=user.pk, model=model.pk) if is_person(user) else None
    if found is not None:
        found.model = model
    return found


_latest_request = Prepared(
    lambda user, model: AccessRequest.objects.filter(applicant=user, model=model).order_by(*NEWEST_FIRST)[:1],
    **USER_AND_MODEL,
)


def open_request(user: Any, model: GatedModel) -> AccessRequest | None:
    """The one request of this person that is still under way."""
    return model.requests.filter(applicant=user, state__in=OPEN_STATES).first()


def queue_position(request: AccessRequest) -> int:
    """Return 1 for the next, plus one for each of the model's waiting requests that was submitted first before it.

    The count ends at `MOST_POSITIONS`, and everything behind that is `MOST_POSITIONS + 1`.
    """
    since = request.first_submitted_at
    waiting = AccessRequest.objects.alias(waits=WAITING_FIRST).filter(model=request.model_id, waits=0)
    before = waiting.filter(first_submitted_at__lte=since).exclude(
        first_submitted_at=since, pk__gte=request.pk
    )
    return before.order_by().values("pk")[:MOST_POSITIONS].count() + 1


def position_in_words(position: int) -> str:
    """Return the place in the queue as pages and refusals say it."""
    return f"{position:,}" if position <= MOST_POSITIONS else f"after the first {MOST_POSITIONS:,}"


def may_know_of(user: Any, model: GatedModel) -> bool:
    """Listed models are public; an unlisted one exists only for those with a role, a request or a grant."""
    if model.listed or is_reviewer(user, model):
        return True
    return is_person(user) and (
        model.grants.filter(user=user).exists() or model.requests.filter(applicant=user).exists()
    )


def visible_models(user: Any) -> QuerySet[GatedModel]:
    """Return the catalogue as this person may see it.

    Never by joins: they would read every request and grant of each model.
    """
    if not is_person(user):
        return GatedModel.objects.filter(listed=True)
    if user.is_superuser:
        return GatedModel.objects.all()
    mine = (
        ModelRole.objects.filter(user=user),
        Grant.objects.filter(user=user),
        AccessRequest.objects.filter(applicant=user),
    )
    known = Q(listed=True)
    for rows in mine:
        known |= Q(pk__in=rows.order_by().values("model"))
    return GatedModel.objects.filter(known)


def readable_models(user: Any) -> list[GatedModel]:
    """The gated models that this person may read now, by grant or by role; no cards. For a superuser these are all."""
    now = timezone.now()
    granted = Grant.objects.filter(user=user, revoked_at=None, starts_at__lte=now, ends_at__gt=now)
    mine = Q(pk__in=granted.values("model")) | Q(pk__in=decidable_models(user).values("pk"))
    models = list(GatedModel.objects.filter(mine).order_by("repo_id").defer("card", "card_data"))
    codes = codes_for(user, models)
    return [model for model in models if codes[model.pk] in {AccessCode.GRANTED, AccessCode.STAFF}]


def find_model(repo_id: str) -> GatedModel | None:
    """By id, whatever its case; the card is deferred."""
    return None if "\0" in repo_id else _by_name.first(repo_id=repo_id.lower())


_by_name = Prepared(
    lambda repo_id: models_named(repo_id).select_related("form").defer("card"), repo_id=SAMPLE_TEXT
)


def models_named(repo_id: str) -> QuerySet[GatedModel]:
    """The model of that id, whatever its case, or nothing."""
    if "\0" in repo_id:
        return GatedModel.objects.none()
    # As the unique index has it; `iexact` would compare in upper case.
    return GatedModel.objects.filter(Exact(Lower("repo_id"), repo_id.lower()))


def find_renamed(repo_id: str) -> GatedModel | None:
    """The model that once had this id, whatever its case."""
    if "\0" in repo_id:
        return None
    same = Exact(Lower("former_ids__repo_id"), repo_id.lower())
    return GatedModel.objects.select_related("form").filter(same).first()


def namespaces_of(person: Any) -> dict[str, tuple[str, str]]:
    """Where this person has roles: the namespace's full name (else its name) and the person's highest role there.

    Their own user name is no organization. Two queries, which read each namespace once.
    """
    namespace = Func(
        F("model__repo_id"), Value("/"), Value(1), function="SPLIT_PART", output_field=CharField()
    )
    held = ModelRole.objects.filter(user=person).values_list(namespace, "role").distinct()
    roles: dict[str, str] = {}
    for name, role in held:
        if name.lower() != person.username.lower():
            roles[name] = Role.OWNER.value if Role.OWNER in (role, roles.get(name)) else role
    lower = [name.lower() for name in roles]
    named = Namespace.objects.annotate(lower=Lower("name")).filter(lower__in=lower)
    names = dict(named.values_list("lower", "full_name"))
    return {name: (names.get(name.lower(), name), roles[name]) for name in sorted(roles)}
