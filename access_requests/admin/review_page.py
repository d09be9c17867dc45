"""The context of a request's page: everything that a reviewer needs, on one screen."""

from __future__ import annotations

from typing import Any

from allauth.account.models import EmailAddress
from django.db.models import Q, QuerySet

from access_requests.access.permissions import models_with_role
from access_requests.access.review_lists import review_entry
from access_requests.enums import WAITING_STATES, Place, RequestState
from access_requests.errors import RuleError
from access_requests.models import AccessRequest, Event, Grant, LicenceAcceptance
from access_requests.services.requests.decide import check_may_decide
from access_requests.services.requests.families import requests_with
from access_requests.services.requests.messages import may_read_notes, may_write_notes, thread_of
from access_requests.services.requests.shown_answers import answers_of, shown_versions
from access_requests.services.requests.submissions import newest_number

MANY = 50  # other requests, and grants, on the page
MOST_STEPS = 200  # events, and decisions, of one request on the page


def review_page_context(request: AccessRequest, reviewer: Any) -> dict[str, Any]:
    """Return the template's context."""
    person, versions = request.applicant, shown_versions(request)
    mine, may_write = models_with_role(reviewer), may_write_notes(request, reviewer)
    decisions = _newest_rows(request.decisions.select_related("reviewer"))
    # The events of the request and of its grants, from two indexes.
    own_grants = list(request.grants.values_list("pk", flat=True))
    history = Event.objects.filter(Q(request=request) | Q(grant__in=own_grants)).exclude(
        kind__startswith="message."
    )
    events = _newest_rows(history.select_related("link").prefetch_related("texts"))
    # What was accepted with the request, and texts that holders had to accept later.
    later = Q(request=None, user=request.applicant_id, licence__model=request.model_id)
    accepted = LicenceAcceptance.objects.filter(Q(request=request) | later).select_related(
        "licence", "binding"
    )
    return {
        "asked": request,
        "person": person,
        "confirmed": EmailAddress.objects.filter(
            user=person, email__iexact=person.email, verified=True
        ).exists(),
        # The answers and the number that a decision sends come from one row, so they are of the same submission.
        "answers": versions[0].answers if versions else answers_of(request.form, request.answers, ""),
        "submission": versions[0].submission.number if versions else 0,
        "versions": versions,
        "thread": thread_of(request, notes=may_read_notes(request, reviewer)),
        "may_write": may_write,
        "templates": request.model.message_templates.all(),
        "votes": request.votes.filter(ended_at__isnull=True).select_related("reviewer"),
        "acceptances": accepted.defer("licence__text", "binding__text").order_by("pk"),
        "decisions": decisions[-MOST_STEPS:],
        "other_requests": _rows_of_person(AccessRequest, person, mine, "applicant")
        .exclude(pk=request.pk)
        .exclude(family=request.family, family__isnull=False)
        .filter(first_submitted_at__isnull=False)[:MANY],
        "grants": _rows_of_person(Grant, person, mine, "user")[:MANY],
        "events": events[-MOST_STEPS:],
        "older_steps": max(len(decisions), len(events)) > MOST_STEPS,
        "waiting": request.state in WAITING_STATES,
        "together": _together(request, reviewer),
        "why_not": why_not(request, reviewer),
        **ways_back(request),
    }


def _together(request: AccessRequest, reviewer: Any) -> list[dict[str, Any]]:
    """Return the requests that were made with the same form for models that this reviewer may see.

    `submission` is the number of what the page links to, and `decidable` whether the reviewer can decide it now.
    """
    seen = models_with_role(reviewer)
    return [
        {
            "request": other,
            "submission": newest_number(other),
            "decidable": other.state in WAITING_STATES and not why_not(other, reviewer),
        }
        for other in requests_with(request)
        if seen.filter(pk=other.model_id).exists()
    ]


def _newest_rows(rows: QuerySet[Any]) -> list[Any]:
    """Return the newest rows of a request that may have very many, oldest first, and one more than is shown."""
    return list(rows.order_by("-pk")[: MOST_STEPS + 1])[::-1]


def ways_back(request: AccessRequest) -> dict[str, Any]:
    """Return what a reviewer can undo here: only the request that determines the person's place in the lists."""
    case = review_entry(request.applicant, request.model)
    if case.request != request or request.state in WAITING_STATES or not request.model.is_gated:
        return {"may_reopen": False, "may_reset": False}
    asks_for_changes = request.state == RequestState.CHANGES_REQUESTED
    return {
        "may_reopen": not request.is_open,
        "may_reset": asks_for_changes or case.place in {Place.ACCEPTED, Place.REJECTED},
        "has_access": case.place == Place.ACCEPTED,
        "seen": case.decision or 0,
    }


def _rows_of_person(
    rows: type[AccessRequest] | type[Grant], person: Any, models: QuerySet[Any], name: str
) -> QuerySet[Any]:
    """Return the person's rows for the models that this reviewer may see."""
    return (
        rows.objects.filter(**{name: person, "model__in": models})
        .select_related("model")
        .defer("model__card")
        .order_by("-pk")
    )


def why_not(request: AccessRequest, reviewer: Any) -> str:
    """Return the sentence on why this reviewer cannot decide; "" if they can."""
    try:
        check_may_decide(request=request, reviewer=reviewer)
    except RuleError as error:
        return error.sentence
    return ""
