"""Read a person's grant, role and requests for a model in one query, which runs on every request for a file."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

from django.contrib.postgres.expressions import ArraySubquery
from django.db.models import Exists, F, FilteredRelation, OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import Lower
from django.db.models.lookups import Exact, IsNull
from django.utils import timezone

from access_requests.access.compiled_query import (
    SAMPLE_MOMENT,
    SAMPLE_NUMBER,
    SAMPLE_TEXT,
    CompiledQuery,
    columns,
    instance,
)
from access_requests.enums import Role
from access_requests.models import (
    AccessRequest,
    GatedModel,
    Grant,
    LicenceAcceptance,
    LicenceVersion,
    ModelRole,
)
from access_requests.storable_text import is_storable


@dataclass(frozen=True)
class Standing:
    """A person's live grant and whether it waits for a licence, their role, and whether they have asked."""

    grant: Grant | None
    owes_licence: bool
    role: str
    was_here: bool


def standing_in(model: GatedModel, user: Any) -> Standing:
    """Return where this person stands with the model now; one query."""
    rows = _prepared_queries().by_number(number=model.pk, user=user.pk, now=timezone.now())
    return _read_standing(rows[0], user)[1]


def standing_by_name(repo_id: str, user: Any) -> tuple[GatedModel, Standing] | None:
    """Return the model with that id, ignoring case, and where this person stands with it; one query."""
    if not is_storable(repo_id):
        return None
    rows = _prepared_queries().by_name(repo_id=repo_id.lower(), user=user.pk, now=timezone.now())
    return _read_standing(rows[0], user) if rows else None


@dataclass(frozen=True)
class _Queries:
    of_model: list[str]
    of_grant: list[str]
    by_name: CompiledQuery
    by_number: CompiledQuery


@cache
def _prepared_queries() -> _Queries:
    of_model, of_grant = columns(GatedModel, but=["card"]), columns(Grant, prefix="standing_grant__")

    def row(models: QuerySet[GatedModel], user: int, now: datetime) -> QuerySet[Any, Any]:
        live = Q(grants__user=user, grants__revoked_at__isnull=True)
        live &= Q(grants__starts_at__lte=now, grants__ends_at__gt=now)
        roles = ModelRole.objects.filter(model=OuterRef("pk"), user=user)
        with_standing = models.annotate(
            standing_grant=FilteredRelation("grants", condition=live),
            standing_owes=Exists(owed("standing_grant__")),
            standing_role=Subquery(roles.values("role")[:1]),
            standing_was_here=Exists(Grant.objects.filter(model=OuterRef("pk"), user=user))
            | Exists(AccessRequest.objects.filter(model=OuterRef("pk"), applicant=user)),
        )
        facts = ("standing_owes", "standing_role", "standing_was_here")
        return with_standing.order_by().values_list(*of_model, *of_grant, *facts)

    def by_name(repo_id: str, user: int, now: datetime) -> QuerySet[Any, Any]:
        return row(GatedModel.objects.filter(Exact(Lower("repo_id"), repo_id)), user, now)

    def by_number(number: int, user: int, now: datetime) -> QuerySet[Any, Any]:
        return row(GatedModel.objects.filter(pk=number), user, now)

    samples = {"user": SAMPLE_NUMBER, "now": SAMPLE_MOMENT}
    return _Queries(
        of_model,
        of_grant,
        CompiledQuery(by_name, repo_id=SAMPLE_TEXT, **samples),
        CompiledQuery(by_number, number=SAMPLE_NUMBER - 1, **samples),
    )


def _read_standing(row: tuple[Any, ...], user: Any) -> tuple[GatedModel, Standing]:
    queries = _prepared_queries()
    end = len(queries.of_model)
    *of_grant, owes, role, was_here = row[end:]
    model = instance(GatedModel, queries.of_model, row[:end])
    grant = instance(Grant, queries.of_grant, of_grant) if of_grant[0] is not None else None
    if grant is not None:
        grant.model = model
    return model, Standing(grant, owes, Role.OWNER.value if user.is_superuser else role or "", was_here)


def owed(grant: str = "") -> QuerySet[LicenceVersion]:
    """Return the binding texts that a grant's holder must accept first, for `Exists` on a row with grant fields named `grant...`.

    For access without a request, texts of that time count as accepted and only newer ones are owed.
    """
    # Before there was a binding text, each language was accepted by itself.
    of_licence = Q(IsNull(F("binding"), False)) | Q(licence__language=OuterRef("language"))
    accepted = LicenceAcceptance.objects.filter(
        of_licence,
        user=OuterRef(OuterRef(f"{grant}user")),
        licence__model=OuterRef("model"),
        licence__name=OuterRef("name"),
        accepted_at__gte=OuterRef("must_accept_at"),
    )
    newer = Q(must_accept_at__gt=OuterRef(f"{grant}starts_at"))
    return LicenceVersion.objects.filter(
        newer | Q(IsNull(OuterRef(f"{grant}request"), False)),
        ~Exists(accepted),
        model=OuterRef(f"{grant}model"),
        binding=True,
        retired_at__isnull=True,
        must_accept_at__isnull=False,
    )


def owing(grants: QuerySet[Grant]) -> QuerySet[Any]:
    """Annotate grants with `owes`: whether their holder must accept a licence text first."""
    return grants.annotate(owes=Exists(owed()))


def owed_licences(grant: Grant) -> list[LicenceVersion]:
    """Return the binding texts that the holder of this grant must accept before further downloads."""
    found = Grant.objects.filter(pk=grant.pk).values_list(ArraySubquery(owed().values("pk")), flat=True).get()
    return list(LicenceVersion.objects.filter(pk__in=found).order_by("pk"))
