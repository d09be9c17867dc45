"""A request's life: asked by the applicant, decided by a reviewer or by policy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from django.db import transaction

from access_requests.answers import known_values, missing_fields, profile_initial
from access_requests.cards import GateForm
from access_requests.cards.countries import eu_refusal
from access_requests.enums import (
    WAITING_STATES,
    Gate,
    GrantSource,
    Outcome,
    ReasonCode,
    RequestState,
)
from access_requests.errors import Conflict, Invalid, NotAllowed
from access_requests.models import (
    AccessRequest,
    Decision,
    FormVersion,
    GatedModel,
    Grant,
    LicenceAcceptance,
)
from access_requests.permissions import is_reviewer, people_to_tell, reviewers_of
from access_requests.queries import latest_request, live_grant, open_request
from access_requests.services.audit import append_event, recorded
from access_requests.services.grants import grant_for_request
from access_requests.services.locks import keep_model, lock_person, lock_request
from access_requests.services.mail import queue_mail
from access_requests.services.moves import move, what_happened

if TYPE_CHECKING:
    from portal.accounts.models import User

# What the portal knows of a person -> the role of the form field that it prefills.
PROFILE_ROLES = ("first_name", "last_name", "institution", "country", "email")
KNOWN_ROLES = ("first_name", "last_name", "institution", "country", "intended_use", "publications")
MOST_WORDS = 10_000  # characters of a decision's or an appeal's words
# What can be decided about a request -> the state that it is in then.
STATE_AFTER = {
    Outcome.APPROVED: RequestState.APPROVED,
    Outcome.REJECTED: RequestState.REJECTED,
    Outcome.CHANGES_REQUESTED: RequestState.CHANGES_REQUESTED,
    Outcome.RESET: RequestState.RESET,
}


def start_request(*, model: GatedModel, applicant: User) -> AccessRequest:
    """The person's open request, else a new draft prefilled from the last request and the profile.

    A draft of a form that the owner has changed since is put on the new one, with its answers.
    """
    if existing := open_request(applicant, model):
        return _renew_draft(existing, model, applicant)
    if not model.is_gated or model.form is None:
        raise Invalid(f"{model} is not gated: download it without asking.")
    if grant := live_grant(applicant, model):
        raise Conflict(
            f"You may read {model} until {grant.ends_at:%Y-%m-%d} already: your token is at {model.address()}/access"
        )
    with recorded():
        lock_person(applicant.pk)
        if faster := open_request(applicant, model):  # another tab
            return faster
        request = AccessRequest(model=model, applicant=applicant, form=model.form)
        set_answers(request, prefilled_answers(model=model, applicant=applicant))
        request.save(force_insert=True)
        append_event(kind="request.started", actor=applicant, model=model, request=request)
    return request


def _renew_draft(request: AccessRequest, model: GatedModel, applicant: User) -> AccessRequest:
    if request.state != RequestState.DRAFT or request.form_id == model.form_id or model.form is None:
        return request
    with transaction.atomic():
        locked = _own(request, applicant)
        if locked.state == RequestState.DRAFT:
            answers = carried_answers(old=locked.form, new=model.form, answers=locked.answers)
            locked.form = model.form
            set_answers(locked, answers)
            locked.save()
    return locked


def prefilled_answers(*, model: GatedModel, applicant: User) -> dict[str, Any]:
    """What a new request starts with: the profile, and over it the answers of the person's last request."""
    answers = profile_initial(gate_form(model), {role: getattr(applicant, role) for role in PROFILE_ROLES})
    before = latest_request(applicant, model)
    if before is None or model.form is None:
        return answers
    again = carried_answers(old=before.form, new=model.form, answers=before.answers)
    licence = {field.key for field in gate_form(model).fields_for("licence")}
    return answers | {key: value for key, value in again.items() if key not in licence}


