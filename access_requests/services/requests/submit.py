"""Start, save, submit, withdraw and appeal requests, as an applicant."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from django.contrib.auth import get_user_model
from django.db import transaction
from django.utils.translation import gettext as _

from access_requests.access.access import latest_request, live_grant, open_request
from access_requests.access.permissions import people_to_tell
from access_requests.cards import GateForm
from access_requests.enums import EDITABLE_STATES, WAITING_STATES, Gate, Outcome, RequestState
from access_requests.errors import Conflict, Invalid, NotAllowed
from access_requests.models import (
    AccessRequest,
    FormVersion,
    GatedModel,
    LicenceAcceptance,
)
from access_requests.request_form.answers import eu_refusal, known_columns, missing_fields, profile_initial
from access_requests.services.catalogue.languages import accepted_licences, current_licences
from access_requests.services.emails.write import queue_mail
from access_requests.services.event_log.append import append_event, recorded
from access_requests.services.locks import keep_model, lock_person, lock_request
from access_requests.services.requests.decide import cleaned_words, decide
from access_requests.services.requests.submissions import (
    FROM_PROFILE,
    newest_number,
    record_submission,
    submission_data,
)
from access_requests.services.requests.transitions import end_votes, move, what_happened

if TYPE_CHECKING:
    from portal.accounts.models import User

# Fact about a person -> the role of the form field that it prefills.
PROFILE_ROLES = ("first_name", "last_name", "institution", "country", "email")
MOST_SUBMISSIONS = 100  # of one request


def start_request(*, model: GatedModel, applicant: User) -> AccessRequest:
    """Return the person's open request, or else a new draft prefilled from the last request and the profile.

    If the owner has changed the form since, a draft moves to the new form with its answers.
    """
    if existing := open_request(applicant, model):
        is_old_draft = existing.state == RequestState.DRAFT and existing.form_id != model.form_id
        if not is_old_draft or model.form is None:
            return existing
        with transaction.atomic():
            locked = _lock_own(existing, applicant)
            if locked.state == RequestState.DRAFT:
                answers = carried_answers(old=locked.form, new=model.form, answers=locked.answers)
                locked.form = model.form
                set_answers(locked, answers)
                locked.save()
        return locked
    if not model.is_gated or model.form is None:
        raise Invalid(_("%(model)s is not gated: download it without asking.") % {"model": model})
    if grant := live_grant(applicant, model):
        raise Conflict(
            _("You may read %(model)s until %(day)s already. Your token is at %(address)s")
            % {
                "model": model,
                "day": f"{grant.ends_at:%Y-%m-%d}",
                "address": f"{model.address()}/access",
            }
        )
    with recorded():
        lock_person(applicant.pk)
        if faster := open_request(applicant, model):  # another tab was faster
            return faster
        before = latest_request(applicant, model)
        corrects = before if before is not None and before.state == RequestState.REJECTED else None
        request = AccessRequest(model=model, applicant=applicant, form=model.form, predecessor=corrects)
        set_answers(request, prefilled_answers(model=model, applicant=applicant))
        request.save(force_insert=True)
        append_event(kind="request.started", actor=applicant, model=model, request=request)
    return request


def prefilled_answers(*, model: GatedModel, applicant: User) -> dict[str, Any]:
    """Return the initial answers for a new request: the profile's, overridden by the person's last request."""
    answers = profile_initial(gate_form(model), {role: getattr(applicant, role) for role in PROFILE_ROLES})
    before = latest_request(applicant, model)
    if before is None or model.form is None:
        return answers
    again = carried_answers(old=before.form, new=model.form, answers=before.answers)
    licence = {field.key for field in gate_form(model).fields_for("licence")}
    return answers | {key: value for key, value in again.items() if key not in licence}


def carried_answers(*, old: FormVersion, new: FormVersion, answers: Mapping[str, Any]) -> dict[str, Any]:
    """Map answers from one version of a form to another by label and type, since keys are only positions."""
    given = {
        (field.label, field.type): answers[field.key]
        for field in GateForm.from_json(old.schema).fields
        if answers.get(field.key) not in (None, "")
    }
    fields = GateForm.from_json(new.schema).fields
    return {f.key: given[f.label, f.type] for f in fields if (f.label, f.type) in given}


def gate_form(model: GatedModel) -> GateForm:
    """Return the model's current form; an empty one if it has none."""
    return GateForm.from_json(model.form.schema) if model.form else GateForm()


