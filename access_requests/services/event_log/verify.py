"""Verify the whole event log: chain, anchors, licence texts, submissions, messages, and a head that was kept elsewhere."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import F

from access_requests.cards import GateForm
from access_requests.enums import MessageKind
from access_requests.errors import Invalid
from access_requests.models import (
    AccessRequest,
    Event,
    LicenceAcceptance,
    LicenceVersion,
    Message,
    Submission,
)
from access_requests.models.submissions import ADDRESS, ANSWER
from access_requests.request_form.answers import known_columns
from access_requests.services.event_log.anchors import check_anchors
from access_requests.services.event_log.append import FIRST_HASH, hashes_of, one_moment, verify_chain

MOST = 20  # sentences of each kind
RECORDED = "request.recorded"  # for a request that was submitted before there were submissions
SUBMITTING = ("request.submitted", "request.changed", "request.imported", RECORDED)
WRITING: dict[str, str] = {  # kind of message -> kind of its event
    MessageKind.NOTE: "message.noted",
    MessageKind.SENT: "message.sent",
    MessageKind.ANSWER: "message.answered",
}


@dataclass(frozen=True)
class LogReport:
    """The result; each of `problems` is a sentence about what was changed, cut or removed, or is overdue."""

    events: int
    first_bad: int | None
    head: tuple[int, str]
    anchors: int
    last_anchor: datetime | None
    erased: int
    problems: list[str]

    @property
    def ok(self) -> bool:
        return not self.problems


def verify_log(*, expect: str = "") -> LogReport:
    """Verify chain, anchors and licence texts; `expect` is a head kept elsewhere, as `NUMBER:HASH`.

    Raises `Invalid` if `expect` cannot be read.
    """
    expected = parse_head(expect) if expect else None
    chain = verify_chain()
    anchors = check_anchors()
    problems = []
    if chain.bad:
        more = f" ({', '.join(map(str, chain.bad[1:]))} as well)" if len(chain.bad) > 1 else ""
        problems.append(
            f"The chain of {chain.events} events is broken at event {chain.bad[0]}{more}: it, or the one before it, "
            "was changed or removed; compare with a backup."
        )
    problems += anchors.problems
    problems += licence_problems()
    problems += submission_problems()
    problems += message_problems()
    if expected is not None:
        number, hash = expected
        known = hashes_of([number]).get(number) if number else FIRST_HASH
        if known is None:
            problems.append(
                f"Event {number} is not in the log, and it is expected there: the log was cut or replaced."
            )
        elif known != hash:
            problems.append(
                f"Event {number} has another hash than the expected one: the log was rewritten at or before it."
            )
    return LogReport(
        chain.events, chain.first_bad, chain.head, anchors.count, anchors.last_at, chain.erased, problems
    )


def parse_head(text: str) -> tuple[int, str]:
    """Read `NUMBER:HASH`, as an anchor's email gives it."""
    found = re.fullmatch(r"([0-9]{1,18}):([0-9a-fA-F]{64})", text.strip())
    if found is None:
        raise Invalid("--expect cannot be read: write NUMBER:HASH, as in the email of an anchor.")
    return int(found[1]), found[2].lower()


def licence_problems() -> list[str]:
    """Compare each licence text with its SHA-256, and that with the log and with what people accepted."""
    with one_moment():
        added = Event.objects.filter(kind="model.licences_changed").values_list("facts", flat=True)
        logged = {sha256 for facts in added.iterator() for sha256 in facts.get("added", [])}
        problems = []
        for licence in LicenceVersion.objects.order_by("pk").iterator(chunk_size=50):
            if LicenceVersion.digest(licence.text) != licence.sha256:
                problems.append(
                    f"{_name_licence(licence)} is not the text that its SHA-256 was taken of: it was changed."
                )
            elif licence.sha256 not in logged:
                problems.append(
                    f"{_name_licence(licence)} has a SHA-256 that no event of the log names: it was replaced."
                )
        otherwise = LicenceAcceptance.objects.exclude(sha256=F("licence__sha256"))
        bound = LicenceAcceptance.objects.filter(binding__isnull=False).exclude(
            binding_sha256=F("binding__sha256"),
            binding__binding=True,
            binding__model=F("licence__model"),
            binding__name=F("licence__name"),
        )
        for accepted in otherwise.select_related("licence__model").defer("licence__text")[:MOST]:
            problems.append(
                f"{_name_licence(accepted.licence)} has another SHA-256 than user {accepted.user_id} accepted: one of them was changed."
            )
        for accepted in bound.select_related("licence__model").defer("licence__text")[:MOST]:
            problems.append(
                f"The binding text that user {accepted.user_id} accepted with {_name_licence(accepted.licence)} is another one: "
                "one of them was changed."
            )
    return problems[:MOST]


