"""Decide requests, by a reviewer or the model's policy: check, write, and inform the applicant."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.utils.translation import gettext as _

from access_requests.access.permissions import is_reviewer, reviewers_of
from access_requests.enums import WAITING_STATES, GrantSource, Outcome, ReasonCode, RequestState
from access_requests.errors import Conflict, Invalid, NotAllowed
from access_requests.models import AccessRequest, Decision, Grant, Submission, Vote
from access_requests.services.emails.write import queue_mail
from access_requests.services.event_log.append import append_event, recorded
from access_requests.services.grants import grant_for_request
from access_requests.services.locks import lock_request
from access_requests.services.requests.submissions import NewerSubmission, newest_submission
from access_requests.services.requests.transitions import move, what_happened
from access_requests.storable_text import drop_unstorable

if TYPE_CHECKING:
    from portal.accounts.models import User

MOST_WORDS = 10_000  # characters in the message of a decision or an appeal
# Outcome of a decision -> new state of the request.
STATE_AFTER = {
    Outcome.APPROVED: RequestState.APPROVED,
    Outcome.REJECTED: RequestState.REJECTED,
    Outcome.CHANGES_REQUESTED: RequestState.CHANGES_REQUESTED,
    Outcome.RESET: RequestState.RESET,
}


class AlreadyVoted(Conflict):
    """This person's approval counts already; another person's is missing."""


def open_if_new(request: AccessRequest, reviewer: User) -> None:
    """Move a locked request that was only submitted to "in review"; an appeal stays one until it is decided."""
    if request.state == RequestState.SUBMITTED:
        move(request, RequestState.IN_REVIEW, who="reviewer", actor=reviewer)


def record_decision(
    *,
    request: AccessRequest,
    reviewer: User,
    outcome: str,
    reason_code: str = "",
    words: str = "",
    seen: int | None = None,
) -> Decision | Vote:
    """Decide a waiting request: write the decision, its grant, its email and its event, all or nothing.

    Where the model needs two approvals, the first one is returned as a vote, and the request waits for another person.
    `seen` is the number of the submission that the reviewer read, 0 if there was none: if there is a newer one, this
    raises `NewerSubmission`. If two reviewers decide at the same time, one wins; the other gets `Conflict` with who
    decided and when.
    """
    if outcome not in STATE_AFTER:
        raise Invalid(
            _("Choose to approve, to reject, to ask for changes or to close without decision."),
            field="outcome",
        )
    if reason_code not in ReasonCode.values:
        raise Invalid(_("Choose a reason from the list."), field="reason_code")
    if outcome == Outcome.REJECTED and not reason_code:
        raise Invalid(_("Choose a reason for the rejection. The applicant will see it."), field="reason_code")
    words = check_words(words, outcome)
    with recorded():
        locked = lock_request(request)
        check_may_decide(request=locked, reviewer=reviewer)
        if locked.state not in WAITING_STATES:
            raise Conflict(what_happened(locked))
        _check_was_read(locked, seen)
        if outcome == Outcome.CHANGES_REQUESTED and locked.applicant.imported:
            raise Conflict(
                _(
                    "The person asked at a followed repository, which does not support requests for changes, "
                    "and cannot answer here: write to them, then approve, reject or close the request."
                )
            )
        open_if_new(locked, reviewer)
        if outcome == Outcome.APPROVED:
            return approve(locked, reviewer, reason_code=reason_code, words=words)
        return decide(locked, reviewer, Outcome(outcome), reason_code, words)


def _check_was_read(request: AccessRequest, seen: int | None) -> None:
    """Raise `NewerSubmission` if a reviewer read another submission of this locked request than the newest one.

    None means that the caller decides about the newest one, whatever it is.
    """
    newest = newest_submission(request)
    if seen is None or newest is None or newest.number == seen:
        return
    read = request.submissions.select_related("event", "form").filter(number=seen).first()
    sentence = _(
        "%(person)s has changed the request since you opened this page, so nothing was decided. Read what is different, "
        "then decide again."
    )
    raise NewerSubmission(sentence % {"person": request.full_name}, read=read, newest=newest)


def approve(
    request: AccessRequest, reviewer: User, *, reason_code: str = "", words: str = ""
) -> Decision | Vote:
    """Approve a locked request, or add a vote if the model needs another person's approval as well.

    A closed request is reopened by a vote that is not the last. The messages of all votes reach the applicant with the
    decision. Raises `AlreadyVoted` if this person's vote counts already.
    """
    if request.model.approvals < 2:
        return decide(request, reviewer, Outcome.APPROVED, reason_code, words)
    counting = request.votes.filter(ended_at__isnull=True)
    if counting.filter(reviewer=reviewer).exists():
        raise AlreadyVoted(
            _("You have already approved request #%(number)d. Another reviewer must approve it as well.")
            % {"number": request.pk}
        )
    if not request.is_open:
        reopen(request, reviewer)
    vote = Vote.objects.create(
        request=request, submission=newest_submission(request), reviewer=reviewer, words=words
    )
    valid = counting.filter(
        reviewer__in=reviewers_of(request.model)
    )  # not of people who lost their role since
    number = valid.count()
    append_event(
        kind="request.voted",
        actor=reviewer,
        model=request.model,
        request=request,
        data={
            "vote": number,
            "of": request.model.approvals,
            "submission": vote.submission.number if vote.submission else 0,
            "words": words,
        },
    )
    if number < request.model.approvals:
        return vote
    said = "\n\n".join(text for text in valid.values_list("words", flat=True) if text)
    return decide(request, reviewer, Outcome.APPROVED, reason_code, said)


def check_words(words: str, outcome: str) -> str:
    """Return a decision's message as it is stored. Raises `Invalid` if one against the applicant has none."""
    needed = outcome in {Outcome.REJECTED, Outcome.CHANGES_REQUESTED}
    return cleaned_words(
        words,
        _("Write a message to the applicant: say what is missing, or why you reject the request.")
        if needed
        else "",
    )


