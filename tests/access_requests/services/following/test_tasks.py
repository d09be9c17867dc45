"""A real worker on the real broker: requested on the remote, decided here, reported to the remote."""

from __future__ import annotations

import pytest

from access_requests.models import FollowedRepo, RemotePush, RemoteRequest
from access_requests.services.following.managing import sync_now
from access_requests.services.requests.decide import record_decision
from access_requests.tasks import follow_due
from tests.access_requests.services.following.conftest import Sides
from tests.model_ops.conftest import weights_root, worker
from tests.waiting import wait_until

__all__ = ["weights_root", "worker"]


@pytest.mark.django_db(transaction=True)
def test_worker_imports_and_tells_and_beat_wakes_it_for_what_was_lost(sides: Sides, worker: None) -> None:
    name = sides.ask()
    sync_now(followed=sides.followed)
    remote = wait_until(lambda: RemoteRequest.objects.filter(person__name=name).first())
    wait_until(lambda: FollowedRepo.objects.get().lease_owner == "")
    record_decision(request=remote.request, reviewer=sides.rita, outcome="approved")
    wait_until(lambda: sides.place(name) == "accepted")
    wait_until(lambda: RemotePush.objects.get().state == "done")
    other = sides.ask()
    FollowedRepo.objects.update(next_poll_at="2020-01-01T00:00:00Z")  # no message said that it is due
    follow_due()
    wait_until(lambda: RemoteRequest.objects.filter(person__name=other).exists())
    wait_until(lambda: FollowedRepo.objects.get().lease_owner == "")
