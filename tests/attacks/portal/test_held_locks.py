"""A held log lock or an uncommitted decision does not block pages and other decisions."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from django.db import connection, transaction
from django.test import Client

from access_requests.enums import Outcome
from access_requests.models import Decision
from access_requests.services.catalogue.roles import assign_role
from access_requests.services.event_log.append import verify_chain
from access_requests.services.requests.decide import record_decision
from access_requests.services.requests.submit import save_draft, start_request
from tests.conftest import TULU_ANSWERS
from tests.threads import all_at_once, impatient

CHAIN_LOCK = 0x6761746568  # as in access_requests/migrations/0012_event_log_chain.py

pytestmark = pytest.mark.django_db(transaction=True)


@contextmanager
def log_held() -> Generator[None]:
    """Hold the log's lock on another connection, as a transaction that commits does."""
    settings = {**connection.get_connection_params()}
    names = ("dbname", "user", "password", "host", "port")
    with psycopg.connect(**{name: settings[name] for name in names if settings.get(name)}) as other:
        other.execute("SELECT pg_advisory_xact_lock(%s)", [CHAIN_LOCK])
        yield
        other.rollback()


def test_pages_and_drafts_do_not_wait_for_the_log(
    make_person: Callable[..., Any], make_model: Callable[..., Any], submit: Callable[..., Any]
) -> None:
    model, ada, bob, olga = make_model(), make_person("ada"), make_person("bob"), make_person("olga")
    assign_role(model=model, user=olga, role="owner")
    submit(ada, model)
    draft = start_request(model=model, applicant=bob)
    client = Client()
    client.force_login(ada)
    with impatient(), log_held():
        for path in ("/", "/me/", "/ai/tulu", "/me/tokens", "/ai/tulu/licences"):
            assert client.get(path).status_code == 200, path
        save_draft(request=draft, applicant=bob, answers=TULU_ANSWERS)  # no event, so no link


def test_decision_that_is_not_committed_holds_back_no_page_and_no_other_decision(
    make_person: Callable[..., Any], make_model: Callable[..., Any], submit: Callable[..., Any]
) -> None:
    model, ada, bob, olga = make_model(), make_person("ada"), make_person("bob"), make_person("olga")
    assign_role(model=model, user=olga, role="owner")
    first, second = submit(ada, model), submit(bob, model)
    client = Client()
    client.force_login(ada)
    written, done = threading.Event(), threading.Event()

    def work(number: int) -> None:
        if number == 0:
            with transaction.atomic():
                record_decision(request=first, reviewer=olga, outcome=Outcome.APPROVED)
                written.set()
                assert done.wait(120)
            return
        assert written.wait(120)
        try:
            with impatient():
                assert client.get("/ai/tulu").status_code == 200
                record_decision(request=second, reviewer=olga, outcome=Outcome.APPROVED)
        finally:
            done.set()

    all_at_once(2, work)
    assert Decision.objects.count() == 2
    assert verify_chain().ok
