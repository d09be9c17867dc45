"""Store where people are in the Hub's lists.

`review_lists.place_of` computes the same for one person in Python.
"""

from __future__ import annotations

from django.contrib.auth import get_user_model
from django.db import connection, transaction

from access_requests.models import AccessRequest, Grant

AT_ONCE = 1000  # people

# Like `review_lists.place_of` and `ReviewEntry.asked_at`, but ended access counts until a task notices its end.
WRITE = """
    INSERT INTO access_requests_listplace (model_id, person_id, place, asked_at)
    SELECT who.model_id, who.person_id,
        CASE WHEN g.id IS NOT NULL AND g.closed_at IS NULL THEN 'accepted'
            WHEN r.id IS NULL AND g.id IS NULL THEN ''
            WHEN r.id IS NULL THEN 'reset'
            WHEN r.closed_at IS NULL THEN 'pending'
            WHEN r.state = 'rejected' AND (g.id IS NULL OR r.closed_at >= g.starts_at) THEN 'rejected'
            ELSE 'reset' END,
        CASE WHEN g.id IS NOT NULL AND g.closed_at IS NULL THEN coalesce(of_grant.submitted_at, g.starts_at)
            ELSE coalesce(r.submitted_at, g.starts_at) END
    FROM ({who}) AS who
    LEFT JOIN LATERAL (
        SELECT * FROM access_requests_accessrequest
        WHERE model_id = who.model_id AND applicant_id = who.person_id
            AND submitted_at IS NOT NULL AND state NOT IN ('draft', 'withdrawn')
        ORDER BY closed_at DESC NULLS FIRST, id DESC LIMIT 1) AS r ON true
    LEFT JOIN LATERAL (
        SELECT * FROM access_requests_grant WHERE model_id = who.model_id AND user_id = who.person_id
        ORDER BY id DESC LIMIT 1) AS g ON true
    LEFT JOIN access_requests_accessrequest AS of_grant ON of_grant.id = g.request_id
    ON CONFLICT (person_id, model_id) DO UPDATE SET place = excluded.place, asked_at = excluded.asked_at"""
ONE = "SELECT %s::bigint AS model_id, %s::bigint AS person_id"
MANY = """
    SELECT model_id, applicant_id AS person_id FROM access_requests_accessrequest WHERE applicant_id = ANY (%s::bigint[])
    UNION SELECT model_id, user_id FROM access_requests_grant WHERE user_id = ANY (%s::bigint[])"""


def note_place(*, request: AccessRequest | None, grant: Grant | None) -> None:
    """Store where the person of a request or grant is now, in the transaction that changed it.

    The caller holds the person's lock, so that simultaneous changes see each other.
    """
    found = (request.model_id, request.applicant_id) if request else None
    if found is None and grant is not None:
        found = (grant.model_id, grant.user_id)
    if found is not None:
        with connection.cursor() as cursor:
            cursor.execute(WRITE.format(who=ONE), found)


def write_places() -> int:
    """Store the places of all people, after rows that no service wrote; return how many people have one.

    Each transaction locks a bounded number of people, in the way services do, so the portal can keep running.
    """
    written, last = 0, 0
    while True:
        with transaction.atomic():
            people = get_user_model().objects.select_for_update(no_key=True).filter(pk__gt=last)
            keys = list(people.order_by("pk").values_list("pk", flat=True)[:AT_ONCE])
            if not keys:
                return written
            with connection.cursor() as cursor:
                cursor.execute(WRITE.format(who=MANY) + " RETURNING person_id", [keys, keys])
                written += len(set(cursor.fetchall()))
        last = keys[-1]
