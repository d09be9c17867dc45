"""Differences between the two sides are shown, and only a reviewer can settle them."""

from __future__ import annotations

import pytest
from django.utils import timezone

from access_requests.access.access import live_grant
from access_requests.access.review_lists import review_entry
from access_requests.enums import PushState, RequestState
from access_requests.errors import Conflict, NotAllowed
from access_requests.models import AccessRequest, Event, Grant, RemotePush
from access_requests.services.event_log.append import verify_chain
from access_requests.services.following.taking import push_ours, take_theirs
from access_requests.services.requests.decide import record_decision
from tests.access_requests.services.following.conftest import Sides
from tests.conftest import TULU_ANSWERS

pytestmark = pytest.mark.django_db

HERE = {"pending": None, "accepted": "approved", "rejected": "rejected", "reset": "reset"}
FEW = [("pending", "accepted"), ("accepted", "reset"), ("rejected", "pending")]
PAIRS = [
    pytest.param(here, there, marks=() if (here, there) in FEW else pytest.mark.slow)
    for here in HERE
    for there in HERE
    if here != there
]


def apart(sides: Sides, here: str, there: str) -> str:
    """Return someone who was pending on both sides and has since been decided differently on each."""
    name = sides.ask()
    sides.poll()
    if HERE[here]:
        reason, words = ("use_unclear", "No.") if here == "rejected" else ("", "")
        record_decision(
            request=sides.remote(name).request,
            reviewer=sides.rita,
            outcome=HERE[here],
            reason_code=reason,
            words=words,
        )
    if there != "pending":
        sides.put(name, there, "Ours." if there == "rejected" else "")
    RemotePush.objects.filter(state=PushState.DUE).update(state=PushState.FAILED)
    sides.poll()
    return name


def stand(sides: Sides, name: str) -> str:
    """Return the list that the person is in here."""
    return str(review_entry(sides.remote(name).person.user, sides.model).place)


@pytest.mark.slow
@pytest.mark.parametrize(("here", "there"), PAIRS)
def test_difference_is_shown_and_nothing_is_changed(sides: Sides, here: str, there: str) -> None:
    name = apart(sides, here, there)
    remote = sides.remote(name)
    assert (stand(sides, name), remote.far_status, remote.drifted_at is None) == (here, there, False)
    sides.proxy.calls.clear()
    since = remote.drifted_at
    sides.poll()
    assert (stand(sides, name), sides.place(name)) == (here, there)
    assert (sides.remote(name).drifted_at, sides.proxy.wrote()) == (since, [])


@pytest.mark.slow
@pytest.mark.parametrize(("here", "there"), PAIRS)
def test_their_word_is_taken(sides: Sides, here: str, there: str) -> None:
    name = apart(sides, here, there)
    decided = sides.decisions(name)
    take_theirs(remote=sides.remote(name), actor=sides.rita, seen=there)
    assert (stand(sides, name), sides.remote(name).drifted_at) == (there, None)
    assert sides.tell() == []
    sides.poll()
    assert sides.remote(name).drifted_at is None
    assert (sides.decisions(name), sides.proxy.wrote()) == (decided, [])
    assert verify_chain().ok


@pytest.mark.slow
@pytest.mark.parametrize(("here", "there"), PAIRS)
def test_our_word_is_told(sides: Sides, here: str, there: str) -> None:
    name = apart(sides, here, there)
    push_ours(remote=sides.remote(name), actor=sides.rita, seen=there)
    assert sides.tell() == [True]
    assert (stand(sides, name), sides.place(name)) == (here, here)
    sides.poll()
    assert sides.remote(name).drifted_at is None


def test_accepted_there_while_undecided_here_becomes_a_grant_of_who_takes_it_over(sides: Sides) -> None:
    name = apart(sides, "pending", "accepted")
    assert Grant.objects.count() == 0
    take_theirs(remote=sides.remote(name), actor=sides.rita, seen="accepted")
    grant = Grant.objects.get()
    assert (grant.granted_by, grant.request) == (sides.rita, sides.remote(name).request)
    assert Event.objects.get(kind="remote.taken_over").data == {
        "from": sides.followed.host, "was": "pending", "is": "accepted",
    }  # fmt: skip


