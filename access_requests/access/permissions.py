"""Check permissions by role.

A superuser is owner and reviewer of every model. An auditor reads requests, decisions, the log and downloads, and changes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib.auth import get_user_model
from django.db.models import Q, QuerySet

from access_requests.access.compiled_query import USER_AND_MODEL, CompiledQuery
from access_requests.enums import DECIDING_ROLES, Role
from access_requests.models import GatedModel, ModelRole

if TYPE_CHECKING:
    from portal.accounts.models import User


def is_person(user: Any) -> bool:
    """Return whether this is a signed-in person with an active account."""
    return bool(user and user.is_authenticated and user.is_active)


def is_owner(user: Any, model: GatedModel) -> bool:
    """Return whether the person owns the model: owners change settings and weights, and decide."""
    return is_person(user) and (user.is_superuser or _role_of_person(user, model) == Role.OWNER)


def is_reviewer(user: Any, model: GatedModel) -> bool:
    """Return whether the person may decide requests: owner, reviewer or superuser."""
    return is_person(user) and (user.is_superuser or _role_of_person(user, model) in DECIDING_ROLES)


def has_role(user: Any, model: GatedModel) -> bool:
    """Return whether the person may read the model's requests, log and downloads: any role, or superuser."""
    return is_person(user) and (user.is_superuser or _role_of_person(user, model) is not None)


def _role_of_person(user: Any, model: GatedModel) -> str | None:
    rows = _roles(user=user.pk, model=model.pk)
    return rows[0][0] if rows else None


_roles = CompiledQuery(
    lambda user, model: ModelRole.objects.filter(user=user, model=model).values_list("role"),
    **USER_AND_MODEL,
)


def reviewers_of(model: GatedModel) -> QuerySet[User]:
    """Return everyone who may decide for the model, including superusers."""
    return get_user_model().objects.filter(
        Q(is_superuser=True) | Q(pk__in=model.roles.filter(role__in=DECIDING_ROLES).values("user")),
        is_active=True,
    )


def people_to_tell(model: GatedModel, *, owners_only: bool = False) -> QuerySet[User]:
    """Return who gets emails about the model: its owners (and reviewers), or superusers if there are none."""
    roles = model.roles.filter(role__in=[Role.OWNER] if owners_only else DECIDING_ROLES)
    named = get_user_model().objects.filter(is_active=True, pk__in=roles.values("user"))
    if named.exists():
        return named
    return get_user_model().objects.filter(is_active=True, is_superuser=True)


def decidable_models(user: Any) -> QuerySet[GatedModel]:
    """Return the models whose requests this person may decide."""
    if not is_person(user):
        return GatedModel.objects.none()
    if user.is_superuser:
        return GatedModel.objects.all()
    return GatedModel.objects.filter(roles__user=user, roles__role__in=DECIDING_ROLES)


def models_with_role(user: Any) -> QuerySet[GatedModel]:
    """Return the models whose requests, log and downloads this person may read."""
    if not is_person(user):
        return GatedModel.objects.none()
    if user.is_superuser:
        return GatedModel.objects.all()
    return GatedModel.objects.filter(roles__user=user)


def decides_somewhere(user: Any) -> bool:
    """Return whether the person is owner or reviewer of any model, or a superuser."""
    return is_person(user) and (
        user.is_superuser or ModelRole.objects.filter(user=user, role__in=DECIDING_ROLES).exists()
    )