def carried_answers(*, old: FormVersion, new: FormVersion, answers: Mapping[str, Any]) -> dict[str, Any]:
    """Answers to one version of a form as answers to another: by label and type, since keys are only places."""
    given = {
        (field.label, field.type): answers[field.key]
        for field in GateForm.from_json(old.schema).fields
        if answers.get(field.key) not in (None, "")
    }
    fields = GateForm.from_json(new.schema).fields
    return {f.key: given[f.label, f.type] for f in fields if (f.label, f.type) in given}


def gate_form(model: GatedModel) -> GateForm:
    """The model's form now; an empty one when it has none."""
    return GateForm.from_json(model.form.schema) if model.form else GateForm()


def save_draft(*, request: AccessRequest, applicant: User, answers: Mapping[str, Any]) -> AccessRequest:
    """Keeps what was typed so far, complete or not."""
    with transaction.atomic():
        locked = _own(request, applicant)
        if locked.state not in {RequestState.DRAFT, RequestState.CHANGES_REQUESTED}:
            raise Conflict(
                f"Request #{locked.pk} was submitted: it can be changed when the reviewer asks for changes."
            )
        set_answers(locked, answers)
        locked.save()
    return locked


def submit_request(
    *,
    request: AccessRequest,
    applicant: User,
    answers: Mapping[str, Any],
    licences_shown: Sequence[int] = (),
    agreed: bool = True,
    address: str | None = None,
) -> AccessRequest:
    """Hands the request in with its answers and licence acceptances; on an auto gate it is approved by policy.

    `licences_shown` are the ids of the texts that stood on the page: if they are no longer the current
    ones nothing is accepted and the person reads again.
    """
    with recorded():
        lock_person(request.applicant_id)
        keep_model(request.model_id)
        locked = _own(request, applicant)
        if locked.state == RequestState.DRAFT and locked.form_id != locked.model.form_id:
            raise Conflict(
                "The owner changed the form while you filled it in: your answers are kept, look through them again."
            )
        form = GateForm.from_json(locked.form.schema)
        set_answers(locked, answers)
        _check_complete(form, locked)
        locked.address = address
        locked.save()
        accepted = _accept_licences(locked, form, licences_shown, agreed)
        move(locked, RequestState.SUBMITTED, who="applicant", actor=applicant, data={"licences": accepted})
        if locked.model.gate == Gate.AUTO:
            decide(locked, None, Outcome.APPROVED, "", "")
        else:
            _tell_of_submission(locked)
    return locked


def _own(request: AccessRequest, applicant: User) -> AccessRequest:
    if request.applicant_id != applicant.pk:
        raise NotAllowed("This request belongs to somebody else.")
    return lock_request(request)


def set_answers(request: AccessRequest, answers: Mapping[str, Any]) -> None:
    """Stores the answers by key, and those whose meaning is known in their columns as well."""
    form = GateForm.from_json(request.form.schema)
    request.answers = {field.key: answers[field.key] for field in form.fields if field.key in answers}
    known = known_values(form, request.answers)
    person = request.applicant
    for role in KNOWN_ROLES:
        value = known.get(role)
        if value is None and role in PROFILE_ROLES:
            value = str(getattr(person, role) or "")
        setattr(request, role, value or ([] if role == "publications" else ""))
    if known.get("full_name") and not (known.get("first_name") or known.get("last_name")):
        request.first_name, request.last_name = known["full_name"], ""


def _check_complete(form: GateForm, request: AccessRequest) -> None:
    if missing := missing_fields(form, request.answers):
        what = "Agree to" if missing[0].role == "licence" else "Answer"
        raise Invalid(f"{what} “{missing[0].label}” before you submit.", field=missing[0].key)
    if sentence := eu_refusal(form, str(request.country)):
        raise NotAllowed(sentence)