def save_draft(*, request: AccessRequest, applicant: User, answers: Mapping[str, Any]) -> AccessRequest:
    """Save the answers so far, complete or not; what was submitted stays as it is until the next submission."""
    with transaction.atomic():
        locked = _lock_own(request, applicant)
        if locked.state not in EDITABLE_STATES:
            raise Conflict(what_happened(locked))
        if locked.state == RequestState.DRAFT:
            set_answers(locked, answers)
        else:
            locked.draft = _known_answers(GateForm.from_json(locked.form.schema), answers)
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
    seen: int | None = None,
) -> AccessRequest:
    """Submit the request with its answers and licence acceptances; an auto gate approves it by policy.

    A request that waits is changed: the answers become its next submission, it keeps its state and its place, and its
    votes end. Equal answers change nothing.

    `licences_shown` are the ids of the texts on the page, one for each licence, in any language: if one of them is no longer
    current, nothing is accepted and the person must read again. `seen` is the number of the newest submission that the applicant saw, 0 for none: if
    there is another one, from another tab, this raises `Conflict`.
    """
    with recorded():
        lock_person(request.applicant_id)
        keep_model(request.model_id)
        locked = _lock_own(request, applicant)
        if locked.state not in EDITABLE_STATES:
            raise Conflict(what_happened(locked))
        number = newest_number(locked)
        if locked.state == RequestState.DRAFT and locked.form_id != locked.model.form_id:
            raise Conflict(
                _(
                    "The owner changed the form while you were filling it in. Your answers are kept: check them again."
                )
            )
        form = GateForm.from_json(locked.form.schema)
        if locked.state in WAITING_STATES and locked.answers == _known_answers(form, answers):
            return _forget_draft(locked)
        if seen is not None and seen != number:
            raise Conflict(
                _(
                    "You submitted this request in another tab since you opened this page. Your answers are kept: check "
                    "them, and submit again to change the request."
                )
            )
        if number >= MOST_SUBMISSIONS:
            raise Conflict(
                _(
                    "You have submitted this request %(number)d times, which is the most. Write to the owner, or withdraw "
                    "it and ask again."
                )
                % {"number": number}
            )
        set_answers(locked, answers)
        _check_complete(form, locked)
        locked.address, locked.draft = address, None
        locked.save()
        accepted = _accept_licences(locked, licences_shown, agreed)
        data = {**accepted, **submission_data(locked, number + 1)}
        if locked.state in WAITING_STATES:
            _change_waiting(locked, applicant, data)
            return locked
        appealed = locked.appealed_at is not None
        target = RequestState.APPEALED if appealed else RequestState.SUBMITTED
        record_submission(locked, move(locked, target, who="applicant", actor=applicant, data=data))
        if locked.model.gate == Gate.AUTO and not appealed:
            decide(locked, None, Outcome.APPROVED, "", "")
        else:
            # The keys contain the time, so that submitting again sends emails again.
            moment = f"{locked.pk}:{locked.submitted_at:%Y%m%d%H%M%S%f}"
            queue_mail(
                key=f"received:{moment}",
                to=locked.applicant.email,
                template="mails/received.txt",
                context={"person": locked.applicant, "request": locked, "model": locked.model},
            )
            _tell_reviewers(locked, f"new:{moment}", appealed=appealed)
    return locked


def _forget_draft(request: AccessRequest) -> AccessRequest:
    """Drop saved changes that a waiting request does not need, because nothing is changed."""
    if request.draft is not None:
        request.draft = None
        request.save(update_fields=["draft", "updated_at"])
    return request


def _change_waiting(request: AccessRequest, applicant: User, data: dict[str, Any]) -> None:
    """Record a change of a locked, waiting request, end its votes, and inform those who voted or claimed it."""
    event = append_event(
        kind="request.changed", actor=applicant, model=request.model, request=request, data=data
    )
    submission = record_submission(request, event)
    voters = list(request.votes.filter(ended_at__isnull=True).values_list("reviewer", flat=True))
    end_votes(request, event.at)
    concerned = {*voters, request.assignee_id or 0}
    for person in get_user_model().objects.filter(is_active=True, pk__in=concerned):
        queue_mail(
            key=f"changed:{request.pk}:{submission.number}:{person.pk}",
            to=person.email,
            template="mails/changed_request.txt",
            context={
                "person": person,
                "request": request,
                "model": request.model,
                "voted": person.pk in voters,
            },
        )


