"""Workers in their own processes follow a Hub that accepts every connection and never answers."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Generator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.cache import cache
from django.utils import timezone

from access_requests.enums import Outcome, PushState
from access_requests.models import AccessRequest, FollowedRepo, Grant, RemotePush
from access_requests.services.catalogue.roles import assign_role
from access_requests.services.following import polling
from access_requests.services.following.managing import follow
from access_requests.services.requests.decide import record_decision
from model_ops.enums import DeliveryState
from model_ops.models import Delivery
from portal.signs import key_of
from tests.attacks.portal.hostile_remote import HostileRemote, answer
from tests.conftest import TULU_CARD
from tests.model_ops.conftest import add_files_model, files_folder, weights_root
from tests.waiting import wait_until
from tests.workers import Workers, workers

__all__ = ["add_files_model", "files_folder", "weights_root"]

ASKED = {"timestamp": "2026-11-20T10:00:00.000Z", "fields": {"Institution": "Lab"}}
LATER = timedelta(seconds=30)  # longer than the pause of a single push that failed
PEOPLE = [{"user": {"user": f"zoe-{number}"}, **ASKED} for number in range(5)]


class SilentRemote(HostileRemote):
    """A remote that never answers while `silent`; requests that wait are dropped once `speaks` is set."""

    def __init__(self) -> None:
        super().__init__(self.reply)
        self.list = "pending"  # the list that the people are in
        self.silent, self.speaks, self.waiting = False, threading.Event(), threading.Semaphore(0)

    def reply(self, sock: socket.socket, path: str) -> None:
        if self.silent:
            self.waiting.release()
            self.speaks.wait()
        else:
            sock.sendall(answer(PEOPLE if f"/{self.list}" in path else []))

    def speak(self) -> None:
        self.silent = False
        self.speaks.set()


@pytest.fixture
def remote() -> Generator[SilentRemote]:
    made = SilentRemote()
    yield made
    made.speak()
    made.close()


@pytest.fixture
def other() -> Generator[SilentRemote]:
    """Return a remote that always answers."""
    made = SilentRemote()
    yield made
    made.close()


@pytest.fixture
def running(
    remote: SilentRemote,
    other: SilentRemote,
    weights_root: Path,
    tmp_path: Path,
    transactional_db: None,
    settings: Any,
) -> Generator[Workers]:
    settings.GATEHOUSE_FOLLOW_TOKENS = {hub.url: "hf_secret" for hub in (remote, other)}
    extra = {
        "GATEHOUSE_STATE": str(weights_root.parent),
        "GATEHOUSE_FOLLOW_TOKENS": " ".join(f"{hub.url}=hf_secret" for hub in (remote, other)),
    }
    with workers(tmp_path, extra) as made:
        yield made


def all_told() -> bool:
    """Return whether every decision has reached the remote; end all pauses first."""
    RemotePush.objects.filter(state=PushState.DUE).update(next_try_at=timezone.now())
    return not RemotePush.objects.exclude(state=PushState.DONE).exists()


def test_approvals_lead_to_weights_while_a_followed_hub_is_silent(
    remote: SilentRemote,
    running: Workers,
    add_files_model: Callable[..., Any],
    make_model: Callable[..., Any],
    make_person: Callable[..., Any],
    submit: Callable[..., Any],
) -> None:
    rita = make_person("rita")
    elsewhere, here = make_model("ai/tulu"), add_files_model(card=TULU_CARD)
    assign_role(model=elsewhere, user=rita, role="owner")
    assign_role(model=here, user=rita, role="reviewer")
    followed = follow(model=elsewhere, endpoint=remote.url, far_id="lab/tulu")
    assert polling.poll(followed_id=followed.pk)
    remote.silent = True
    for request in AccessRequest.objects.filter(model=elsewhere):
        record_decision(request=request, reviewer=rita, outcome=Outcome.APPROVED)
    assert RemotePush.objects.filter(state=PushState.DUE).count() == len(PEOPLE)
    running.start("remote", processes=2)
    assert remote.waiting.acquire(timeout=120)
    assert remote.waiting.acquire(timeout=120)  # both worker processes wait for the remote

    cache.delete(key_of("default"))
    running.start("default", beat=True)
    running.start("recovery")
    request = submit(make_person("ada"), here)
    record_decision(request=request, reviewer=rita, outcome=Outcome.APPROVED)
    delivery = wait_until(lambda: Delivery.objects.filter(state=DeliveryState.READY).first())
    assert delivery.grant == Grant.objects.get(model=here)
    wait_until(lambda: cache.get(key_of("default")))
    assert not RemotePush.objects.filter(state=PushState.DONE).exists()

    remote.list = "accepted"
    remote.speak()
    wait_until(all_told)
    assert FollowedRepo.objects.get().state == "following"


def test_decisions_are_told_elsewhere_while_one_followed_hub_is_silent(
    remote: SilentRemote,
    other: SilentRemote,
    running: Workers,
    make_model: Callable[..., Any],
    make_person: Callable[..., Any],
) -> None:
    rita = make_person("rita")
    models = {}
    for hub, name in ((remote, "ai/silent"), (other, "ai/spoken")):
        models[hub] = make_model(name)
        assign_role(model=models[hub], user=rita, role="owner")
        followed = follow(model=models[hub], endpoint=hub.url, far_id="lab/tulu")
        assert polling.poll(followed_id=followed.pk)

    def decide(hub: SilentRemote) -> None:
        for request in AccessRequest.objects.filter(model=models[hub]):
            record_decision(request=request, reviewer=rita, outcome=Outcome.APPROVED)

    def told(hub: SilentRemote) -> int:
        return RemotePush.objects.filter(remote__followed__model=models[hub], state=PushState.DONE).count()

    remote.silent = True
    decide(remote)
    running.start("remote", processes=2)
    for _ in range(2):
        assert remote.waiting.acquire(timeout=120)  # both worker processes wait for the silent remote
    running.start("default", beat=True)
    decide(other)
    wait_until(lambda: told(other) == len(PEOPLE))
    assert told(remote) == 0
    RemotePush.objects.filter(state=PushState.DUE).update(next_try_at=timezone.now())
    wait_until(
        lambda: RemotePush.objects.filter(next_try_at__gt=timezone.now() + LATER).count() >= len(PEOPLE) - 2
    )
