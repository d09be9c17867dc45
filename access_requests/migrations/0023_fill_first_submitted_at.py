"""Fill in when requests were first submitted, from the event log, one transaction per batch."""

from django.db import migrations

BATCH = 5_000  # requests

# The event is written a moment after the date that it reports.
FILL = """
UPDATE access_requests_accessrequest r SET first_submitted_at = LEAST(r.submitted_at, (
    SELECT min(e.at) FROM access_requests_event e WHERE e.request_id = r.id AND e.kind = 'request.submitted'))
WHERE r.id > %s AND r.id <= %s AND r.submitted_at IS NOT NULL AND r.first_submitted_at IS NULL
"""


def fill(apps, schema_editor):
    """Fill in missing dates. If interrupted, it continues where it stopped."""
    with schema_editor.connection.cursor() as cursor:
        cursor.execute("SELECT coalesce(max(id), 0) FROM access_requests_accessrequest")
        last = cursor.fetchone()[0]
        for start in range(0, last, BATCH):
            cursor.execute(FILL, [start, start + BATCH])
        cursor.execute("ANALYZE access_requests_accessrequest")


class Migration(migrations.Migration):
    atomic = False  # each batch commits

    dependencies = [("access_requests", "0022_first_submitted_at")]

    operations = [migrations.RunPython(fill, migrations.RunPython.noop)]
