"""Count downloads of models while the log is written, so that no page counts the log's rows.

`ModelDownloads.recent` is the sum of the model's days. A task subtracts days when they are too old.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, date, timedelta

from django.db import connection, transaction
from django.db.models import F, Sum
from django.utils import timezone

from model_ops.models import Download, DownloadDay, ModelDownloads

RECENT = timedelta(days=30)  # `downloads` on the Hub are those of the last 30 days

ADD_TO_MODELS = """
    INSERT INTO model_ops_modeldownloads (model_id, recent, all_time)
    SELECT model, bodies, bodies FROM unnest(%s::bigint[], %s::bigint[]) AS new (model, bodies) ORDER BY model
    ON CONFLICT (model_id) DO UPDATE SET recent = model_ops_modeldownloads.recent + excluded.recent,
        all_time = model_ops_modeldownloads.all_time + excluded.all_time"""
ADD_TO_DAYS = """
    INSERT INTO model_ops_downloadday (model_id, day, bodies)
    SELECT * FROM unnest(%s::bigint[], %s::date[], %s::bigint[]) AS new (model, day, bodies) ORDER BY model, day
    ON CONFLICT (model_id, day) DO UPDATE SET bodies = model_ops_downloadday.bodies + excluded.bodies"""


def count_rows(rows: Iterable[Download]) -> None:
    """Count new rows of the log, in the transaction that writes them.

    Lock a model's row before its days, and models by key, so that processes that count at the same time do not deadlock.
    """
    days = Counter((row.model_id, row.started_at.astimezone(UTC).date()) for row in rows)
    if not days:
        return
    models: Counter[int] = Counter()
    for (model, _), bodies in days.items():
        models[model] += bodies
    with connection.cursor() as cursor:
        cursor.execute(ADD_TO_MODELS, [list(models), list(models.values())])
        numbers = [model for model, _ in days], [day for _, day in days], list(days.values())
        cursor.execute(ADD_TO_DAYS, list(numbers))


def drop_old_days() -> int:
    """Subtract days that are no longer recent from their models' numbers; return the number of rows."""
    with transaction.atomic():
        old = DownloadDay.objects.filter(day__lte=oldest_day())
        leaving = old.order_by().values("model")
        models = ModelDownloads.objects.select_for_update(no_key=True).filter(model__in=leaving)
        held = [row.pk for row in models.order_by("pk")]
        sums = old.filter(model__in=held).order_by().values("model").annotate(bodies=Sum("bodies"))
        for model, bodies in sums.values_list("model", "bodies"):
            ModelDownloads.objects.filter(pk=model).update(recent=F("recent") - bodies)
        return old.filter(model__in=held).delete()[0]


def oldest_day() -> date:
    """Return the last day that is not recent any more."""
    return (timezone.now() - RECENT).astimezone(UTC).date()
