"""Each download is counted once with its row, and leaves the recent count when its day does."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from access_requests.models import GatedModel
from model_ops.hub.fields import count_downloads
from model_ops.models import Download, DownloadDay
from model_ops.services.downloads.counts import drop_old_days
from model_ops.services.downloads.rows import _insert_rows
from tests.threads import all_at_once

DAY = timedelta(days=1)


def rows_of(model: GatedModel, *ages: int, first: int = 0) -> list[Download]:
    """Return unsaved rows, one for each age in days."""
    now = timezone.now()
    return [
        Download(
            request_id=f"{model.pk}-{first + number}", model=model, commit="c" * 40, path="a.bin", bytes_asked=1,
            status=200, started_at=now - DAY * age,
        )
        for number, age in enumerate(ages)
    ]  # fmt: skip


def numbers(model: GatedModel) -> tuple[int, int]:
    """Return the number of recent downloads and of all downloads."""
    return count_downloads([model]).get(model.pk, 0), count_downloads([model], all_time=True).get(model.pk, 0)


@pytest.mark.django_db
def test_rows_are_counted_once_also_when_a_segment_is_moved_twice(
    make_model: Callable[..., Any], tmp_path: Any
) -> None:
    model, other = make_model("ai/tulu"), make_model("ai/other")
    _insert_rows([*rows_of(model, 0, 0, 5), *rows_of(other, 0)], tmp_path)
    assert (numbers(model), numbers(other)) == ((3, 3), (1, 1))
    _insert_rows(rows_of(model, 0, 0, 5, 6), tmp_path)
    assert numbers(model) == (4, 4)


@pytest.mark.django_db
def test_old_days_leave_the_recent_number_and_stay_in_the_whole(
    make_model: Callable[..., Any], tmp_path: Any
) -> None:
    model, other = make_model("ai/tulu"), make_model("ai/other")
    _insert_rows([*rows_of(model, 0, 29, 30, 31, 200), *rows_of(other, 400)], tmp_path)
    drop_old_days()
    assert (numbers(model), numbers(other)) == ((2, 5), (0, 1))
    assert DownloadDay.objects.count() == 2
    assert drop_old_days() == 0


@pytest.mark.django_db(transaction=True)
def test_processes_that_count_at_once_lose_nothing(make_model: Callable[..., Any], tmp_path: Any) -> None:
    models = [make_model(f"ai/model-{number}") for number in range(3)]

    def write(number: int) -> None:
        for step in range(5):
            first = number * 100 + step * 10
            _insert_rows([row for model in models for row in rows_of(model, 0, 40, first=first)], tmp_path)
            drop_old_days()

    all_at_once(6, write)
    drop_old_days()
    assert [numbers(model) for model in models] == [(30, 60)] * 3
