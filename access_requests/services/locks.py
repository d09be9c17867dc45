"""Lock rows for services, in the order of ARCHITECTURE.md ("The order of locks").

What a person has for a model (request, grant, place elsewhere) and what is counted per person (tokens,
machines, trusted repositories) changes under the lock of the person's row. So two of these services never see
each other's partial work, and services for different people run in parallel, even on one model. Row locks are
`FOR NO KEY UPDATE` or `FOR SHARE`: neither makes the foreign keys of an event wait.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib.auth import get_user_model
from django.db import connection

from access_requests.models import AccessRequest, GatedModel, Grant

if TYPE_CHECKING:
    from portal.accounts.models import User

NAMES_LOCK = 0x6E616D6573  # "names"
STORE_LOCK = 0x73746F7265  # "store"


def lock_names() -> None:
    """Let only one transaction at a time change models' ids, which are unique across two tables."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [NAMES_LOCK])


def share_store() -> None:
    """Prevent the clean-up of stored contents until the transaction that refers to them ends.

    Any number of transactions share this lock; `lock_store` waits for all of them. This transaction may write
    a revision with 100,000 files, or wait for a clean-up of all contents, so it may take longer than a page's
    other transactions.
    """
    connection.be_patient()  # type: ignore[attr-defined]  # of our backend, portal/database
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock_shared(%s)", [STORE_LOCK])


def lock_store() -> None:
    """Wait until no transaction refers to contents without being committed, and let none begin."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [STORE_LOCK])


def lock_person(pk: int) -> User:
    """Lock a person's row until the transaction ends; return the person as they are now."""
    return get_user_model().objects.select_for_update(no_key=True).get(pk=pk)


def lock_model(pk: int) -> GatedModel:
    """Lock a model's row until the transaction ends; return the model as it is now."""
    return GatedModel.objects.select_for_update(no_key=True, of=("self",)).select_related("form").get(pk=pk)


def keep_model(pk: int) -> None:
    """Keep a model's form, licences and settings unchanged until the transaction ends; a shared lock."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT 1 FROM {GatedModel._meta.db_table} WHERE id = %s FOR SHARE", [pk])  # noqa: S608


def lock_request(request: AccessRequest) -> AccessRequest:
    """Lock the applicant's row, then the request's; return the request as it is now, with model, applicant and form."""
    lock_person(request.applicant_id)
    return (
        AccessRequest.objects.select_for_update(no_key=True, of=("self",))
        .select_related("model", "applicant", "form")
        .get(pk=request.pk)
    )


def lock_grant(pk: int) -> Grant:
    """Lock a grant's row; return the grant as it is now, with model and person."""
    return (
        Grant.objects.select_for_update(no_key=True, of=("self",)).select_related("model", "user").get(pk=pk)
    )
