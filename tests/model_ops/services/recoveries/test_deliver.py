"""Grants that wait for weights: each has its row from the start, and finding lost messages has a constant cost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.core.cache import cache
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from access_requests.models import Grant, OutgoingMail
from access_requests.services.grants import revoke_access
from model_ops.enums import DeliveryState, RecoveryState
from model_ops.models import Delivery, Recovery
from model_ops.services.recoveries import deliver
from model_ops.services.recoveries.deliver import LOOKED_AT, resume_deliveries
from model_ops.services.recoveries.run import run_recovery


@pytest.fixture(autouse=True)
def from_the_beginning(transactional_db: None) -> None:
    """Forget where another test's search ended."""
    cache.delete(LOOKED_AT)


def test_grant_and_delivery_are_written_together_or_not_at_all(
    add_files_model: Callable[..., Any], grant: Callable[..., Any]
) -> None:
    model = add_files_model()
    with transaction.atomic():
        given = grant(model, "ada")
        assert Delivery.objects.filter(grant=given, state=DeliveryState.WAITING).exists()
        transaction.set_rollback(True)
    assert (Grant.objects.count(), Delivery.objects.count()) == (0, 0)


def test_grant_whose_message_was_lost_has_its_recovery_wanted_and_is_told(
    add_files_model: Callable[..., Any], grant: Callable[..., Any]
) -> None:
    given = grant(add_files_model(), "ada")
    assert Recovery.objects.get().wanted_at is None

    assert resume_deliveries() == 1
    assert Recovery.objects.get().wanted_at is not None
    assert resume_deliveries() == 0
    run_recovery(recovery_id=Recovery.objects.get().pk)
    assert Delivery.objects.get(grant=given).state == DeliveryState.READY
    assert resume_deliveries() == 0


def test_grant_that_waits_though_its_recovery_has_ended_is_told(
    add_files_model: Callable[..., Any], grant: Callable[..., Any]
) -> None:
    given = grant(add_files_model(), "ada")
    Recovery.objects.update(state=RecoveryState.FAILED, error="It failed.", wanted_at=timezone.now())

    assert resume_deliveries() == 1
    assert Delivery.objects.get(grant=given).state == DeliveryState.FAILED
    assert OutgoingMail.objects.filter(key__startswith="weights-failed").count() == 1


def test_grant_that_fails_holds_no_other_up(
    add_files_model: Callable[..., Any], grant: Callable[..., Any], as_owner: Any
) -> None:
    model = add_files_model()
    first, second = grant(model, "ada"), grant(model, "grace")
    Recovery.objects.update(state=RecoveryState.FAILED, error="It failed.", wanted_at=timezone.now())
    as_owner.execute(
        "CREATE FUNCTION refuse_mail() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'refused'; END $$; "
        "CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON access_requests_outgoingmail NOT DEFERRABLE FOR EACH ROW "
        f"WHEN (NEW.key LIKE 'weights-failed:{first.pk}:%') EXECUTE FUNCTION refuse_mail()"
    )
    try:
        assert resume_deliveries() == 1
        assert Delivery.objects.get(grant=first).state == DeliveryState.WAITING
        assert Delivery.objects.get(grant=second).state == DeliveryState.FAILED
    finally:
        as_owner.execute("DROP FUNCTION refuse_mail() CASCADE")
    assert resume_deliveries() == 1
    assert Delivery.objects.get(grant=first).state == DeliveryState.FAILED


def test_delivery_of_a_grant_that_has_ended_waits_no_more(
    add_files_model: Callable[..., Any], grant: Callable[..., Any]
) -> None:
    model = add_files_model()
    given = grant(model, "ada")
    revoke_access(model=model, user=given.user)

    assert resume_deliveries() == 0
    assert Delivery.objects.get(grant=given).state == DeliveryState.OVER


def test_all_that_wait_are_looked_at_in_turn(
    add_files_model: Callable[..., Any], grant: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliver, "AT_ONCE", 2)  # instead of the 200 that one query may take
    model = add_files_model()
    Recovery.objects.update(wanted_at=timezone.now())
    grants = [grant(model, name) for name in ("ada", "grace", "edsger", "barbara", "tony")]
    seen: list[int] = []
    for _ in range(3):
        seen += [row[1] for row in deliver._next_waiting()]
    assert sorted({*seen}) == [given.pk for given in grants]
    assert len(seen) == 6  # the third search starts again with the first


def test_looking_costs_as_many_queries_for_a_thousand_as_for_ten(
    add_files_model: Callable[..., Any], grant: Callable[..., Any], make_person: Callable[..., Any]
) -> None:
    model = add_files_model()
    given = grant(model, "ada")
    Recovery.objects.update(wanted_at=timezone.now())
    User = type(given.user)
    counts, made = [], 1
    for most in (10, 1000):
        people = User.objects.bulk_create(
            [User(username=f"p{n}", email=f"p{n}@example.org") for n in range(made, most)]
        )
        grants = Grant.objects.bulk_create(
            [Grant(model=model, user=one, source=given.source, ends_at=given.ends_at) for one in people]
        )
        Delivery.objects.bulk_create([Delivery(grant=one) for one in grants])
        made = most
        with CaptureQueriesContext(connection) as queries:
            assert resume_deliveries() == 0
        counts.append(len(queries))
    assert Delivery.objects.filter(state=DeliveryState.WAITING).count() == 1000
    assert counts == [3, 3]
