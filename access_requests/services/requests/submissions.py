"""Keep every version of a request: record submissions, read them, compare two."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from access_requests.cards import GateField, GateForm
from access_requests.errors import Conflict
from access_requests.models import AccessRequest, Event, Submission
from access_requests.models.submissions import ADDRESS, ANSWER, PROFILE
from access_requests.request_form.answers import known_values

# What a request keeps of the person besides the answers, if the form did not ask for it.
FROM_PROFILE = ("first_name", "last_name", "institution", "country")


@dataclass(frozen=True)
class Difference:
    """One field that two submissions answer differently.

    `old` and `new` are answers as they are stored; None where that submission's form does not have the field.
    """

    field: GateField
    old: Any
    new: Any


class NewerSubmission(Conflict):
    """The applicant has changed the request since the reviewer opened the page."""

    def __init__(self, sentence: str, *, read: Submission | None, newest: Submission) -> None:
        super().__init__(sentence)
        self.read, self.newest = read, newest


def newest_submission(request: AccessRequest) -> Submission | None:
    """Return what the applicant submitted last, with its event; None for a draft, or access given without a request."""
    return request.submissions.select_related("event", "form").order_by("-number").first()


def newest_number(request: AccessRequest) -> int:
    """Return the number of what the applicant submitted last; 0 if there is nothing."""
    return request.submissions.order_by("-number").values_list("number", flat=True).first() or 0


def submissions_of(request: AccessRequest, *, most: int) -> list[Submission]:
    """Return the newest `most` submissions, oldest first, with everything that shows them."""
    rows = request.submissions.select_related("event", "form").prefetch_related("event__texts")
    return list(rows.order_by("-number")[:most])[::-1]


def submission_data(request: AccessRequest, number: int) -> dict[str, Any]:
    """Return what the event of this submission says: facts, and each answer under a name of its own.

    Values that were copied from the profile are included, since pages and lists show them as the applicant's.
    """
    asked = known_values(GateForm.from_json(request.form.schema), request.answers)
    copied = {role: str(getattr(request, role) or "") for role in FROM_PROFILE if asked.get(role) is None}
    if asked.get("full_name"):
        copied = {role: value for role, value in copied.items() if not role.endswith("_name")}
    return {
        "submission": number,
        "form": request.form_id,
        **({"family": str(request.family)} if request.family else {}),
        **{f"{ANSWER}{key}": answer for key, answer in request.answers.items()},
        **{f"{PROFILE}{role}": value for role, value in copied.items() if value},
        **({ADDRESS: request.address} if request.address else {}),
    }


def record_submission(request: AccessRequest, event: Event) -> Submission:
    """Store the row of the submission that this event, made with `submission_data`, describes."""
    return Submission.objects.create(
        request=request,
        number=event.facts["submission"],
        form_id=event.facts["form"],
        event=event,
        at=event.at,
    )


def differences(old: Submission, new: Submission) -> list[Difference]:
    """Return the fields that two submissions of a request answer differently, in the order of the newer form.

    Fields of two versions of a form are the same if label and type are.
    """
    before, after = _answers_by_field(old), _answers_by_field(new)
    gone = {key: (field, None) for key, (field, _) in before.items() if key not in after}
    both = [
        Difference(field, before[key][1] if key in before else None, now)
        for key, (field, now) in (after | gone).items()
    ]
    return [one for one in both if one.old != one.new]


def _answers_by_field(submission: Submission) -> dict[tuple[str, str], tuple[GateField, Any]]:
    answers = submission.answers
    return {
        (field.label, field.type): (field, answers.get(field.key))
        for field in GateForm.from_json(submission.form.schema).fields
        if field.type != "ip_location"
    }
