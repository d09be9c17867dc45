"""Decisions taken back or replaced before we know what the remote made of the first, and their messages."""

from __future__ import annotations

import pytest
from django.utils import timezone

from access_requests.enums import PushState
from access_requests.models import OutgoingMail, RemotePush
from access_requests.services.following import pushing
from access_requests.services.following.drift import cut_words
from access_requests.services.following.managing import change_following
from access_requests.services.following.taking import push_ours
from access_requests.services.grants import revoke_access
from access_requests.services.requests.move_between_lists import change_place
from tests.access_requests.services.following.conftest import Sides
from tests.access_requests.services.following.test_pushing import LATER, decide, imported, in_step, push_now

pytestmark = pytest.mark.django_db


def put_here(sides: Sides, name: str, to: str) -> None:
    person = sides.remote(name).person.user
    change_place(model=sides.model, person=person, to=to, reviewer=sides.rita)


def revoke(sides: Sides, name: str, reason: str) -> None:
    person = sides.remote(name).person.user
    revoke_access(model=sides.model, user=person, reason=reason, actor=sides.rita)


def test_approval_whose_answer_was_lost_is_taken_back_there_too(sides: Sides) -> None:
    name = imported(sides)
    decide(sides, name, "approved")
    sides.proxy.lose("/handle")
    assert push_now(sides) is False
    assert sides.place(name) == "accepted"
    put_here(sides, name, "pending")
    assert push_now(sides) is True
    in_step(sides, name, "pending")


def test_approval_that_was_tried_stays_in_mind_however_often_it_is_taken_back(sides: Sides) -> None:
    name = imported(sides)
    decide(sides, name, "approved")
    sides.proxy.lose("/handle")
    assert push_now(sides) is False
    for to in ("pending", "accepted", "pending"):
        put_here(sides, name, to)
    assert push_now(sides) is True
    in_step(sides, name, "pending")


def test_end_of_access_whose_answer_was_lost_is_taken_back_there_too(sides: Sides) -> None:
    name = imported(sides)
    decide(sides, name, "approved")
    assert sides.tell() == [True]
    revoke(sides, name, "Over.")
    sides.proxy.lose("/handle")
    assert push_now(sides) is False
    assert sides.place(name) == "reset"
    put_here(sides, name, "accepted")
    assert push_now(sides) is True
    in_step(sides, name, "accepted")


def test_words_of_an_approval_are_not_told_when_its_access_is_revoked(sides: Sides) -> None:
    change_following(followed=sides.followed, poll_every=300, mail_applicants=True, actor=sides.rita)
    name = imported(sides)
    decide(sides, name, "approved", "Welcome aboard.")
    assert sides.tell() == [True]
    OutgoingMail.objects.all().delete()
    revoke(sides, name, "The weights were resold.")
    assert sides.tell() == [True]
    mail = OutgoingMail.objects.get(to=f"{name}@far.example.org", subject__contains=sides.far_id)
    assert "is now reset.\n\nThe weights were resold.\n\nThe repository:" in mail.text
    sides.put(name, "accepted")
    sides.poll()
    push_ours(remote=sides.remote(name), actor=sides.rita, seen="accepted")
    assert RemotePush.objects.latest("pk").words == "The weights were resold."


def test_words_of_a_rejection_are_told_again_over_theirs(sides: Sides) -> None:
    name = imported(sides)
    decide(sides, name, "rejected", "Say what for.")
    assert sides.tell() == [True]
    sides.put(name, "accepted")
    sides.poll()
    push_ours(remote=sides.remote(name), actor=sides.rita, seen="accepted")
    assert RemotePush.objects.latest("pk").words == "Say what for."


@pytest.mark.slow
@pytest.mark.parametrize("words", ["word " * 100, "x" * 300, "🦙" * 150, "ab 🦙" * 80])
def test_long_reason_is_cut_at_a_word_to_what_the_far_side_takes(words: str) -> None:
    told = cut_words(words)
    assert len(told.encode("utf-16-le")) // 2 <= 200
    assert told.endswith(" …")
    assert words.startswith(told.removesuffix(" …"))


def test_long_reason_reaches_the_far_side_cut(sides: Sides) -> None:
    words = "ab 🦙" * 80
    name = imported(sides)
    decide(sides, name, "rejected", words)
    assert sides.tell() == [True]
    assert sides.decisions(name) == [["rejected", cut_words(words)]]


def test_reason_of_exactly_200_characters_is_left_whole() -> None:
    assert cut_words("a" * 200) == "a" * 200
    assert cut_words("  a \n b\0 ") == "a b"


def test_decision_that_was_taken_back_before_it_was_told_is_never_told(sides: Sides) -> None:
    name = imported(sides)
    decide(sides, name, "approved")
    person = sides.remote(name).person.user
    change_place(model=sides.model, person=person, to="pending", reviewer=sides.rita)
    assert sides.tell() == []
    assert sides.proxy.wrote() == []
    in_step(sides, name, "pending")


@pytest.mark.slow
def test_later_decision_waits_for_the_one_under_way_and_replaces_one_that_died(sides: Sides) -> None:
    """The first decision's worker died before it sent anything: that decision is outdated and never sent."""
    name = imported(sides)
    decide(sides, name, "approved")
    first = RemotePush.objects.get()
    RemotePush.objects.update(
        state=PushState.CLAIMED, lease_owner="dead", lease_until=timezone.now() + LATER, attempts=1
    )
    revoke_access(model=sides.model, user=sides.remote(name).person.user, reason="Over.", actor=sides.rita)
    second = RemotePush.objects.latest("pk")
    assert pushing.push(push_id=second.pk) is False  # the first is being sent
    RemotePush.objects.filter(pk=first.pk).update(lease_until=timezone.now() - LATER)
    assert pushing.push(push_id=first.pk) is False
    first.refresh_from_db()
    assert first.state == PushState.REPLACED
    assert pushing.push(push_id=second.pk) is True
    assert [entry["status"] for entry in sides.proxy.wrote()] == ["reset"]
    in_step(sides, name, "reset")


@pytest.mark.slow
def test_later_decision_goes_over_an_earlier_one_whose_answer_was_lost(sides: Sides) -> None:
    name = imported(sides)
    decide(sides, name, "approved")
    first = RemotePush.objects.get()
    sides.proxy.lose("/handle")
    assert push_now(sides) is False  # accepted there, but we do not know it
    revoke_access(model=sides.model, user=sides.remote(name).person.user, reason="Over.", actor=sides.rita)
    first.refresh_from_db()
    assert first.state == PushState.REPLACED
    assert push_now(sides) is True
    in_step(sides, name, "reset")