def _accept_licences(request: AccessRequest, form: GateForm, shown: Sequence[int], agreed: bool) -> list[str]:
    current = list(request.model.licence_versions.filter(retired_at__isnull=True))
    if not current:
        return []
    if {licence.pk for licence in current} != set(shown):
        raise Conflict("The licence changed while you were reading: read it again and agree to the new text.")
    if not agreed:
        raise Invalid("Agree to the licence before you submit.", field="agree")
    for licence in current:
        LicenceAcceptance.objects.get_or_create(
            request=request,
            licence=licence,
            defaults={"user": request.applicant, "language": licence.language, "sha256": licence.sha256},
        )
    return [licence.sha256 for licence in current]


def withdraw_request(*, request: AccessRequest, applicant: User) -> AccessRequest:
    """Takes an open request back; what was written is kept."""
    with recorded():
        locked = _own(request, applicant)
        move(locked, RequestState.WITHDRAWN, who="applicant", actor=applicant)
    return locked


def appeal_request(*, request: AccessRequest, applicant: User, words: str) -> AccessRequest:
    """Asks for a second look at a rejection, once; another reviewer decides where there is one."""
    words = _words(words, "Say why the decision should be looked at again.")
    with recorded():
        locked = _own(request, applicant)
        if locked.appealed_at is not None:
            raise Conflict(f"Request #{locked.pk} was appealed already: a rejection can be appealed once.")
        if other := open_request(applicant, locked.model):
            raise Conflict(f"You have a newer request, #{other.pk}: go on with that one.")
        if live_grant(applicant, locked.model):
            raise Conflict(f"You have access to {locked.model} already.")
        locked.appeal = words
        locked.save(update_fields=["appeal"])
        move(locked, RequestState.APPEALED, who="applicant", actor=applicant)
        _tell_reviewers(locked, f"appealed:{locked.pk}:{locked.appealed_at:%Y%m%d%H%M%S%f}", appealed=True)
    return locked


def open_if_new(request: AccessRequest, reviewer: User) -> None:
    """Move a locked request that waits to in review, if this reviewer may decide about it."""
    if request.state == RequestState.SUBMITTED or (
        request.state == RequestState.APPEALED and _may_hear_appeal(request, reviewer)
    ):
        move(request, RequestState.IN_REVIEW, who="reviewer", actor=reviewer)


def record_decision(
    *, request: AccessRequest, reviewer: User, outcome: str, reason_code: str = "", words: str = ""
) -> Decision:
    """Decides about a waiting request: one decision, its grant, its mail and its event, all or nothing.

    Of two reviewers at once one wins; the other gets `Conflict` with who decided and when.
    """
    if outcome not in STATE_AFTER:
        raise Invalid("Choose to approve, to reject, to ask for changes or to reset.", field="outcome")
    if reason_code not in ReasonCode.values:
        raise Invalid("Choose a reason from the list.", field="reason_code")
    if outcome == Outcome.REJECTED and not reason_code:
        raise Invalid("Choose a reason for the rejection: the applicant is told.", field="reason_code")
    words = check_words(words, outcome)
    with recorded():
        locked = lock_request(request)
        check_may_decide(request=locked, reviewer=reviewer)
        if locked.state not in WAITING_STATES:
            raise Conflict(what_happened(locked))
        if outcome == Outcome.CHANGES_REQUESTED and locked.applicant.imported:
            raise Conflict(
                "The person asked at a followed repository, which knows no request for changes, and cannot answer here: "
                "write to them, then approve, reject or reset."
            )
        open_if_new(locked, reviewer)
        return decide(locked, reviewer, Outcome(outcome), reason_code, words)


def check_words(words: str, outcome: str) -> str:
    """The words of a decision as they are kept; those against the applicant need some."""
    needed = outcome in {Outcome.REJECTED, Outcome.CHANGES_REQUESTED}
    return _words(words, "Write a sentence to the applicant: what is missing or why not." if needed else "")