@pytest.mark.slow
def test_withdrawn_there_is_shown_and_withdrawn_here_when_taken(sides: Sides) -> None:
    name = sides.ask()
    sides.poll()
    sides.far.order("withdraw", name=name, repo_id=sides.far_id)
    sides.poll()
    assert sides.remote(name).drifted_at is None  # missing from all lists only once
    sides.poll()
    remote = sides.remote(name)
    assert (remote.far_status, remote.request.state, remote.drifted_at is None) == (
        "missing",
        "submitted",
        False,
    )
    with pytest.raises(Conflict, match="has no request of"):
        push_ours(remote=remote, actor=sides.rita, seen="missing")
    take_theirs(remote=remote, actor=sides.rita, seen="missing")
    remote = sides.remote(name)
    assert (remote.request.state, remote.drifted_at) == (RequestState.WITHDRAWN, None)
    assert Event.objects.get(kind="request.withdrawn").actor == sides.rita


def test_access_that_is_gone_there_can_be_given_again_or_ended_here(sides: Sides) -> None:
    names = []
    for _ in range(2):
        names.append(apart(sides, "accepted", "accepted"))
    sides.proxy.change("user-access-request/", lambda items: [])
    sides.poll()
    sides.poll()
    kept, ended = (sides.remote(name) for name in names)
    assert (kept.far_status, kept.drifted_at is None) == ("missing", False)
    take_theirs(remote=ended, actor=sides.rita, seen="missing")
    assert live_grant(ended.person.user, sides.model) is None
    assert sides.tell() == []  # there is no one to push a decision about
    assert sides.remote(names[1]).drifted_at is None
    push_ours(remote=kept, actor=sides.rita, seen="missing")
    sides.tell()
    assert sides.proxy.wrote("grant") == [{"user": names[0]}]


def test_asked_again_there_while_waiting_here_is_shown_and_begins_anew_when_taken(sides: Sides) -> None:
    name = sides.ask()
    sides.poll()
    old = sides.remote(name).request
    sides.far.order("withdraw", name=name, repo_id=sides.far_id)
    sides.ask(name, answers={**TULU_ANSWERS, "f5": "Something else."})
    sides.poll()
    remote = sides.remote(name)
    assert (remote.request, remote.drifted_at is None) == (old, False)
    take_theirs(remote=remote, actor=sides.rita, seen="pending")
    old.refresh_from_db()
    new = sides.remote(name).request
    assert (old.state, new.state, new.intended_use) == ("withdrawn", "submitted", "Something else.")
    assert Event.objects.get(kind="request.withdrawn").actor == sides.rita
    sides.poll()
    assert sides.remote(name).drifted_at is None


def test_what_changed_since_the_reviewer_looked_is_not_taken(sides: Sides) -> None:
    name = apart(sides, "pending", "accepted")
    for act in (take_theirs, push_ours):
        with pytest.raises(Conflict, match=r"says accepted and we say pending now: look again\."):
            act(remote=sides.remote(name), actor=sides.rita, seen="rejected")
    take_theirs(remote=sides.remote(name), actor=sides.rita, seen="accepted")
    with pytest.raises(Conflict):  # as if the button were pressed twice
        take_theirs(remote=sides.remote(name), actor=sides.rita, seen="accepted")
    assert Grant.objects.count() == 1


@pytest.mark.slow
def test_stranger_takes_nothing(sides: Sides, make_person) -> None:
    name = apart(sides, "pending", "accepted")
    for act in (take_theirs, push_ours):
        with pytest.raises(NotAllowed):
            act(remote=sides.remote(name), actor=make_person(f"sam-{act.__name__}"), seen="accepted")
    assert AccessRequest.objects.get().state == RequestState.SUBMITTED


def test_refused_request_of_somebody_who_is_gone_there_is_no_difference(sides: Sides) -> None:
    name = apart(sides, "rejected", "rejected")
    sides.proxy.change("user-access-request/", lambda items: [])
    sides.poll()
    sides.poll()
    assert (sides.remote(name).far_status, sides.remote(name).drifted_at) == ("missing", None)
    assert sides.remote(name).seen_at < timezone.now()
