"""Add partial indexes of what is due, without blocking writes, and missing deliveries.

Until now a grant's delivery was written after the grant, and could be lost between the two.
"""

from __future__ import annotations

from django.db import migrations, models
from django.db.models import Q

from access_requests.indexing import AddIndex

MISSING = """
INSERT INTO model_ops_delivery (grant_id, state, created_at)
SELECT access.id, 'waiting', now() FROM access_requests_grant access
WHERE access.closed_at IS NULL AND NOT EXISTS (SELECT FROM model_ops_delivery WHERE grant_id = access.id)
ON CONFLICT DO NOTHING
"""
INDEXES = {
    "delivery": models.Index(fields=["id"], condition=Q(state="waiting"), name="delivery_waiting"),
    "recovery": models.Index(
        fields=["wanted_at", "id"],
        condition=Q(state__in=("planned", "running"), wanted_at__isnull=False),
        name="recovery_moving",
    ),
    "recoveryshard": models.Index(fields=["id"], condition=~Q(state="done"), name="shard_not_done"),
    "unjoinedend": models.Index(fields=["read_at"], name="unjoined_by_time"),
    "smokerun": models.Index(fields=["wanted_at"], condition=Q(state="waiting"), name="smoke_waiting"),
}
WAITING = {"recovery": "recovery_waiting", "recoveryshard": "shard_waiting"}


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("model_ops", "0007_waiting")]

    operations = [
        *(AddIndex(model, index) for model, index in INDEXES.items()),
        *(
            AddIndex(model, models.Index(fields=["retry_at"], condition=~Q(waiting_for=""), name=name))
            for model, name in WAITING.items()
        ),
        migrations.RunSQL(MISSING, migrations.RunSQL.noop),
    ]
