"""Decide in terms of the Hub's four lists: a reviewer moves a person from any list to another.

Decisions about a waiting request are in `services.requests.decide`. The services here also reverse decisions,
and work for people who have access without ever having asked. Moves, emails and events are the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.utils import timezone
from django.utils.translation import gettext as _

from access_requests.access.permissions import is_owner, is_reviewer
from access_requests.access.review_lists import ReviewEntry, review_entry
from access_requests.enums import Outcome, Place, ReasonCode, RequestState
from access_requests.errors import Conflict, Invalid, NotAllowed, NotFound
from access_requests.models import AccessRequest, GatedModel, Grant
from access_requests.services.event_log.append import append_event, recorded
from access_requests.services.grants import end_access, give_access, revoke_access
from access_requests.services.locks import lock_person, lock_request
from access_requests.services.requests.decide import (
    approve,
    check_may_decide,
    check_words,
    decide,
    open_if_new,
    reopen,
    tell_decision,
    write_decision,
)
from access_requests.services.requests.submissions import newest_submission
from access_requests.services.requests.transitions import end_votes, what_happened

if TYPE_CHECKING:
    from portal.accounts.models import User


class NotGated(Invalid):
    """There is nothing to decide: anyone may read this model."""

    code = "RepoNotGated"


@dataclass(frozen=True)
class Change:
    """One person to move between lists; `request` is locked."""

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
    """Accept, reject, reopen (`PENDING`) or reset a person in any list; return where they are after that.

    Where the model needs two approvals, the first leaves the person pending. `seen` is what the reviewer saw: if
    someone has decided since, or the answers have changed, this raises `Conflict`, so that only one of two
    simultaneous reviewers wins. Raises `NotFound` if the person is in no list, or already in this one.
    """
    _check_gated(model)
    _check_reviewer(model, person, reviewer)
    # A rejection needs a message, an approval has none.
    outcome = Outcome.REJECTED if to == Place.REJECTED else Outcome.RESET
    words = "" if to == Place.ACCEPTED else check_words(words, outcome)
    with recorded():
        lock_person(person.pk)
        entry = review_entry(person, model)
        about = {"person": person.username, "model": model, "place": entry.place}
        if entry.place is None:
            raise NotFound(_("%(person)s has not asked for %(model)s and has no access.") % about)
        if entry.place == to:
            raise NotFound(_("%(person)s is %(place)s for %(model)s already.") % about + _who_decided(entry))
        if seen is not None and entry != seen:
            raise Conflict(
                _who_decided(entry).strip()
                or _("%(person)s is %(place)s for %(model)s now: look again.") % about
            )
        CHANGES[to](_lock_change(model, person, reviewer, words, entry))
        return review_entry(person, model)


def grant_to(*, model: GatedModel, person: User, reviewer: User) -> ReviewEntry:
    """Approve the person's request. Without one, only owners may give access, even to themselves.

    Where the model needs two approvals, this approves as one of two.
    """
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
        _accept_person(_lock_change(model, person, reviewer, "", entry))
        return review_entry(person, model)


def _check_gated(model: GatedModel) -> None:
    if not model.is_gated:
        raise NotGated(
            _("%(model)s is not gated, so there is nothing to decide: anyone may read it.") % {"model": model}
        )


def _who_decided(entry: ReviewEntry) -> str:
    return f" {what_happened(entry.request)}" if entry.request and entry.decision else ""


def _check_reviewer(model: GatedModel, person: User, reviewer: User) -> None:
    if not is_reviewer(reviewer, model):
        raise NotAllowed(_("You are not a reviewer of %(model)s: ask its owner.") % {"model": model})
    if reviewer.pk == person.pk:
        raise NotAllowed(_("You cannot decide about your own request or access: another reviewer must."))


def _lock_change(model: GatedModel, person: User, reviewer: User, words: str, entry: ReviewEntry) -> Change:
    request = lock_request(entry.request) if entry.request else None
    if request is not None:
        check_may_decide(request=request, reviewer=reviewer)
    return Change(model, person, reviewer, words, entry, request)


def _accept_person(change: Change) -> None:
    if change.request is None:
        if not is_owner(change.reviewer, change.model):
            raise NotAllowed(
                _(
                    "%(person)s has not asked for %(model)s. Only an owner of the model can give access without a request."
                )
                % {"person": change.person.username, "model": change.model}
            )
        grant = give_access(model=change.model, user=change.person, actor=change.reviewer)
        append_event(
            kind="grant.without_request",
            actor=change.reviewer,
            model=change.model,
            grant=grant,
            data={"person": change.person.username},
        )
        return
    open_if_new(change.request, change.reviewer)
    approve(change.request, change.reviewer)


def _reject_person(change: Change) -> None:
    request = change.request or _create_request_of_grant(change)
    ended = _end_access(change)
    open_if_new(request, change.reviewer)
    decide(request, change.reviewer, Outcome.REJECTED, ReasonCode.OTHER, change.words, ended=ended)


def _reset_person(change: Change) -> None:
    """Revoke access and close the request, so that the person can ask again."""
    if change.entry.place == Place.ACCEPTED:
        revoke_access(model=change.model, user=change.person, reason=change.words, actor=change.reviewer)
    request = change.request
    if request is None or (change.entry.place == Place.ACCEPTED and not request.is_open):
        return
    open_if_new(request, change.reviewer)
    decide(request, change.reviewer, Outcome.RESET, "", change.words)


def _reopen_request(change: Change) -> None:
    """Put the request back in its old place in the queue, as "in review", since a reviewer has looked at it."""
    request = change.request or _create_request_of_grant(change)
    ended = _end_access(change)
    if request.is_open:  # asked again although there was access
        end_votes(request, timezone.now())
    else:
        reopen(request, change.reviewer, words=change.words)
    newest = newest_submission(request)
    decision = write_decision(request, change.reviewer, Outcome.REOPENED, "", change.words, submission=newest)
    tell_decision(decision, template="mails/reopened.txt", ended=ended)


CHANGES: dict[Place, Callable[[Change], None]] = {
    Place.ACCEPTED: _accept_person,
    Place.REJECTED: _reject_person,
    Place.PENDING: _reopen_request,
    Place.RESET: _reset_person,
}


def _end_access(change: Change) -> Grant | None:
    """Revoke access without a separate email, since the decision's email says it."""
    return end_access(model=change.model, user=change.person, reason=change.words, actor=change.reviewer)


def _create_request_of_grant(change: Change) -> AccessRequest:
    """Create a request without answers for access given without one, so that it can be decided."""
    grant, person = change.entry.grant, change.person
    if grant is None or change.model.form is None:
        raise Conflict(
            _("%(model)s has no form, so no request of %(person)s can be opened.")
            % {"model": change.model, "person": person.username}
        )
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
