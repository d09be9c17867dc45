"""Store everyone's place in the lists from the existing requests and grants, one transaction per batch."""

from typing import Any

from django.db import migrations, models, transaction

from access_requests.indexing import AddIndex

AT_ONCE = 5000  # people
FILL = """
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
    FROM (
        SELECT model_id, applicant_id AS person_id FROM access_requests_accessrequest
        WHERE applicant_id BETWEEN %s AND %s
        UNION SELECT model_id, user_id FROM access_requests_grant WHERE user_id BETWEEN %s AND %s) AS who
    LEFT JOIN (
        SELECT DISTINCT ON (model_id, applicant_id) * FROM access_requests_accessrequest
        WHERE applicant_id BETWEEN %s AND %s AND submitted_at IS NOT NULL AND state NOT IN ('draft', 'withdrawn')
        ORDER BY model_id, applicant_id, closed_at DESC NULLS FIRST, id DESC) AS r
        ON r.model_id = who.model_id AND r.applicant_id = who.person_id
    LEFT JOIN (
        SELECT DISTINCT ON (model_id, user_id) * FROM access_requests_grant WHERE user_id BETWEEN %s AND %s
        ORDER BY model_id, user_id, id DESC) AS g ON g.model_id = who.model_id AND g.user_id = who.person_id
    LEFT JOIN access_requests_accessrequest AS of_grant ON of_grant.id = g.request_id
    ON CONFLICT (person_id, model_id) DO UPDATE SET place = excluded.place, asked_at = excluded.asked_at"""


def fill(apps: Any, editor: Any) -> None:
    with editor.connection.cursor() as cursor:
        cursor.execute("SELECT min(id), max(id) FROM accounts_user")
        first, last = cursor.fetchone()
        for start in range(first or 1, (last or 0) + 1, AT_ONCE):
            with transaction.atomic():
                cursor.execute(FILL, [start, start + AT_ONCE - 1] * 4)


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("access_requests", "0016_list_places")]

    operations: list[Any] = [
        migrations.RunPython(fill, migrations.RunPython.noop),
        AddIndex(
            "listplace",
            models.Index(fields=["model", "place", "asked_at", "person"], name="list_place_order"),
        ),
        AddIndex(
            "accessrequest",
            models.Index(
                condition=models.Q(("state__in", ("submitted", "in_review", "appealed"))),
                fields=["model"],
                name="request_waiting_of_model",
            ),
        ),
        AddIndex(
            "grant",
            models.Index(
                condition=models.Q(("closed_at__isnull", True)),
                fields=["model", "ends_at"],
                name="grant_open_by_end",
            ),
        ),
    ]