def check_may_decide(*, request: AccessRequest, reviewer: User) -> None:
    """Raises `NotAllowed` with the reason why this person cannot decide about this request."""
    if not is_reviewer(reviewer, request.model):
        raise NotAllowed(f"You are not a reviewer of {request.model}: ask its owner.")
    if reviewer.pk == request.applicant_id:
        raise NotAllowed("Nobody decides their own request: another reviewer must.")
    if not _may_hear_appeal(request, reviewer):
        raise NotAllowed("You decided the first time: another reviewer must hear the appeal.")


def _may_hear_appeal(request: AccessRequest, reviewer: User) -> bool:
    """The one who rejected hears the appeal only when there is nobody else."""
    if not _on_appeal(request) or not _rejected_before(request, reviewer):
        return True
    return not reviewers_of(request.model).exclude(pk__in=[reviewer.pk, request.applicant_id]).exists()


def _on_appeal(request: AccessRequest) -> bool:
    """Appealed, and not decided since."""
    return request.appealed_at is not None and request.is_open


def _rejected_before(request: AccessRequest, reviewer: User | None) -> bool:
    """Whether the rejection that is appealed, the last one, was this person's."""
    rejections = request.decisions.filter(outcome=Outcome.REJECTED, on_appeal=False)
    last = rejections.order_by("-pk").first()
    return last is not None and reviewer is not None and last.reviewer_id == reviewer.pk


def decide(
    request: AccessRequest,
    reviewer: User | None,
    outcome: Outcome,
    reason_code: str,
    words: str,
    *,
    ended: Grant | None = None,
) -> Decision:
    """Moves a locked request, and writes decision, grant and mail; `ended` is a grant that ends with it."""
    data: dict[str, Any] = {"reason": reason_code, "words": words}
    if _on_appeal(request) and _rejected_before(request, reviewer):
        data["heard_own_appeal"] = True  # there was no other reviewer
    who = "reviewer" if reviewer else "policy"
    move(request, STATE_AFTER[outcome], who=who, actor=reviewer, data=data)
    decision = write_decision(request, reviewer, outcome, reason_code, words)
    grant = None
    if outcome == Outcome.APPROVED:
        source = GrantSource.REVIEW if reviewer else GrantSource.POLICY
        grant = grant_for_request(request=request, source=source, actor=reviewer)
    tell_decision(decision, template=f"mails/{outcome.value}.txt", grant=grant, ended=ended)
    return decision


def write_decision(
    request: AccessRequest, reviewer: User | None, outcome: Outcome, reason_code: str, words: str
) -> Decision:
    """The decision's row, on appeal if the request is."""
    return Decision.objects.create(
        request=request,
        reviewer=reviewer,
        outcome=outcome,
        reason_code=reason_code,
        words=words,
        on_appeal=request.appealed_at is not None,
    )


def tell_decision(decision: Decision, *, template: str, **context: Any) -> None:
    """The applicant's mail, once for each decision."""
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


def _tell_of_submission(request: AccessRequest) -> None:
    """Keyed by the moment: a request handed in again after changes is news again."""
    moment = f"{request.pk}:{request.submitted_at:%Y%m%d%H%M%S%f}"
    context = {"person": request.applicant, "request": request, "model": request.model}
    queue_mail(
        key=f"received:{moment}", to=request.applicant.email, template="mails/received.txt", context=context
    )
    _tell_reviewers(request, f"new:{moment}", appealed=False)


def _tell_reviewers(request: AccessRequest, key: str, *, appealed: bool) -> None:
    for person in people_to_tell(request.model):
        queue_mail(
            key=f"{key}:{person.pk}",
            to=person.email,
            template="mails/new_request.txt",
            context={"person": person, "request": request, "model": request.model, "appealed": appealed},
        )


def _words(words: str, sentence: str) -> str:
    """What a person wrote, fit to be kept; `sentence` refuses nothing at all, where words are needed."""
    words = words.replace("\0", "").strip()
    if sentence and not words:
        raise Invalid(sentence, field="words")
    if len(words) > MOST_WORDS:
        raise Invalid(f"Write at most {MOST_WORDS:,} characters.", field="words")
    return words
