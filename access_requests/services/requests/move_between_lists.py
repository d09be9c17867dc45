"""Decisions by the Hub's four lists: wherever a person stands with a model, a reviewer puts them elsewhere.

The admin's decisions about a waiting request are in `services.requests`; what is added here takes a decision back,
and works for people who have access without ever having asked. Moves, mails and events are the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from access_requests.access.permissions import is_owner, is_reviewer
from access_requests.access.review_lists import ReviewEntry, review_entry
from access_requests.enums import Outcome, Place, ReasonCode, RequestState
from access_requests.errors import Conflict, Invalid, NotAllowed, NotFound
from access_requests.models import AccessRequest, GatedModel, Grant
from access_requests.services.event_log.append import append_event, recorded
from access_requests.services.grants import end_access, give_access, revoke_access
from access_requests.services.locks import lock_person, lock_request
from access_requests.services.requests.decide import (
    check_may_decide,
    check_words,
    decide,
    open_if_new,
    tell_decision,
    write_decision,
)
from access_requests.services.requests.transitions import move, what_happened

if TYPE_CHECKING:
    from portal.accounts.models import User


class NotGated(Invalid):
    """There is nothing to decide: anybody may read this model."""

    code = "RepoNotGated"


@dataclass(frozen=True)
class Change:
    """One person to be put elsewhere; `request` is locked."""

    model: GatedModel
    person: User
    reviewer: User
    words: str
    entry: ReviewEntry
    request: AccessRequest | None


def change_place(
    *,
    model: GatedModel,
    person: User,
    to: Place,
    reviewer: User,
    words: str = "",
    seen: ReviewEntry | None = None,
) -> ReviewEntry:
    """Accepts, rejects, reopens (`PENDING`) or resets, from any of the four lists; returns where the person stands then.

    `seen` is what the reviewer decided on: when somebody else decided since, this raises `Conflict`, so that of two
    reviewers at once one wins. `NotFound` when the person is in no list, or in this one already.
    """
    _check_gated(model)
    _check_reviewer(model, person, reviewer)
    words = _words(to, words)
    with recorded():
        lock_person(person.pk)
        entry = review_entry(person, model)
        if entry.place is None:
            raise NotFound(f"{person.username} has not asked for {model} and has no access.")
        if entry.place == to:
            raise NotFound(f"{person.username} is {to} for {model} already.{_who_decided(entry)}")
        if seen is not None and entry != seen:
            raise Conflict(
                _who_decided(entry).strip()
                or f"{person.username} is {entry.place} for {model} now: look again."
            )
        CHANGES[to](_change(model, person, reviewer, words, entry))
        return review_entry(person, model)


def grant_to(*, model: GatedModel, person: User, reviewer: User) -> ReviewEntry:
    """Gives access: by approving what the person asked for, or without a request. An owner may give it to themselves."""
    _check_gated(model)
    if reviewer.pk != person.pk or not is_owner(reviewer, model):
        _check_reviewer(model, person, reviewer)
    with recorded():
        lock_person(person.pk)
        entry = review_entry(person, model)
        if entry.place == Place.ACCEPTED and entry.grant is not None:
            raise Invalid(
                f"{person.username} may read {model} until {entry.grant.ends_at:%Y-%m-%d}.", field="user"
            )
        _accept(_change(model, person, reviewer, "", entry))
        return review_entry(person, model)


def _check_gated(model: GatedModel) -> None:
    if not model.is_gated:
        raise NotGated(f"{model} is not gated, so there is nothing to decide: anybody may read it.")


def _words(to: Place, words: str) -> str:
    """Words go with a rejection, which needs them, a reset and a reopening; an approval says nothing."""
    if to == Place.ACCEPTED:
        return ""
    return check_words(words, Outcome.REJECTED if to == Place.REJECTED else Outcome.RESET)


def _who_decided(entry: ReviewEntry) -> str:
    return f" {what_happened(entry.request)}" if entry.request and entry.decision else ""


def _check_reviewer(model: GatedModel, person: User, reviewer: User) -> None:
    if not is_reviewer(reviewer, model):
        raise NotAllowed(f"You are not a reviewer of {model}: ask its owner.")
    if reviewer.pk == person.pk:
        raise NotAllowed("Nobody decides about their own request or access: another reviewer must.")


def _change(model: GatedModel, person: User, reviewer: User, words: str, entry: ReviewEntry) -> Change:
    request = lock_request(entry.request) if entry.request else None
    if request is not None:
        check_may_decide(request=request, reviewer=reviewer)
    return Change(model, person, reviewer, words, entry, request)


def _accept(change: Change) -> None:
    if change.request is None:
        give_access(model=change.model, user=change.person, actor=change.reviewer)
        return
    open_if_new(change.request, change.reviewer)
    decide(change.request, change.reviewer, Outcome.APPROVED, "", "")


def _reject(change: Change) -> None:
    request = change.request or _request_of_grant(change)
    ended = _end_access(change)
    open_if_new(request, change.reviewer)
    decide(request, change.reviewer, Outcome.REJECTED, ReasonCode.OTHER, change.words, ended=ended)


def _reset(change: Change) -> None:
    """Access is revoked; a request is closed so that the person may ask again."""
    if change.entry.place == Place.ACCEPTED:
        revoke_access(model=change.model, user=change.person, reason=change.words, actor=change.reviewer)
    request = change.request
    if request is None or (change.entry.place == Place.ACCEPTED and not request.is_open):
        return
    open_if_new(request, change.reviewer)
    decide(request, change.reviewer, Outcome.RESET, "", change.words)


def _reopen(change: Change) -> None:
    """Back to the queue, in the old place: the reviewer has looked at it, so it is in review."""
    request = change.request or _request_of_grant(change)
    ended = _end_access(change)
    if not request.is_open:
        _set_draft_aside(change, request)
        data = {"words": change.words}
        move(request, RequestState.IN_REVIEW, who="reviewer", actor=change.reviewer, data=data)
    decision = write_decision(request, change.reviewer, Outcome.REOPENED, "", change.words)
    tell_decision(decision, template="mails/reopened.txt", ended=ended)


CHANGES: dict[Place, Callable[[Change], None]] = {
    Place.ACCEPTED: _accept,
    Place.REJECTED: _reject,
    Place.PENDING: _reopen,
    Place.RESET: _reset,
}


def _end_access(change: Change) -> Grant | None:
    """Revokes without a mail of its own: the decision's mail says it."""
    return end_access(model=change.model, user=change.person, reason=change.words, actor=change.reviewer)