def check_may_decide(*, request: AccessRequest, reviewer: User) -> None:
    """Raise `NotAllowed` with the reason if this person cannot decide this request."""
    if not is_reviewer(reviewer, request.model):
        raise NotAllowed(_("You are not a reviewer of %(model)s: ask its owner.") % {"model": request.model})
    if reviewer.pk == request.applicant_id:
        raise NotAllowed(_("You cannot decide your own request: another reviewer must."))
    if not _may_hear_appeal(request, reviewer):
        raise NotAllowed(_("You made the first decision: another reviewer must decide the appeal."))


def _may_hear_appeal(request: AccessRequest, reviewer: User) -> bool:
    """Return whether the person may decide the appeal; the rejecting reviewer may only if there is no other."""
    if not _is_on_appeal(request) or not _has_rejected_before(request, reviewer):
        return True
    return not reviewers_of(request.model).exclude(pk__in=[reviewer.pk, request.applicant_id]).exists()


def _is_on_appeal(request: AccessRequest) -> bool:
    """Return whether the request was appealed and has not been decided since."""
    return request.appealed_at is not None and request.is_open


def _has_rejected_before(request: AccessRequest, reviewer: User | None) -> bool:
    """Return whether this person made the appealed rejection, which is the latest one."""
    rejections = request.decisions.filter(outcome=Outcome.REJECTED, on_appeal=False)
    last = rejections.order_by("-pk").first()
    return last is not None and reviewer is not None and last.reviewer_id == reviewer.pk


def reopen(request: AccessRequest, reviewer: User, *, words: str = "") -> None:
    """Move a locked, closed request to "in review", in its old place in the queue.

    A person can have only one open request for a model, so a draft of theirs is withdrawn; its answers are kept.
    """
    drafts = request.model.requests.filter(applicant=request.applicant, state=RequestState.DRAFT)
    if draft := drafts.first():
        data = {"reopened": request.pk}
        move(lock_request(draft), RequestState.WITHDRAWN, who="reviewer", actor=reviewer, data=data)
    move(request, RequestState.IN_REVIEW, who="reviewer", actor=reviewer, data={"words": words})


def decide(
    request: AccessRequest,
    reviewer: User | None,
    outcome: Outcome,
    reason_code: str,
    words: str,
    *,
    ended: Grant | None = None,
) -> Decision:
    """Move a locked request and write decision, grant and email; `ended` is a grant that ends with it."""
    submission = newest_submission(request)
    data: dict[str, Any] = {
        "reason": reason_code,
        "words": words,
        "submission": submission.number if submission else 0,
    }
    if _is_on_appeal(request) and _has_rejected_before(request, reviewer):
        data["heard_own_appeal"] = True  # there was no other reviewer
    who = "reviewer" if reviewer else "policy"
    move(request, STATE_AFTER[outcome], who=who, actor=reviewer, data=data)
    decision = write_decision(request, reviewer, outcome, reason_code, words, submission=submission)
    grant = None
    if outcome == Outcome.APPROVED:
        source = GrantSource.REVIEW if reviewer else GrantSource.POLICY
        grant = grant_for_request(request=request, source=source, actor=reviewer)
    tell_decision(decision, template=f"mails/{outcome.value}.txt", grant=grant, ended=ended)
    return decision


def write_decision(
    request: AccessRequest,
    reviewer: User | None,
    outcome: Outcome,
    reason_code: str,
    words: str,
    *,
    submission: Submission | None,
) -> Decision:
    """Write the decision's row, marked as an appeal's if the request was appealed; it is about this submission."""
    return Decision.objects.create(
        request=request,
        reviewer=reviewer,
        outcome=outcome,
        reason_code=reason_code,
        words=words,
        submission=submission,
        on_appeal=request.appealed_at is not None,
    )


def tell_decision(decision: Decision, *, template: str, **context: Any) -> None:
    """Email the applicant, once for each decision."""
    request = decision.request
    queue_mail(
        key=f"decision:{decision.pk}",
        to=request.applicant.email,
        template=template,
        context={
            "person": request.applicant,
            "request": request,
            "model": request.model,
            "decision": decision,
            **context,
        },
    )


def cleaned_words(words: str, sentence: str) -> str:
    """Return what a person wrote as it is stored.

    Raises `Invalid`: for empty text only if there is a `sentence`.
    """
    words = drop_unstorable(words).strip()
    if sentence and not words:
        raise Invalid(sentence, field="words")
    if len(words) > MOST_WORDS:
        raise Invalid(_("Write at most %(most)s characters.") % {"most": f"{MOST_WORDS:,}"}, field="words")
    return words
