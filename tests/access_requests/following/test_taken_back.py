"""Decisions that were taken back or replaced while nobody knew what the far side made of the first, and their words."""

from __future__ import annotations

import pytest

from access_requests.models import OutgoingMail, RemotePush
from access_requests.services.following.managing import change_following
from access_requests.services.following.taking import push_ours
from access_requests.services.grants import revoke_access
from access_requests.services.reviewing import change_place
from tests.access_requests.following.conftest import Sides
from tests.access_requests.following.test_pushing import decide, imported, in_step, push_now

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
    assert "is reset now.\n\nThe weights were resold.\n\nThe repository:" in mail.text
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
