"""Ask for several models of a family with one form, and decide its requests together."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.utils.translation import gettext as _

from access_requests.access.access import live_grant, open_request
from access_requests.access.catalogue import may_know_of
from access_requests.enums import Gate, RequestState
from access_requests.errors import Conflict, RuleError
from access_requests.models import AccessRequest, Decision, GatedModel, Vote
from access_requests.services.event_log.append import recorded
from access_requests.services.locks import keep_model, lock_person
from access_requests.services.requests.decide import record_decision
from access_requests.services.requests.submit import start_request, submit_request

if TYPE_CHECKING:
    from portal.accounts.models import User


@dataclass(frozen=True)
class Decided:
    """What became of one request that was decided with others; `refusal` says why nothing was decided, "" if it was."""

    request: AccessRequest
    made: Decision | Vote | None
    refusal: str


def models_to_add(model: GatedModel, applicant: User) -> list[GatedModel]:
    """Return the models of the family that this person can ask for with the form of `model`.

    They have the same form and the same licence texts; the person knows of them, has no access, and no open request but a draft.
    """
    if model.family_id is None or model.form is None:
        return []
    siblings = GatedModel.objects.filter(family=model.family_id).exclude(pk=model.pk).exclude(gate=Gate.NONE)
    licences = _licences(model)
    return [
        one
        for one in siblings.select_related("form").defer("card").order_by("repo_id")
        if one.form is not None
        and one.form.schema == model.form.schema
        and _licences(one) == licences
        and may_know_of(applicant, one)
        and live_grant(applicant, one) is None
        and _has_no_submitted_request(one, applicant)
    ]


def submit_together(
    *,
    request: AccessRequest,
    applicant: User,
    others: Sequence[GatedModel],
    answers: Mapping[str, Any],
    licences_shown: Sequence[int] = (),
    agreed: bool = True,
    address: str | None = None,
    seen: int | None = None,
) -> list[AccessRequest]:
    """Submit a request, and one with the same answers for each other model, all or none; they share a family id.

    Licences of the other models have the texts that were shown, so they count as accepted. Raises `Conflict` if one of the
    models cannot be added any more, and what `submit_request` raises.
    """
    with recorded():
        lock_person(applicant.pk)
        for pk in sorted({request.model_id, *(one.pk for one in others)}):
            keep_model(pk)
        request.model.refresh_from_db(fields=["family", "form"])
        possible = {one.pk: one for one in models_to_add(request.model, applicant)}
        for one in others:
            if one.pk not in possible:
                raise Conflict(
                    _(
                        "%(model)s cannot be added to this request any more: its form or licence changed, or you have asked "
                        "for it already. Choose again."
                    )
                    % {"model": one}
                )
        if others and request.first_submitted_at is not None:
            raise Conflict(
                _("This request is submitted already: ask for the other models on their own pages.")
            )
        if others:
            request.family = uuid.uuid4()
            AccessRequest.objects.filter(pk=request.pk).update(family=request.family)
        given: dict[str, Any] = {
            "applicant": applicant,
            "answers": answers,
            "agreed": agreed,
            "address": address,
        }
        made = [submit_request(request=request, licences_shown=licences_shown, seen=seen, **given)]
        read = request.model.licence_versions.filter(pk__in=licences_shown).values_list("name", "language")
        for model in [possible[pk] for pk in sorted(one.pk for one in others)]:
            other = start_request(model=model, applicant=applicant)
            AccessRequest.objects.filter(pk=other.pk).update(family=request.family)
            texts = model.licence_versions.filter(retired_at__isnull=True)
            shown = [text.pk for text in texts if (text.name, text.language) in set(read)]
            made.append(submit_request(request=other, licences_shown=shown, **given))
    return made


def requests_with(request: AccessRequest) -> list[AccessRequest]:
    """Return the other requests that were made with the same form."""
    if request.family is None:
        return []
    others = AccessRequest.objects.filter(family=request.family).exclude(pk=request.pk)
    return list(others.select_related("model", "applicant").defer("model__card").order_by("model__repo_id"))


def decide_together(
    *,
    requests: Sequence[tuple[AccessRequest, int | None]],
    reviewer: User,
    outcome: str,
    reason_code: str = "",
    words: str = "",
) -> list[Decided]:
    """Decide each request in its own transaction, and return what became of each; one that is refused stops no other.

    Each comes with the number of the submission that the reviewer read, or None for the newest.
    """
    found = []
    for request, seen in requests:
        made, refusal = None, ""
        try:
            made = record_decision(
                request=request,
                reviewer=reviewer,
                outcome=outcome,
                reason_code=reason_code,
                words=words,
                seen=seen,
            )
        except RuleError as error:
            refusal = error.sentence
        found.append(Decided(request, made, refusal))
    return found


def _licences(model: GatedModel) -> set[tuple[str, str, str, bool]]:
    current = model.licence_versions.filter(retired_at__isnull=True)
    return set(current.values_list("name", "language", "sha256", "binding"))


def _has_no_submitted_request(model: GatedModel, applicant: User) -> bool:
    request = open_request(applicant, model)
    return request is None or request.state == RequestState.DRAFT
