"""Decide about requests: handle, grant, batch.

`access_requests.services.requests.move_between_lists` explains what the decisions mean.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from django.contrib.auth import get_user_model
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from access_requests.access.review_lists import person_of, review_entry
from access_requests.enums import Place
from access_requests.errors import NotAllowed, NotFound, RuleError
from access_requests.models import GatedModel
from access_requests.services.requests.decide import AlreadyVoted
from access_requests.services.requests.move_between_lists import change_place, grant_to
from model_ops.hub.body import is_text, json_object, wanted
from model_ops.hub.refusals import Refused
from model_ops.hub.requests import words
from model_ops.hub.requests.words import bad_field, no_right, not_found, require_gate, reviewed
from model_ops.hub.route import hub_route, json_answer

if TYPE_CHECKING:
    from portal.accounts.models import User

NAMERS = ("user", "userId", "requestId")
LONGEST_NAME = 200
LONGEST_REASON = 200  # as on the Hub; the admin accepts more
MOST_AT_ONCE = 100
REASONS = {Place.REJECTED: "rejectionReason", Place.RESET: "resetReason"}


@hub_route("POST")
def handle(request: HttpRequest, repo_id: str) -> HttpResponseBase:
    """`POST .../user-access-request/handle`: moves one person to another list."""
    repo, reviewer = reviewed(request, repo_id)
    body = json_object(request)
    namer, to, reason = _read_namer(body), _read_place(body), _read_reason(body)
    require_gate(repo.model)
    person = _find_person(repo.model, *namer)
    seen = review_entry(person, repo.model)
    try:
        change_place(model=repo.model, person=person, to=to, reviewer=reviewer, words=reason, seen=seen)
    except RuleError as error:
        raise _as_refusal(error, to) from error
    return json_answer({})


@hub_route("POST")
def grant(request: HttpRequest, repo_id: str) -> HttpResponseBase:
    """`POST .../user-access-request/grant`: gives access, with or without a request."""
    repo, reviewer = reviewed(request, repo_id)
    namer = _read_namer(json_object(request), ("user", "userId"))
    require_gate(repo.model)
    person = _find_person(repo.model, *namer)
    try:
        grant_to(model=repo.model, person=person, reviewer=reviewer)
    except RuleError as error:
        if error.field == "user":
            sentence = f"{words.HAS_ACCESS}. {error.sentence}"
            raise Refused(HTTPStatus.BAD_REQUEST, "", sentence) from error
        raise _as_refusal(error, Place.ACCEPTED) from error
    return json_answer({})


@hub_route("POST")
def batch(request: HttpRequest, repo_id: str) -> HttpResponseBase:
    """`POST .../user-access-request/batch`: sets one status for up to 100 people, with a result for each."""
    repo, reviewer = reviewed(request, repo_id)
    body = json_object(request)
    to, reason, requests = _read_place(body), _read_reason(body), body.get("requests")
    if not isinstance(requests, list) or not 1 <= len(requests) <= MOST_AT_ONCE:
        raise bad_field("requests", f"must be a list of 1 to {MOST_AT_ONCE} people.")
    namers = [_read_namer(item) for item in requests]
    require_gate(repo.model)
    model, answers = repo.model, []
    for namer, value in namers:
        told: dict[str, Any] = {namer: value, "ok": True}
        try:
            person = _find_person(model, namer, value)
            seen = review_entry(person, model)
            if seen.place != to:  # the same status is not an error here, as on the Hub
                change_place(model=model, person=person, to=to, reviewer=reviewer, words=reason, seen=seen)
        except Refused as refused:
            code = "user_not_found" if namer != "requestId" else "request_not_found"
            told |= {"ok": False, "error": code, "message": refused.message}
        except AlreadyVoted:
            pass  # the same status, as far as this person can give it
        except RuleError as error:
            code = "request_not_found" if isinstance(error, NotFound) else error.code
            told |= {"ok": False, "error": code, "message": error.sentence}
        answers.append(told)
    return json_answer(answers)


def _as_refusal(error: RuleError, to: Place) -> Refused:
    """Return the refusal of a rule: the Hub's message, then the rule's sentence."""
    if isinstance(error, NotFound | AlreadyVoted):
        return not_found(words.NO_REQUEST, error.sentence)
    if isinstance(error, NotAllowed):
        return no_right(error.sentence)
    if error.field == "words":
        return bad_field(REASONS.get(to, "status"), error.sentence)
    return Refused(error.status, "", error.sentence)


def _read_place(body: dict[str, Any]) -> Place:
    status = body.get("status")
    if not isinstance(status, str) or status not in Place.values:
        raise bad_field("status", f"must be one of {', '.join(Place.values)}.")
    return Place(status)


def _read_reason(body: dict[str, Any]) -> str:
    """Return the reason for this status; check both reasons, so that an invalid one is always reported."""
    reasons = {}
    for place, name in REASONS.items():
        value = body.get(name)
        if value is not None and not is_text(value, longest=LONGEST_REASON):
            raise bad_field(name, wanted(LONGEST_REASON))
        reasons[place] = value or ""
    if _read_place(body) == Place.REJECTED and not reasons[Place.REJECTED].strip():
        raise bad_field(REASONS[Place.REJECTED], "write a message to the applicant: say why.")
    return reasons.get(_read_place(body), "")


def _read_namer(body: Any, names: tuple[str, ...] = NAMERS) -> tuple[str, str]:
    """Return the field that names the person and its value; exactly one of the fields must be given."""
    given = [name for name in names if isinstance(body, dict) and body.get(name) is not None]
    if len(given) != 1:
        raise bad_field(" or ".join(names), "exactly one of them must be given.")
    value = body[given[0]]
    if not value or not is_text(value, longest=LONGEST_NAME):
        raise bad_field(given[0], wanted(LONGEST_NAME))
    return given[0], value


def _find_person(model: GatedModel, namer: str, value: str) -> User:
    people = get_user_model().objects
    found: User | None
    if namer == "requestId":
        found = person_of(model, value)
    elif namer == "userId":
        is_number = value.isascii() and value.isdigit() and len(value) < 19
        found = people.filter(pk=int(value)).first() if is_number else None
    else:
        found = people.filter(username__iexact=value).first()
    if found is None and namer == "requestId":
        raise not_found(words.NO_REQUEST, f"No entry of {model.repo_id} has that requestId now.")
    if found is None:
        raise not_found(words.NO_USER, "There is no account of that name here.")
    return found
