"""Change what owners edit in the admin: settings, the reading of the form, single licence texts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.utils.text import get_text_list
from django.utils.translation import gettext as _

from access_requests.access.permissions import reviewers_of
from access_requests.cards import FormChangeRefused, GateForm, with_required, with_role
from access_requests.enums import Gate
from access_requests.errors import Conflict, Invalid
from access_requests.models import FormVersion, GatedModel, LicenceVersion
from access_requests.services.catalogue.demand_licence import demand_licence
from access_requests.services.catalogue.gated_models import (
    LicenceText,
    check_days,
    replace_licences,
    set_form,
)
from access_requests.services.catalogue.rendered_texts import gate_texts_of
from access_requests.services.event_log.append import append_event, recorded
from access_requests.services.locks import lock_model

if TYPE_CHECKING:
    from portal.accounts.models import User

SETTINGS = ("gate", "grant_days", "listed", "approvals")


@dataclass(frozen=True)
class FieldChoice:
    """An owner's choice for one field: its role in the portal, and whether it is required."""

    role: str
    required: bool


@dataclass(frozen=True)
class AddedLicence:
    """The result: `fresh` is false if this text was already current; `asked` counts holders who must accept it."""

    licence: LicenceVersion
    fresh: bool
    asked: int


def change_settings(
    *,
    model: GatedModel,
    gate: str,
    grant_days: int,
    listed: bool,
    approvals: int | None = None,
    actor: User | None = None,
) -> GatedModel:
    """Change who decides, the length of grants and whether the model is listed; existing grants stay as they are.

    `approvals` is how many people must approve a request, 1 or 2; None keeps it.
    """
    if gate not in Gate.values:
        raise Invalid(f"There is no gate {gate!r}: choose one of {', '.join(Gate.values)}.", field="gate")
    check_days(grant_days)
    with recorded():
        locked = lock_model(model.pk)
        approvals = locked.approvals if approvals is None else approvals
        if approvals != locked.approvals:
            _check_approvals(locked, approvals)
        before = {name: getattr(locked, name) for name in SETTINGS}
        model.gate, model.grant_days, model.listed = gate, grant_days, listed
        model.approvals = approvals
        after = {"gate": str(gate), "grant_days": grant_days, "listed": listed, "approvals": approvals}
        if after != before:
            model.save(update_fields=[*SETTINGS, "updated_at"])
            append_event(
                kind="model.settings_changed",
                actor=actor,
                by="operator",
                model=model,
                data=after,
            )
    return model


def _check_approvals(model: GatedModel, approvals: int) -> None:
    if approvals not in {1, 2}:
        raise Invalid(_("A request needs the approval of one reviewer or of two."), field="approvals")
    if reviewers_of(model).count() < approvals:
        raise Invalid(
            _("%(model)s has only one reviewer. Add another one before each request needs two approvals.")
            % {"model": model},
            field="approvals",
        )


def change_some_settings(
    *, model: GatedModel, gate: str | None = None, listed: bool | None = None, actor: User | None = None
) -> GatedModel:
    """Change the given settings and keep the others, even if someone else changes those at the same time."""
    with recorded():
        now = lock_model(model.pk)
        return change_settings(
            model=model,
            gate=now.gate if gate is None else gate,
            grant_days=now.grant_days,
            listed=now.listed if listed is None else listed,
            actor=actor,
        )


def change_fields(
    *, model: GatedModel, choices: Mapping[str, FieldChoice], actor: User | None = None
) -> FormVersion:
    """Store an owner's reading of the whole form; open requests keep their form."""
    with recorded():
        model.form = lock_model(model.pk).form
        if model.form is None:
            raise Conflict(_("%(model)s has no form yet: give it a card first.") % {"model": model})
        form = GateForm.from_json(model.form.schema)
        texts = gate_texts_of(model.form)  # this changes no text, so nothing is rendered here
        try:
            return set_form(model=model, form=_apply_choices(form, choices), actor=actor, texts=texts)
        except FormChangeRefused as refused:
            raise Invalid(str(refused)) from refused


def _apply_choices(form: GateForm, choices: Mapping[str, FieldChoice]) -> GateForm:
    """Return the form with the chosen roles. All roles are removed first, so that two fields can swap theirs.

    Raise `FormChangeRefused` if two fields would have the same role.
    """
    for role in sorted({choice.role for choice in choices.values() if choice.role not in {"", "licence"}}):
        holders = [key for key, choice in choices.items() if choice.role == role]
        if len(holders) > 1:
            raise FormChangeRefused(
                _("%(fields)s cannot both be the %(role)s: choose one of them.")
                % {"fields": get_text_list(holders, _("and")), "role": role}
            )
    changed = {key for key, choice in choices.items() if form.field(key).role != choice.role}
    for key in changed:
        form = with_role(form, key, "")
    for key in (field.key for field in form.fields if field.key in changed):
        form = with_role(form, key, choices[key].role)
    for field in form.fields:
        if field.key in choices and choices[field.key].required != field.required:
            form = with_required(form, field.key, choices[field.key].required)
    return form


def add_licence(
    *, model: GatedModel, licence: LicenceText, must_accept: bool = False, actor: User | None = None
) -> AddedLicence:
    """Add a text, or a new version of the one with this name and language; new applicants must accept it.

    With `must_accept`, holders of a grant must accept it as well before they download again. Only the text that binds can be
    required: the first text of its name does, and another one if it says so.
    """
    with recorded():
        lock_model(model.pk)
        current = model.licence_versions.filter(retired_at__isnull=True)
        kept = [
            LicenceText(v.name, v.language, v.text)
            for v in current
            if (v.name, v.language) != (licence.name, licence.language)
        ]
        fresh = replace_licences(model=model, licences=[*kept, licence], actor=actor)
        version = current.get(name=licence.name, language=licence.language)
        asked = demand_licence(licence=version, actor=actor) if must_accept else 0
    return AddedLicence(version, fresh=bool(fresh), asked=asked)


def retire_licence(*, model: GatedModel, licence: LicenceVersion, actor: User | None = None) -> None:
    """Remove a text from the current ones; what people accepted stays on record."""
    with recorded():
        lock_model(model.pk)
        current = LicenceVersion.objects.filter(model=model, retired_at__isnull=True)
        if not current.filter(pk=licence.pk).exists():
            raise Conflict(_("%(licence)s has already been retired.") % {"licence": licence})
        if licence.binding and current.filter(name=licence.name).count() > 1:
            raise Conflict(
                _("%(licence)s binds: make another language binding first, or retire its translations.")
                % {"licence": licence}
            )
        kept = [LicenceText(v.name, v.language, v.text) for v in current.exclude(pk=licence.pk)]
        replace_licences(model=model, licences=kept, actor=actor)
