"""Decisions made here are reported to the remote exactly once, whatever goes wrong on the way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from access_requests.enums import FarStatus, FollowState, PushState
from access_requests.errors import Conflict
from access_requests.models import Event, FollowedRepo, Grant, OutgoingMail, RemotePush, RemoteRequest
from access_requests.services.following import polling, pushing
from access_requests.services.following.managing import change_following, pause, sync_now
from access_requests.services.grants import close_ended_grants, revoke_access
from access_requests.services.requests.decide import record_decision
from access_requests.services.requests.move_between_lists import change_place
from model_ops.models import Recovery
from model_ops.services.recoveries.deliver import deliver_grant
from tests.access_requests.services.following.conftest import CHECKOUT, Sides
from tests.access_requests.services.following.proxy import Reply

pytestmark = pytest.mark.django_db
LATER = timedelta(hours=2)


def imported(sides: Sides) -> str:
    """Return a person whose request on the remote was imported here."""
    name = sides.ask()
    sides.poll()
    sides.proxy.clear()
    return name


def decide(sides: Sides, name: str, outcome: str, words: str = "") -> None:
    reason = "use_unclear" if outcome == "rejected" else ""
    record_decision(
        request=sides.remote(name).request,
        reviewer=sides.rita,
        outcome=outcome,
        reason_code=reason,
        words=words,
    )


def push_now(sides: Sides) -> bool:
    """End the pause or lease of the only open push, then run it; return whether it was done."""
    past = timezone.now() - timedelta(seconds=1)
    RemotePush.objects.filter(state=PushState.CLAIMED).update(lease_until=past)
    RemotePush.objects.filter(state=PushState.DUE).update(next_try_at=past)
    (row,) = RemotePush.objects.filter(state__in=[PushState.DUE, PushState.CLAIMED])
    return pushing.push(push_id=row.pk)


def in_step(sides: Sides, name: str, status: str) -> None:
    """Check that both sides agree and that no push is left."""
    remote = sides.remote(name)
    assert (sides.place(name), remote.far_status, remote.drifted_at) == (status, status, None)
    assert not RemotePush.objects.filter(state__in=[PushState.DUE, PushState.CLAIMED]).exists()
    sides.poll()
    assert (sides.remote(name).far_status, sides.remote(name).drifted_at) == (status, None)


def test_approval_is_told_and_the_grant_stays_here(sides: Sides) -> None:
    name = imported(sides)
    decide(sides, name, "approved")
    assert sides.place(name) == "pending"
    assert sides.tell() == [True]
    assert sides.proxy.wrote() == [{"user": name, "status": "accepted"}]
    grant = Grant.objects.get()
    assert grant.user == sides.remote(name).person.user
    OutgoingMail.objects.all().delete()
    deliver_grant(grant_id=grant.pk)  # there are no weights here, so none are recovered and no one is emailed
    assert (Recovery.objects.count(), OutgoingMail.objects.count()) == (0, 0)
    event = Event.objects.get(kind="remote.told")
    assert event.data == {"to": "accepted", "at": sides.followed.host, "words": ""}
    assert event.actor_name == "rita"
    in_step(sides, name, "accepted")


def test_rejection_is_told_with_its_words(sides: Sides) -> None:
    name = imported(sides)
    decide(sides, name, "rejected", "Say what for.\n\nThen ask again.")
    assert sides.tell() == [True]
    assert sides.decisions(name) == [["rejected", "Say what for. Then ask again."]]
    in_step(sides, name, "rejected")


def test_request_for_changes_is_refused_and_stays_pending_on_both_sides(sides: Sides) -> None:
    name = imported(sides)
    with pytest.raises(Conflict, match="does not support requests for changes, and cannot answer here"):
        decide(sides, name, "changes_requested", "Say more.")
    assert sides.tell() == []
    in_step(sides, name, "pending")


@pytest.mark.slow
def test_revoked_access_is_reset_there(sides: Sides) -> None:
    name = imported(sides)
    decide(sides, name, "approved")
    sides.tell()
    revoke_access(
        model=sides.model, user=sides.remote(name).person.user, reason="It is over.", actor=sides.rita
    )
    assert sides.tell() == [True]
    assert sides.proxy.wrote()[-1] == {"user": name, "status": "reset", "resetReason": "It is over."}
    in_step(sides, name, "reset")


def test_access_that_ran_out_is_reset_there(sides: Sides) -> None:
    name = imported(sides)
    decide(sides, name, "approved")
    sides.tell()
    Grant.objects.update(starts_at=timezone.now() - LATER, ends_at=timezone.now() - timedelta(hours=1))
    close_ended_grants()
    assert sides.tell() == [True]
    in_step(sides, name, "reset")


@pytest.mark.slow
@pytest.mark.slow
@pytest.mark.parametrize("first", ["approved", pytest.param("rejected", marks=pytest.mark.slow)])
def test_reopened_request_is_pending_there_again(sides: Sides, first: str) -> None:
    name = imported(sides)
    decide(sides, name, first, "No." if first == "rejected" else "")
    sides.tell()
    person = sides.remote(name).person.user
    change_place(model=sides.model, person=person, to="pending", reviewer=sides.rita)
    assert sides.tell() == [True]
    in_step(sides, name, "pending")


def test_accepted_one_that_is_rejected_is_told_once(sides: Sides) -> None:
    """Here that is two events: the access is revoked, then the request is rejected."""
    name = imported(sides)
    decide(sides, name, "approved")
    sides.tell()
    person = sides.remote(name).person.user
    change_place(model=sides.model, person=person, to="rejected", reviewer=sides.rita, words="No.")
    assert sides.tell() == [True]
    assert [entry["status"] for entry in sides.proxy.wrote()] == ["accepted", "rejected"]
    in_step(sides, name, "rejected")


def test_lost_answer_after_the_write_is_found_out_and_not_written_again(sides: Sides) -> None:
    name = imported(sides)
    decide(sides, name, "approved")
    sides.proxy.lose("/handle")
    assert push_now(sides) is False
    assert RemotePush.objects.get().state == PushState.DUE
    assert RemotePush.objects.get().next_try_at > timezone.now()
    assert push_now(sides) is True
    assert len(sides.proxy.wrote()) == 1
    assert sides.decisions(name) == [["approved", ""]]
    in_step(sides, name, "accepted")


@pytest.mark.slow
def test_lists_that_lag_behind_a_lost_answer_end_in_one_decision(sides: Sides) -> None:
    """The lists still show it as pending, so it is sent again; the remote reports that it is already done."""
    name = imported(sides)
    decide(sides, name, "approved")
    old: list[list[Any]] = []

    def remember(items: list) -> list:
        old.append(items)
        return old[0]

    sides.proxy.change("/pending", remember)
    sides.proxy.lose("/handle")
    assert push_now(sides) is False
    assert push_now(sides) is False
    assert [call.status for call in sides.proxy.calls if call.method == "POST"] == [0, 404]
    sides.proxy.clear()  # the lists are up to date again
    assert push_now(sides) is True
    assert sides.proxy.wrote() == []
    assert sides.decisions(name) == [["approved", ""]]


def test_list_that_still_shows_what_was_before_our_write_is_no_drift(sides: Sides) -> None:
    name = imported(sides)
    decide(sides, name, "approved")
    before: list[Any] = []
    sides.proxy.change("/pending", lambda items: before.append(items) or before[0])
    sides.proxy.change("/accepted", lambda items: [])
    sides.tell()
    RemoteRequest.objects.update(wrote_at=timezone.now())
    FollowedRepo.objects.update(next_poll_at=timezone.now() - LATER)
    polling.poll(followed_id=sides.followed.pk)
    remote = sides.remote(name)
    assert (remote.far_status, remote.drifted_at) == (FarStatus.ACCEPTED, None)


@pytest.mark.slow
@pytest.mark.parametrize(
    "reply",
    [
        Reply(500, {}),
        pytest.param(Reply(502, b"<html>"), marks=pytest.mark.slow),
        pytest.param(Reply(409, {"error": "someone was faster"}), marks=pytest.mark.slow),
        Reply(404, {}),
    ],
)
def test_write_that_failed_is_tried_again(sides: Sides, reply: Reply) -> None:
    name = imported(sides)
    decide(sides, name, "approved")
    sides.proxy.instead("/handle", reply, times=1)
    assert push_now(sides) is False
    row = RemotePush.objects.get()
    assert (row.state, row.attempts, row.lease_owner) == (PushState.DUE, 1, "")
    assert sides.followed.host in row.last_error
    assert push_now(sides) is True
    assert RemotePush.objects.get().last_error == ""
    in_step(sides, name, "accepted")


def test_limit_is_waited_for_and_costs_no_attempt(sides: Sides) -> None:
    name = imported(sides)
    decide(sides, name, "approved")
    sides.proxy.instead("/handle", Reply(429, {}, {"Retry-After": "77"}), times=1)
    now = timezone.now()
    assert push_now(sides) is False
    row = RemotePush.objects.get()
    assert (row.state, row.attempts) == (PushState.DUE, 0)
    assert 76 <= (row.next_try_at - now).total_seconds() < 90
    calls = len(sides.proxy.calls)
    assert push_now(sides) is False  # pushes to this endpoint are paused for everyone
    assert len(sides.proxy.calls) == calls


@pytest.mark.slow
def test_write_that_makes_no_sense_there_is_given_up_and_shown(sides: Sides) -> None:
    name = imported(sides)
    decide(sides, name, "approved")
    sides.proxy.instead(
        "/handle", Reply(400, {"error": "Repo is not gated"}, {"X-Error-Code": "RepoNotGated"})
    )
    assert push_now(sides) is False
    row = RemotePush.objects.get()
    assert (row.state, row.last_error) == (
        PushState.FAILED, f"{sides.followed.host}: it answered 400: Repo is not gated",
    )  # fmt: skip
    assert sides.remote(name).drifted_at is not None
    assert Event.objects.get(kind="remote.not_told").data["to"] == "accepted"


def test_refusal_about_one_person_does_not_stop_the_others(sides: Sides) -> None:
    name = imported(sides)
    decide(sides, name, "approved")
    sides.proxy.instead("/handle", Reply(403, {"error": "Nobody decides about their own request"}))
    assert push_now(sides) is False
    assert (RemotePush.objects.get().state, sides.poll().state) == (PushState.FAILED, FollowState.FOLLOWING)


@pytest.mark.slow
def test_token_that_lost_its_right_stops_telling_until_asked_again(sides: Sides) -> None:
    name = imported(sides)
    decide(sides, name, "approved")
    sides.proxy.instead("user-access-request", Reply(401, {"error": "Invalid username or password."}))
    assert push_now(sides) is False
    followed = FollowedRepo.objects.get()
    assert followed.state == FollowState.REFUSED
    assert "does not let our token decide" in followed.problem
    assert (RemotePush.objects.get().state, RemotePush.objects.get().attempts) == (PushState.DUE, 0)
    sides.proxy.clear()
    assert push_now(sides) is False
    assert sides.proxy.calls == []
    sync_now(followed=followed, actor=sides.rita)
    assert push_now(sides) is True
    in_step(sides, name, "accepted")


def test_pause_keeps_decisions_until_it_goes_on(sides: Sides) -> None:
    name = imported(sides)
    pause(followed=sides.followed)
    decide(sides, name, "approved")
    assert sides.tell() == []
    assert sides.remote(name).drifted_at is None
    sync_now(followed=sides.followed)
    assert sides.tell() == [True]
    in_step(sides, name, "accepted")


@pytest.mark.slow
def test_somebody_elses_decision_there_is_not_overwritten(sides: Sides) -> None:
    name = imported(sides)
    decide(sides, name, "approved")
    sides.put(name, "rejected", "We said no.")
    assert push_now(sides) is False
    assert sides.proxy.wrote() == []
    assert sides.decisions(name) == [["rejected", "We said no."]]
    row = RemotePush.objects.get()
    assert (row.state, row.last_error) == (
        PushState.FAILED, f"{sides.followed.host}: someone changed it to rejected there, but we expected pending",
    )  # fmt: skip
    sides.poll()
    remote = sides.remote(name)
    assert (remote.far_status, remote.drifted_at is None) == ("rejected", False)


def test_same_decision_there_meanwhile_is_done(sides: Sides) -> None:
    name = imported(sides)
    decide(sides, name, "approved")
    sides.put(name, "accepted")
    assert push_now(sides) is True
    assert sides.proxy.wrote() == []
    in_step(sides, name, "accepted")


@pytest.mark.slow
def test_person_who_was_renamed_since_the_last_poll_is_found(sides: Sides) -> None:
    name = imported(sides)
    sides.far.order("rename", name=name, to=f"{name}-x")
    decide(sides, name, "approved")
    assert push_now(sides) is True
    assert sides.proxy.wrote() == [{"user": f"{name}-x", "status": "accepted"}]


@pytest.mark.slow
def test_person_who_withdrew_there_cannot_be_decided_about(sides: Sides) -> None:
    name = imported(sides)
    decide(sides, name, "rejected", "No.")
    sides.far.order("withdraw", name=name, repo_id=sides.far_id)
    assert push_now(sides) is False
    assert (
        RemotePush.objects.get().last_error
        == f"{sides.followed.host}: {name} is in none of its lists any more"
    )
    assert sides.proxy.wrote() == []


def test_nothing_is_mailed_to_them_unless_the_owner_wants_it(sides: Sides) -> None:
    name = imported(sides)
    OutgoingMail.objects.all().delete()
    decide(sides, name, "rejected", "Say what for.")
    sides.tell()
    assert OutgoingMail.objects.count() == 0
    change_following(followed=sides.followed, poll_every=60, mail_applicants=True, actor=sides.rita)
    change_place(model=sides.model, person=sides.remote(name).person.user, to="accepted", reviewer=sides.rita)
    sides.tell()
    (mail,) = OutgoingMail.objects.all()
    assert (mail.to, mail.subject) == (
        f"{name}@far.example.org", f"Your request for {sides.far_id} at {sides.followed.host}",
    )  # fmt: skip
    assert f"is now accepted.\n\nThe repository: {sides.followed.far_address}" in mail.text


def test_decision_made_by_nobody_here_is_not_told_where_nothing_is_followed(
    sides: Sides, make_person: Any, submit: Any
) -> None:
    ada = make_person("ada")
    request = submit(ada, sides.model)
    record_decision(request=request, reviewer=sides.rita, outcome="approved")
    assert RemotePush.objects.count() == 0


@pytest.mark.django_db(transaction=True)
def test_two_workers_at_once_write_once(sides: Sides) -> None:
    name = imported(sides)
    decide(sides, name, "approved")
    pk = RemotePush.objects.get().pk
    happened, go_on = sides.proxy.hold("/handle")
    results: list[bool] = []

    def work() -> None:
        results.append(pushing.push(push_id=pk))
        connection.close()

    first = threading.Thread(target=work)
    first.start()
    assert happened.wait(60)
    second = threading.Thread(target=work)
    second.start()
    second.join(60)
    assert results == [False]
    go_on.set()
    first.join(60)
    assert results == [False, True]
    assert len(sides.proxy.wrote()) == 1
    assert sides.decisions(name) == [["approved", ""]]


@pytest.mark.django_db(transaction=True)
def test_worker_killed_between_write_and_record_leaves_one_decision(sides: Sides, settings: Any) -> None:
    name = imported(sides)
    decide(sides, name, "approved")
    row = RemotePush.objects.get()
    happened, go_on = sides.proxy.hold("/handle")
    code = f"import django; django.setup(); from access_requests.services.following import pushing; pushing.push(push_id={row.pk})"
    token = settings.GATEHOUSE_FOLLOW_TOKENS[sides.proxy.url]
    environment = os.environ | {
        "GATEHOUSE_FOLLOW_TOKENS": f"{sides.proxy.url}={token}",
        "DATABASE_URL": os.environ["DATABASE_URL"].rpartition("/")[0]
        + "/"
        + settings.DATABASES["default"]["NAME"],
    }
    worker = subprocess.Popen([sys.executable, "-c", code], cwd=CHECKOUT, env=environment)
    assert happened.wait(60)
    worker.send_signal(signal.SIGKILL)
    worker.wait(60)
    go_on.set()
    row.refresh_from_db()
    assert (row.state, sides.place(name)) == (PushState.CLAIMED, "accepted")
    assert pushing.push(push_id=row.pk) is False  # the dead worker's lease has not run out
    assert push_now(sides) is True
    assert len(sides.proxy.wrote()) == 1
    assert sides.decisions(name) == [["approved", ""]]
