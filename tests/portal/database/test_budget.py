"""The connections of all parts together: as calculated, and as the server and compose have them."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
import yaml
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.db import connection, transaction

from access_requests.services.locks import share_store
from portal import environment, webserver
from portal.database import budget, kinds
from portal.database.base import pool_size

CHECKOUT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("connections", [budget.FEWEST, 33, 80, 200, 1000])
@pytest.mark.parametrize("processes", [1, 2, 3, 4, 15, 64])
def test_all_parts_together_stay_within_the_total(connections: int, processes: int) -> None:
    processes = min(processes, budget.most_web_processes(connections))
    each = budget.pool_of_web(connections, processes)
    workers = budget.OF_A_WORKER * sum(budget.WORKERS.values())
    assert budget.COMMANDS + workers + processes * (each + budget.HEALTH) <= connections
    assert budget.LEAST <= each <= budget.MOST


def test_more_web_processes_than_connections_are_refused() -> None:
    most = budget.most_web_processes(budget.TOTAL)
    assert budget.pool_of_web(budget.TOTAL, most) >= budget.LEAST > budget.pool_of_web(budget.TOTAL, most + 1)


def test_threads_are_left_while_all_connections_are_waited_for() -> None:
    bodies = 56  # GATEHOUSE_MOST_BODIES of each process
    assert budget.MOST + budget.WAITING + bodies < webserver.threads


def test_default_of_web_processes_needs_no_more_connections_than_there_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("GATEHOUSE_WEB_PROCESSES", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(100)))
    assert environment.web_processes(budget.FEWEST) == 1
    assert environment.web_processes(budget.FEWEST + budget.LEAST + budget.HEALTH) == 2
    assert environment.web_processes(1000) == environment.WEB_PROCESSES_BY_DEFAULT
    monkeypatch.setenv("GATEHOUSE_WEB_PROCESSES", "2")
    with pytest.raises(ImproperlyConfigured, match=r"is 2, and .* allow at most 1"):
        environment.web_processes(budget.FEWEST)


def test_compose_starts_no_more_processes_than_are_counted() -> None:
    services = yaml.safe_load((CHECKOUT / "docker" / "compose.yaml").read_text())["services"]
    started = {
        name.removeprefix("worker-"): int(re.search(r"-c (\d+)", " ".join(service["command"]))[1])  # type: ignore[index]
        for name, service in services.items()
        if name.startswith("worker-")
    }
    assert started.items() <= budget.WORKERS.items()


@pytest.mark.django_db
def test_server_that_allows_fewer_is_one_sentence(settings, capsys: pytest.CaptureFixture[str]) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SHOW max_connections")
        allowed = int(cursor.fetchone()[0]) - 3
    call_command("check", databases=["default"], tags=["database"])
    settings.GATEHOUSE_DATABASE_CONNECTIONS = allowed + 1
    with pytest.raises(
        SystemCheckError, match=f"the server allows {allowed} .* set GATEHOUSE_DATABASE_CONNECTIONS"
    ):
        call_command("check", databases=["default"], tags=["database"])


def test_kinds_have_their_limits(settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kinds, "_current", kinds.COMMAND)
    assert kinds.current().options == ""
    kinds.become(kinds.WORKER)
    assert kinds.current().options.startswith("-c statement_timeout=600s -c lock_timeout=60s ")
    assert pool_size()[0] == budget.OF_A_WORKER
    settings.GATEHOUSE_STATEMENT_SECONDS = 4
    kinds.become(kinds.WEB)
    assert kinds.current().options.startswith("-c statement_timeout=4s -c lock_timeout=2s ")
    settings.GATEHOUSE_DATABASE_CONNECTIONS, settings.GATEHOUSE_WEB_PROCESSES = 80, 6
    assert pool_size() == (8, budget.WAITING)


@pytest.mark.django_db(transaction=True)
def test_transaction_that_stores_a_revision_may_take_longer_and_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kinds, "_current", kinds.WEB)

    def limits() -> list[str]:
        with connection.cursor() as cursor:
            cursor.execute("SELECT current_setting('statement_timeout'), current_setting('lock_timeout')")
            return list(cursor.fetchone())

    before = limits()
    assert before != ["10min", "1min"]
    with transaction.atomic():
        share_store()
        assert limits() == ["10min", "1min"]
    assert limits() == before
