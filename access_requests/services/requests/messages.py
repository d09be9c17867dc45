"""Write about a request: notes for reviewers, and messages between reviewers and the applicant."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.utils.translation import gettext as _

from access_requests.access.permissions import has_role, is_reviewer, people_to_tell
from access_requests.enums import MessageKind
from access_requests.errors import Conflict, NotAllowed
from access_requests.models import AccessRequest, Message
from access_requests.services.emails.write import queue_mail
from access_requests.services.event_log.append import append_event, recorded
from access_requests.services.event_log.verify import WRITING
from access_requests.services.locks import lock_request
from access_requests.services.requests.decide import cleaned_words

if TYPE_CHECKING:
    from collections.abc import Iterable

    from portal.accounts.models import User

MOST_UNANSWERED = 10  # messages of an applicant that no reviewer has answered
MOST_SHOWN = 200  # messages of a request on a page


def add_note(*, request: AccessRequest, reviewer: User, words: str) -> Message:
    """Write a note that only owners and reviewers of the model read; the applicant never does.

    Raises `NotAllowed` for someone who may not write about this request, and `Invalid` without words.
    """
    words = cleaned_words(words, _("Write the note first."))
    with recorded():
        locked = _lock_for_reviewer(request, reviewer)
        return _write(locked, MessageKind.NOTE, reviewer, words)


def send_message(*, request: AccessRequest, reviewer: User, words: str) -> Message:
    """Write to the applicant, who gets it by email and can answer on the model's page; the state stays.

    Raises `NotAllowed` for someone who may not write about this request, `Invalid` without words, and `Conflict` if the
    applicant has no account here.
    """
    words = cleaned_words(words, _("Write the message first."))
    with recorded():
        locked = _lock_for_reviewer(request, reviewer)
        if locked.applicant.imported:
            raise Conflict(
                _("The person asked at a followed repository and has no account here: write to them there.")
            )
        message = _write(locked, MessageKind.SENT, reviewer, words)
        _email(message, [locked.applicant], template="mails/message.txt")
    return message


def write_to_reviewers(*, request: AccessRequest, applicant: User, words: str) -> Message:
    """Write to the reviewers, as the applicant; the assignee gets it by email, or else everyone who decides.

    Raises `NotAllowed` for others, and `Conflict` if the request is closed and no reviewer has written about it, or
    after `MOST_UNANSWERED` messages without an answer.
    """
    words = cleaned_words(words, _("Write the message first."))
    with recorded():
        if request.applicant_id != applicant.pk:
            raise NotAllowed(_("This request belongs to someone else."))
        locked = lock_request(request)
        if not may_write_to_reviewers(locked):
            raise Conflict(_("Request #%(number)d is closed. You can ask again.") % {"number": locked.pk})
        newest = locked.messages.exclude(kind=MessageKind.NOTE).order_by("-pk").values_list("kind", flat=True)
        kinds = list(newest[:MOST_UNANSWERED])
        if len(kinds) == MOST_UNANSWERED and MessageKind.SENT not in kinds:
            raise Conflict(
                _("You have written %(count)d messages without an answer: wait until a reviewer answers.")
                % {"count": MOST_UNANSWERED}
            )
        message = _write(locked, MessageKind.ANSWER, applicant, words)
        _email(message, _readers(locked), template="mails/message_from_applicant.txt")
    return message


def may_write_to_reviewers(request: AccessRequest) -> bool:
    """Return whether the applicant can write: while a submitted request is open, or once a reviewer has written."""
    if request.submitted_at is None:
        return False
    return request.is_open or request.messages.filter(kind=MessageKind.SENT).exists()


def thread_of(request: AccessRequest, *, notes: bool) -> list[Message]:
    """Return the newest messages, oldest first, with everything that shows them; `notes` is for reviewers only."""
    rows = request.messages.select_related("author", "event__link").prefetch_related("event__texts")
    if not notes:
        rows = rows.exclude(kind=MessageKind.NOTE)
    return list(rows.order_by("-pk")[:MOST_SHOWN])[::-1]


def may_read_notes(request: AccessRequest, reader: User) -> bool:
    """Return whether the person may read notes about this request: everyone with a role, but not about their own."""
    return reader.pk != request.applicant_id and has_role(reader, request.model)


def may_write_notes(request: AccessRequest, reviewer: User) -> bool:
    """Return whether the person may write notes and messages about this request: those who decide, but not their own."""
    return reviewer.pk != request.applicant_id and is_reviewer(reviewer, request.model)


def _lock_for_reviewer(request: AccessRequest, reviewer: User) -> AccessRequest:
    locked = lock_request(request)
    if not is_reviewer(reviewer, locked.model):
        raise NotAllowed(_("You are not a reviewer of %(model)s: ask its owner.") % {"model": locked.model})
    if reviewer.pk == locked.applicant_id:
        raise NotAllowed(_("This is your own request: write to the reviewers on the model's page."))
    if locked.submitted_at is None:
        raise Conflict(_("The request is a draft that nobody has submitted."))
    return locked


def _write(request: AccessRequest, kind: MessageKind, author: User, words: str) -> Message:
    """Append the event that holds the words, and store its row."""
    event = append_event(
        kind=WRITING[kind], actor=author, model=request.model, request=request, data={"words": words}
    )
    return Message.objects.create(request=request, kind=kind, author=author, event=event, at=event.at)


def _readers(request: AccessRequest) -> list[User]:
    """Return who gets the applicant's messages: the assignee, or who wrote last, if they decide; or else everyone."""
    written = request.messages.filter(kind=MessageKind.SENT).select_related("author").order_by("-pk").first()
    for person in (request.assignee, written.author if written else None):
        if person is not None and is_reviewer(person, request.model):
            return [person]
    return list(people_to_tell(request.model).exclude(pk=request.applicant_id))


def _email(message: Message, people: Iterable[User], *, template: str) -> None:
    request = message.request
    for person in people:
        queue_mail(
            key=f"message:{message.pk}:{person.pk}",
            to=person.email,
            template=template,
            context={
                "person": person,
                "request": request,
                "model": request.model,
                "words": message.words,
            },
        )
