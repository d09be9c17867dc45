"""Who may do what with a model: give people roles, invite them by email address, take roles away."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.utils.module_loading import import_string
from django.utils.translation import gettext as _

from access_requests.access.permissions import is_owner
from access_requests.enums import Role
from access_requests.errors import Conflict, Invalid, NotAllowed, NotFound
from access_requests.models import GatedModel, ModelRole
from access_requests.services.emails.write import queue_mail
from access_requests.services.event_log.append import append_event, recorded
from access_requests.services.locks import lock_model

if TYPE_CHECKING:
    from portal.accounts.models import User


@dataclass(frozen=True)
class Added:
    """The result: `invited` if the person has to set a password first, `changed` if they did not have the role already."""

    person: User
    role: str
    invited: bool
    changed: bool


def assign_role(*, model: GatedModel, user: User, role: str, actor: User | None = None) -> ModelRole | None:
    """Give a person this role for the model; an empty role removes theirs. Idempotent; sends no email.

    Raises `Invalid` for an unknown role, and `Conflict` if the model would lose its last owner. Superusers and operators may
    do that: they own every model.
    """
    if role and role not in Role.values:
        raise Invalid(
            _("There is no role %(role)r: choose owner, reviewer or auditor.") % {"role": role}, field="role"
        )
    with recorded():
        lock_model(model.pk)
        held = ModelRole.objects.filter(model=model, user=user).first()
        if (held.role if held else "") == role:
            return held
        if held is not None and held.role == Role.OWNER and actor is not None and not actor.is_superuser:
            _check_other_owner(model, user)
        if role:
            held, _created = ModelRole.objects.update_or_create(
                model=model, user=user, defaults={"role": role}
            )
        elif held is not None:
            held.delete()
            held = None
        append_event(
            kind="model.role_changed",
            actor=actor,
            by="operator",
            model=model,
            data={"person": user.username, "role": role},
        )
    return held


def add_person(*, model: GatedModel, email: str, role: str, actor: User | None = None) -> Added:
    """Give the person with this address a role and email them; an unknown address gets an account and an invitation.

    Without an actor, an operator does it. Raises `NotAllowed` for an actor who does not own the model, `Invalid` for an address
    or a role that is none, and `Conflict` for a disabled account or the last owner.
    """
    with recorded():
        _check_owner(model, actor)
        invited = import_string(settings.GATEHOUSE_INVITE)(email)
        person: User = invited.user
        if not person.is_active:
            raise Conflict(
                _("The account of %(person)s is disabled: enable it in the admin first.")
                % {"person": person.email}
            )
        before = ModelRole.objects.filter(model=model, user=person).values_list("role", flat=True).first()
        if not role:
            raise Invalid(_("Choose a role: owner, reviewer or auditor."), field="role")
        assign_role(model=model, user=person, role=role, actor=actor)
        needs_password = not person.has_usable_password()
        if before != role or needs_password:
            template = "mails/role_invitation.txt" if needs_password else "mails/role_given.txt"
            _email(template, person, model, role, url=invited.url)
    return Added(person, role, invited=needs_password, changed=before != role)


def remove_person(*, model: GatedModel, user: User, role: str = "", actor: User | None = None) -> str:
    """Take a person's role away at once and email them; return which one it was.

    With `role`, only that one. Raises `NotAllowed` for an actor who does not own the model, `NotFound` if the person does not
    have the role, and `Conflict` for the last owner.
    """
    with recorded():
        _check_owner(model, actor)
        lock_model(model.pk)
        held = ModelRole.objects.filter(model=model, user=user).values_list("role", flat=True).first()
        if held is None or (role and held != role):
            raise NotFound(
                _("%(person)s is not %(role)s of %(model)s.")
                % {"person": user.username, "role": role or _("owner, reviewer or auditor"), "model": model}
            )
        assign_role(model=model, user=user, role="", actor=actor)
        _email("mails/role_ended.txt", user, model, held)
    return held


def _check_owner(model: GatedModel, actor: User | None) -> None:
    if actor is not None and not is_owner(actor, model):
        raise NotAllowed(_("Only an owner of %(model)s may give and take roles.") % {"model": model})


def _check_other_owner(model: GatedModel, user: User) -> None:
    others = ModelRole.objects.filter(model=model, role=Role.OWNER, user__is_active=True).exclude(user=user)
    if not others.exists():
        raise Conflict(
            _("%(person)s is the only owner of %(model)s: make someone else an owner first.")
            % {"person": user.username, "model": model}
        )


def _email(template: str, person: User, model: GatedModel, role: str, **more: Any) -> None:
    event = (
        model.events.filter(kind="model.role_changed").order_by("-pk").values_list("pk", flat=True).first()
    )
    queue_mail(
        key=f"role:{model.pk}:{person.pk}:{event}:{template}",
        to=person.email,
        template=template,
        context={"person": person, "model": model, "role": Role(role).label, **more},
    )
