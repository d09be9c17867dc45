"""Find the models that a person may see, and the model that an address names."""

from __future__ import annotations

from typing import Any

from django.db.models import CharField, F, Func, Q, QuerySet, Value
from django.db.models.functions import Lower
from django.db.models.lookups import Exact

from access_requests.access.compiled_query import (
    SAMPLE_TEXT,
    CompiledQuery,
)
from access_requests.access.permissions import has_role, is_person
from access_requests.enums import DECIDING_ROLES, Role
from access_requests.models import (
    AccessRequest,
    GatedModel,
    Grant,
    ModelRole,
    Namespace,
)
from access_requests.storable_text import is_storable


def may_know_of(user: Any, model: GatedModel) -> bool:
    """Return whether a person may know of a model: unlisted ones are hidden without a role, request or grant."""
    if model.listed or has_role(user, model):
        return True
    return is_person(user) and (
        model.grants.filter(user=user).exists() or model.requests.filter(applicant=user).exists()
    )


def visible_models(user: Any) -> QuerySet[GatedModel]:
    """Return the part of the catalogue that this person may see.

    It uses no joins, which would read every request and grant of each model.
    """
    if not is_person(user):
        return GatedModel.objects.filter(listed=True)
    if user.is_superuser:
        return GatedModel.objects.all()
    mine = (
        ModelRole.objects.filter(user=user),
        Grant.objects.filter(user=user),
        AccessRequest.objects.filter(applicant=user),
    )
    known = Q(listed=True)
    for rows in mine:
        known |= Q(pk__in=rows.order_by().values("model"))
    return GatedModel.objects.filter(known)


def find_model(repo_id: str) -> GatedModel | None:
    """Return the model with that id, ignoring case; the card is deferred."""
    return _by_name.first(repo_id=repo_id.lower()) if is_storable(repo_id) else None


_by_name = CompiledQuery(
    lambda repo_id: models_named(repo_id).select_related("form").defer("card"), repo_id=SAMPLE_TEXT
)


def models_named(repo_id: str) -> QuerySet[GatedModel]:
    """Return a queryset with the model of that id, ignoring case, or an empty one."""
    if not is_storable(repo_id):
        return GatedModel.objects.none()
    # Like the unique index; `iexact` would compare in upper case.
    return GatedModel.objects.filter(Exact(Lower("repo_id"), repo_id.lower()))


def find_renamed(repo_id: str) -> GatedModel | None:
    """Return the model that once had this id, ignoring case."""
    if not is_storable(repo_id):
        return None
    same = Exact(Lower("former_ids__repo_id"), repo_id.lower())
    return GatedModel.objects.select_related("form").filter(same).first()


def namespaces_of(person: Any) -> dict[str, tuple[str, str]]:
    """Return the namespaces where this person is owner or reviewer: full name (or name) and their highest role there.

    Their own user name is left out, since it is not an organization. Takes two queries and reads each
    namespace once.
    """
    namespace = Func(
        F("model__repo_id"), Value("/"), Value(1), function="SPLIT_PART", output_field=CharField()
    )
    deciding = ModelRole.objects.filter(user=person, role__in=DECIDING_ROLES)
    held = deciding.values_list(namespace, "role").distinct()
    roles: dict[str, str] = {}
    for name, role in held:
        if name.lower() != person.username.lower():
            roles[name] = Role.OWNER.value if Role.OWNER in (role, roles.get(name)) else role
    lower = [name.lower() for name in roles]
    named = Namespace.objects.annotate(lower=Lower("name")).filter(lower__in=lower)
    names = dict(named.values_list("lower", "full_name"))
    return {name: (names.get(name.lower(), name), roles[name]) for name in sorted(roles)}
