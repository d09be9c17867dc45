"""Worker processes and a mail server that is silent, or accepts an email while its sender is killed."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Generator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.cache import cache
from django.utils import timezone

from access_requests.enums import MailState, Outcome
from access_requests.models import MailServer, OutgoingMail
from access_requests.services.catalogue.gated_models import LicenceText
from access_requests.services.catalogue.roles import assign_role
from access_requests.services.emails import mail_server
from access_requests.services.requests.decide import record_decision
from model_ops.enums import DeliveryState, RecoveryState
from model_ops.models import Delivery
from model_ops.queries import current_recovery
from portal.signs import key_of
from tests.conftest import TULU_CARD
from tests.smtp import SmtpServer, serving
from tests.waiting import wait_until
from tests.workers import workers


@pytest.fixture
def server() -> Generator[SmtpServer]:
    with serving() as started:
        yield started


@pytest.fixture
def start_worker(
    server: SmtpServer, weights_root: Path, tmp_path: Path, transactional_db: None
) -> Generator[Callable[..., subprocess.Popen[bytes]]]:
    """`start_worker("mail")`: start a worker of that queue; with `beat=True` it also runs beat.

    It uses this test's database and mail server.
    """
    address = f"smtp://127.0.0.1:{server.port}"
    with workers(tmp_path, {"GATEHOUSE_STATE": str(weights_root.parent), "EMAIL_URL": address}) as running:
        yield running.start


def all_sent() -> bool:
    """End all pauses and return whether no email is waiting any more."""
    now = timezone.now()
    MailServer.objects.filter(paused_until__gt=now).update(paused_until=now)
    OutgoingMail.objects.filter(next_try_at__gt=now).update(next_try_at=now)
    return not OutgoingMail.objects.filter(state=MailState.WAITING).exists()


def test_approvals_lead_to_weights_while_the_mail_server_is_silent(
    server: SmtpServer,
    start_worker: Callable[..., Any],
    add_files_model: Callable[..., Any],
    make_person: Callable[..., Any],
    submit: Callable[..., Any],
) -> None:
    server.say["CONNECT"] = server.hang
    model = add_files_model(card=TULU_CARD, licences=[LicenceText("licence.txt", "en", "Be good.\n")])
    rita = make_person("rita")
    assign_role(model=model, user=rita, role="reviewer")
    start_worker("mail")
    requests = [submit(make_person(f"ada-{number}"), model) for number in range(40)]
    assert server.hanging.wait(120)
    cache.delete(key_of("default"))
    start_worker("default", beat=True)
    start_worker("recovery")
    for request in requests:
        record_decision(request=request, reviewer=rita, outcome=Outcome.APPROVED)

    wait_until(lambda: Delivery.objects.filter(state=DeliveryState.READY).count() == len(requests))
    recovery = current_recovery(model)
    assert recovery is not None
    assert recovery.state == RecoveryState.READY
    wait_until(lambda: cache.get(key_of("default")))
    wait_until(mail_server.outage)
    assert not OutgoingMail.objects.exclude(state=MailState.WAITING).exists()
    assert len(server.commands) < 10  # paused: more than a hundred emails did not open a connection each

    server.say.clear()
    server.released.set()
    wait_until(all_sent)
    ids = [message["Message-ID"] for message in server.emails]
    assert len(ids) == len(set(ids)) == OutgoingMail.objects.filter(state=MailState.SENT).count()
    assert mail_server.outage() is None


def test_sender_killed_between_the_servers_yes_and_our_commit_sends_the_same_email_again(
    server: SmtpServer, start_worker: Callable[..., Any], transactional_db: None
) -> None:
    started = [start_worker("mail", beat=True)]

    def kill_first(conversation: Any) -> str:
        """Accept the email, but kill the process that waits for this answer."""
        if not server.emails:
            os.killpg(started[0].pid, signal.SIGKILL)
            started[0].wait()
        return "250 taken"

    server.say["END"] = kill_first
    mail = OutgoingMail.objects.create(key="decision:1", to="ada@example.org", subject="One", text="Text\n")
    wait_until(lambda: server.emails)
    started[0].wait()
    claimed = OutgoingMail.objects.get()
    assert (claimed.state, claimed.lease_owner != "") == (MailState.WAITING, True)
    started.append(start_worker("mail", beat=True))
    OutgoingMail.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
    wait_until(lambda: OutgoingMail.objects.get().state == MailState.SENT)
    first, second = server.emails
    assert (first["Message-ID"], first["Date"]) == (second["Message-ID"], second["Date"])
    assert first.get_content().splitlines() == second.get_content().splitlines() == mail.text.splitlines()