def _set_draft_aside(change: Change, reopened: AccessRequest) -> None:
    """A person has one open request; a draft, which nobody waits for, gives way. What was written is kept."""
    draft = change.model.requests.filter(applicant=change.person, state=RequestState.DRAFT).first()
    if draft is not None:
        data = {"reopened": reopened.pk}
        move(lock_request(draft), RequestState.WITHDRAWN, who="reviewer", actor=change.reviewer, data=data)


def _request_of_grant(change: Change) -> AccessRequest:
    """Stands for access that was given without a request, so that it can be decided about; it has no answers."""
    grant, person = change.entry.grant, change.person
    if grant is None or change.model.form is None:
        raise Conflict(f"{change.model} has no form, so no request of {person.username} can be opened.")
    request = AccessRequest.objects.create(
        model=change.model,
        applicant=person,
        form=change.model.form,
        state=RequestState.APPROVED,
        submitted_at=grant.starts_at,
        first_submitted_at=grant.starts_at,
        closed_at=grant.starts_at,
        first_name=person.first_name,
        last_name=person.last_name,
        institution=person.institution,
        country=person.country,
    )
    Grant.objects.filter(pk=grant.pk).update(request=request)
    append_event(
        kind="request.started",
        actor=change.reviewer,
        model=change.model,
        request=request,
        grant=grant,
        data={"for_grant": grant.pk},
    )
    return request
