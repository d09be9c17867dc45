"""Import an entry of a remote list as a person without sign-in and a request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.module_loading import import_string
from django.utils.translation import gettext as _

from access_requests.cards import GateField, GateForm
from access_requests.enums import RequestState
from access_requests.errors import Invalid
from access_requests.models import AccessRequest, FollowedRepo, RemotePerson, RemoteRequest
from access_requests.request_form.answers import country_code
from access_requests.request_form.publications import says_none
from access_requests.services.event_log.append import append_event, recorded
from access_requests.services.following.reading import FarItem
from access_requests.services.locks import lock_person
from access_requests.services.requests.submissions import record_submission, submission_data
from access_requests.services.requests.submit import set_answers

if TYPE_CHECKING:
    from portal.accounts.models import User

TRUE, FALSE = {"true", "on", "yes", "1", "checked"}, {"false", "off", "no", "0", ""}


def import_request(*, followed: FollowedRepo, item: FarItem) -> RemoteRequest | None:
    """Import a pending entry as a submitted request; return None if its person is already known here or has an open one.

    It waits for a reviewer for every kind of gate, and it accepts none of our licences: what the person agreed to on
    the remote is among the answers.
    """
    with recorded():
        person = _find_or_create_person(followed, item)
        known = RemoteRequest.objects.filter(followed=followed, person=person)
        if known.exists() or has_open_request(person.user, followed):
            return None
        return _create_request(followed, person, item, RemoteRequest(followed=followed, person=person))


def import_again(*, remote: RemoteRequest, item: FarItem) -> RemoteRequest:
    """Import a request like `import_request`, for a person who asked again after the first request was closed."""
    with recorded():
        update_person(remote.person, item)
        return _create_request(remote.followed, remote.person, item, remote)


def has_open_request(user: User, followed: FollowedRepo) -> bool:
    """Return whether the person has an open request for the model, from whatever repository."""
    rows = AccessRequest.objects.filter(applicant=user, model=followed.model, closed_at=None)
    return rows.exists()


def _create_request(
    followed: FollowedRepo, person: RemotePerson, item: FarItem, remote: RemoteRequest
) -> RemoteRequest:
    now = timezone.now()
    asked = item.asked_at or now
    model = followed.model
    if model.form is None:
        raise Invalid(
            _("%(model)s has no form, so no one can ask for it: give it a card first.") % {"model": model}
        )
    request = AccessRequest(model=model, applicant=person.user, form=model.form, state=RequestState.SUBMITTED)
    answers, others = mapped_answers(GateForm.from_json(model.form.schema), item.fields)
    set_answers(request, answers)
    request.submitted_at = request.first_submitted_at = min(asked, now)  # the remote's clock may be ahead
    request.save(force_insert=True)
    remote.request, remote.other_answers = request, others
    remote.far_request_id = item.request_id or remote.far_request_id
    remote.far_status, remote.far_asked_at, remote.answered_at = item.status, asked, asked
    remote.far_fields, remote.missed, remote.seen_at, remote.drifted_at = item.fields, 0, now, None
    remote.save()
    event = append_event(
        kind="request.imported",
        by=followed.host,
        model=model,
        request=request,
        data={
            "from": f"{followed.endpoint}/{followed.far_id}",
            "name": person.name,
            "at": asked.isoformat(),
            **submission_data(request, 1),
        },
    )
    record_submission(request, event)
    return remote


def mapped_answers(form: GateForm, given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return answers by key of our form, and, unchanged, the answers that have no place in it."""
    exact = {field.label: field for field in form.fields}
    loose = {_loose_label(field.label): field for field in form.fields}
    answers: dict[str, Any] = {}
    others: dict[str, Any] = {}
    for label, value in given.items():
        field = exact.get(label) or loose.get(_loose_label(label))
        fitting = _fit_answer(field, value) if field and field.key not in answers else None
        if field is None or fitting is None:
            others[label] = value
        else:
            answers[field.key] = fitting
    return answers, others


def _loose_label(label: str) -> str:
    return " ".join(label.casefold().split()).rstrip(" :*?.")


def _fit_answer(field: GateField, value: Any) -> Any:
    """Return the answer as this field stores it; None if it does not fit and is kept beside the form."""
    if field.type == "checkbox":
        if isinstance(value, bool):
            return value
        text = str(value).strip().casefold()
        return True if text in TRUE else False if text in FALSE else None
    if field.role == "publications":
        lines = value if isinstance(value, list) else str(value).splitlines()
        if len(lines) == 1 and says_none(lines[0]):
            return []
        return [line.strip() for line in lines if line.strip()]
    text = ", ".join(value) if isinstance(value, list) else str(value)
    if field.type == "country":
        return country_code(text) or None
    if field.type == "select":
        return next((o.value for o in field.options if text in {o.value, o.label}), None)
    return None if field.type == "ip_location" else text


def _find_or_create_person(followed: FollowedRepo, item: FarItem) -> RemotePerson:
    """Return the person who asks, found by the remote's id or else name; create an account for a new person.

    The account cannot sign in, has no address, and has the remote's host in its user name: nothing connects it to a
    person of this portal, whatever name or address the remote gives.
    """
    known = _known_person(followed.endpoint, item)
    if known is None:
        try:
            with transaction.atomic():
                user = import_string(settings.GATEHOUSE_IMPORT_PERSON)(
                    name=item.name, full_name=item.full_name, host=followed.host
                )
                return RemotePerson.objects.create(
                    endpoint=followed.endpoint,
                    far_user_id=item.user_id,
                    name=item.name,
                    full_name=item.full_name,
                    email=item.email,
                    user=user,
                )
        except IntegrityError:  # another poll was faster
            known = _known_person(followed.endpoint, item)
            if known is None:
                raise
    lock_person(known.user_id)
    update_person(known, item)
    return known


def _known_person(endpoint: str, item: FarItem) -> RemotePerson | None:
    people = RemotePerson.objects.filter(endpoint=endpoint).select_related("user")
    if item.user_id and (same := people.filter(far_user_id=item.user_id).first()):
        return same
    if not item.name:
        return None
    named = people.filter(name__iexact=item.name).order_by("-pk")
    return (named.filter(far_user_id="") if item.user_id else named).first()


def update_person(person: RemotePerson, item: FarItem) -> bool:
    """Update the person from the remote, since people rename themselves; return whether anything changed."""
    now = {"name": item.name, "full_name": item.full_name, "email": item.email, "far_user_id": item.user_id}
    known = {key: value for key, value in now.items() if value and value != getattr(person, key)}
    others = RemotePerson.objects.filter(endpoint=person.endpoint, far_user_id=item.user_id)
    if "far_user_id" in known and others.exists():  # the same person under hidden names in another repository
        del known["far_user_id"]
    for key, value in known.items():
        setattr(person, key, value)
    if known:
        person.save(update_fields=[*known])
    return bool(known)