def submission_problems() -> list[str]:
    """Compare each submission with its event, and each request's copy with its newest submission.

    What was submitted is in the texts of events, which the chain's check covers. Memory does not grow with the number of
    submissions.
    """
    with one_moment():
        problems = []
        for row in Submission.objects.select_related("event").order_by("pk").iterator(chunk_size=1000):
            facts = row.event.facts
            said = (
                row.event.request_id,
                facts.get("submission"),
                facts.get("form"),
                _submitted_at(row.event),
            )
            if said != (row.request_id, row.number, row.form_id, row.at):
                problems.append(f"{_name_submission(row)} is not what its event says: it was changed.")
            if len(problems) == MOST:
                return problems
        lost = Event.objects.filter(kind__in=SUBMITTING, facts__has_key="submission", submission=None)
        for event in lost.order_by("pk")[:MOST]:
            number = event.facts["submission"]
            problems.append(f"Submission {number} of request #{event.request_id} was removed.")
        newest = Submission.objects.order_by("request_id", "-number").distinct("request_id")
        rows = newest.select_related("event", "form", "request").prefetch_related("event__texts")
        for row in rows.iterator(chunk_size=1000):
            if differing := _copies_that_differ(row):
                problems.append(
                    f"Request #{row.request_id} has another {' and another '.join(differing)} than its "
                    f"submission {row.number}: one of them was changed."
                )
            if len(problems) >= MOST:
                break
    return problems[:MOST]


def message_problems() -> list[str]:
    """Compare each note and message with its event, whose text the chain's check covers."""
    with one_moment():
        problems = []
        for row in Message.objects.select_related("event").order_by("pk").iterator(chunk_size=1000):
            event, kind = row.event, WRITING.get(row.kind)
            said = (event.kind, event.request_id, event.actor_id, event.at)
            if said != (kind, row.request_id, row.author_id, row.at):
                problems.append(
                    f"Message {row.pk} about request #{row.request_id} is not what its event says: it was changed."
                )
            if len(problems) == MOST:
                return problems
        lost = Event.objects.filter(kind__in=WRITING.values(), message=None)
        for event in lost.order_by("pk")[: MOST - len(problems)]:
            problems.append(
                f"A message about request #{event.request_id} was removed (event {event.number})."
            )
    return problems


def _submitted_at(event: Event) -> datetime | None:
    """Return when the submission of this event was made; None if the event does not say it (any more)."""
    if event.kind != RECORDED:
        return event.at
    try:
        return datetime.fromisoformat(event.facts["at"])
    except (KeyError, TypeError, ValueError):
        return None


def _copies_that_differ(newest: Submission) -> list[str]:
    """Return what the request has otherwise than its newest submission, without what was erased there.

    Columns that are made from answers are compared if the submission was recorded when it was made.
    """
    request, erased = newest.request, newest.erased
    try:
        answers = newest.answers
    except ValueError:  # a text that is not JSON any more; the chain's check names the event
        return ["content"]
    differing = [
        f"answer {key}"
        for key in sorted(answers.keys() | request.answers.keys())
        if f"{ANSWER}{key}" not in erased and answers.get(key) != request.answers.get(key)
    ]
    if ADDRESS not in erased and newest.address != (request.address or ""):
        differing.append("address")
    if newest.event.kind != RECORDED and not differing and not erased:
        made = known_columns(GateForm.from_json(newest.form.schema), answers, newest.profile)
        differing += [column for column, value in made.items() if value != _column(request, column)]
    return differing


def _column(request: AccessRequest, column: str) -> Any:
    value = getattr(request, column)
    return value if column == "publications" else str(value or "")


def _name_submission(row: Submission) -> str:
    return f"Submission {row.number} of request #{row.request_id}"


def _name_licence(licence: LicenceVersion) -> str:
    return (
        f"Licence text {licence.name} ({licence.language}, version {licence.pk}) of model {licence.model_id}"
    )