def _lock_own(request: AccessRequest, applicant: User) -> AccessRequest:
    if request.applicant_id != applicant.pk:
        raise NotAllowed(_("This request belongs to someone else."))
    return lock_request(request)


def set_answers(request: AccessRequest, answers: Mapping[str, Any]) -> None:
    """Store the answers by key, and those with a known role in their columns, too."""
    form = GateForm.from_json(request.form.schema)
    request.answers = _known_answers(form, answers)
    profile = {role: str(getattr(request.applicant, role) or "") for role in FROM_PROFILE}
    for column, value in known_columns(form, request.answers, profile).items():
        setattr(request, column, value)


def _known_answers(form: GateForm, answers: Mapping[str, Any]) -> dict[str, Any]:
    return {field.key: answers[field.key] for field in form.fields if field.key in answers}


def _check_complete(form: GateForm, request: AccessRequest) -> None:
    if missing := missing_fields(form, request.answers):
        is_licence = missing[0].role == "licence"
        sentence = (
            _("Agree to “%(label)s” before you submit.")
            if is_licence
            else _("Answer “%(label)s” before you submit.")
        )
        raise Invalid(sentence % {"label": missing[0].label}, field=missing[0].key)
    if refusal := eu_refusal(form, str(request.country)):
        raise NotAllowed(refusal)


def _accept_licences(request: AccessRequest, shown: Collection[int], agreed: bool) -> dict[str, list[str]]:
    """Store the acceptance of each licence, once for each binding text, and return the event's facts about them."""
    read = accepted_licences(current_licences(request.model), shown)
    if read and not agreed:
        raise Invalid(_("Agree to the licence before you submit."), field="agree")
    accepted = {
        one.binding_id or one.licence_id: one
        for one in LicenceAcceptance.objects.filter(request=request).order_by("pk")
    }
    for one in read:
        if one.binding.pk not in accepted:
            accepted[one.binding.pk] = LicenceAcceptance.objects.create(
                request=request,
                user=request.applicant,
                licence=one.text,
                language=one.text.language,
                sha256=one.text.sha256,
                binding=one.binding,
                binding_sha256=one.binding.sha256,
            )
    return {
        "licences": [accepted[one.binding.pk].sha256 for one in read],
        "binding": [one.binding.sha256 for one in read],
    }


def withdraw_request(*, request: AccessRequest, applicant: User) -> AccessRequest:
    """Withdraw an open request; its answers are kept."""
    with recorded():
        locked = _lock_own(request, applicant)
        move(locked, RequestState.WITHDRAWN, who="applicant", actor=applicant)
    return locked


def appeal_request(*, request: AccessRequest, applicant: User, words: str) -> AccessRequest:
    """Appeal a rejection, once; another reviewer decides, if there is one."""
    words = cleaned_words(words, _("Say why the decision should be reconsidered."))
    with recorded():
        locked = _lock_own(request, applicant)
        if locked.appealed_at is not None:
            raise Conflict(
                _("Request #%(id)s was already appealed. You can appeal a rejection once.")
                % {"id": locked.pk}
            )
        if other := open_request(applicant, locked.model):
            raise Conflict(_("You have a newer request, #%(id)s: continue with that one.") % {"id": other.pk})
        if live_grant(applicant, locked.model):
            raise Conflict(_("You already have access to %(model)s.") % {"model": locked.model})
        locked.appeal = words
        locked.assignee = locked.claimed_at = None  # another reviewer decides, where there is one
        locked.save(update_fields=["appeal", "assignee", "claimed_at"])
        move(locked, RequestState.APPEALED, who="applicant", actor=applicant, data={"words": words})
        _tell_reviewers(locked, f"appealed:{locked.pk}:{locked.appealed_at:%Y%m%d%H%M%S%f}", appealed=True)
    return locked


def _tell_reviewers(request: AccessRequest, key: str, *, appealed: bool) -> None:
    for person in people_to_tell(request.model):
        queue_mail(
            key=f"{key}:{person.pk}",
            to=person.email,
            template="mails/new_request.txt",
            context={"person": person, "request": request, "model": request.model, "appealed": appealed},
        )
