from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from access_requests.enums import TokenKind
from access_requests.errors import Invalid, NotAllowed
from access_requests.models import Event, Machine, RefreshToken
from access_requests.services import tokens
from access_requests.services.event_log.append import verify_chain
from access_requests.services.oauth import codes, machines
from tests.access_requests.services.oauth.signing import at_once, begin, find, refresh_refused, signed_in

pytestmark = pytest.mark.django_db


def let_time_pass(pair: machines.Pair, **ago: int) -> None:
    RefreshToken.objects.filter(machine=pair.machine, used_at__isnull=False).update(
        used_at=timezone.now() - timedelta(**ago)
    )


def test_disabled_account_approves_nothing_and_refreshes_nothing(ada: Any) -> None:
    pair, begun = signed_in(ada), begin()
    code = find(begun, ada)
    ada.is_active = False
    ada.save()
    with pytest.raises(NotAllowed):
        codes.approve(code=code, user=ada, name="x")
    assert "disabled" in refresh_refused(pair.refresh_secret)


def test_number_of_machines_is_bounded(ada: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codes, "MOST_MACHINES", 2)
    pairs = [signed_in(ada), signed_in(ada)]
    with pytest.raises(Invalid, match="sign one out"):
        signed_in(ada)
    machines.sign_out(machine=pairs[0].machine, why="enough", actor=ada)
    assert signed_in(ada)


def test_refresh_rotates_and_leaves_the_old_token_a_day(ada: Any) -> None:
    first = signed_in(ada)
    second = machines.refresh(secret=first.refresh_secret)
    assert second.access.secret != first.access.secret
    assert tokens.authenticate(second.access.secret).user == ada
    old = tokens.authenticate(first.access.secret)
    assert old.expires_at is not None
    assert old.expires_at <= timezone.now() + machines.OVERLAP
    third = machines.refresh(secret=second.refresh_secret)
    assert Machine.objects.get() == third.machine
    assert third.machine.ends_at > first.machine.ends_at


def test_an_old_refresh_token_signs_the_machine_out(ada: Any) -> None:
    first = signed_in(ada)
    second = machines.refresh(secret=first.refresh_secret)
    let_time_pass(first, minutes=2)
    other = signed_in(ada, "another machine")
    assert "used again" in refresh_refused(first.refresh_secret)
    for pair in (first, second):
        with pytest.raises(tokens.TokenRefused, match="revoked"):
            tokens.authenticate(pair.access.secret)
        assert "signed out" in refresh_refused(pair.refresh_secret)
    assert tokens.authenticate(other.access.secret).user == ada
    out = Event.objects.get(kind="machine.signed_out")
    assert (out.data["machine"], out.data["tokens"]) == (first.machine.pk, 2)


def test_a_lost_answer_may_be_asked_for_again_within_a_minute(ada: Any) -> None:
    first = signed_in(ada)
    lost = machines.refresh(secret=first.refresh_secret)
    again = machines.refresh(secret=first.refresh_secret)
    assert tokens.authenticate(again.access.secret).user == ada
    assert machines.refresh(secret=again.refresh_secret)
    # The token in the lost answer has been used: a client that asks with the first one did not lose it.
    assert "used again" in refresh_refused(first.refresh_secret)
    assert "signed out" in refresh_refused(lost.refresh_secret)


def test_a_lost_answer_is_not_given_without_end(ada: Any) -> None:
    first = signed_in(ada)
    for _ in range(machines.MOST_SIBLINGS):
        machines.refresh(secret=first.refresh_secret)
    assert "used again" in refresh_refused(first.refresh_secret)


def test_a_machine_that_is_not_used_is_over(ada: Any) -> None:
    pair = signed_in(ada)
    Machine.objects.update(ends_at=timezone.now() - timedelta(seconds=1))
    assert "90 days" in refresh_refused(pair.refresh_secret)


def test_revoking_any_of_its_tokens_ends_the_machine(ada: Any) -> None:
    first = signed_in(ada)
    second = machines.refresh(secret=first.refresh_secret)
    tokens.revoke_token(token=first.access.token, user=ada)
    assert "revoked" in refresh_refused(second.refresh_secret)
    with pytest.raises(tokens.TokenRefused):
        tokens.authenticate(second.access.secret)


def test_signing_out_is_for_its_person(ada: Any, make_person: Callable[..., Any]) -> None:
    pair = signed_in(ada)
    with pytest.raises(NotAllowed):
        machines.sign_out(machine=pair.machine, why="x", actor=make_person("eve"))
    assert tokens.authenticate(pair.access.secret)
    assert machines.sign_out(machine=pair.machine, why="x", actor=ada) is True
    assert machines.sign_out(machine=pair.machine, why="x", actor=ada) is False
    assert Event.objects.filter(kind="machine.signed_out").count() == 1


@pytest.mark.parametrize("which", ["access", "refresh"])
def test_whoever_has_a_secret_may_end_it(ada: Any, which: str) -> None:
    pair = signed_in(ada)
    machines.revoke_secret(secret="gthr_unknown")
    machines.revoke_secret(secret="")
    assert tokens.authenticate(pair.access.secret)
    machines.revoke_secret(secret=pair.access.secret if which == "access" else pair.refresh_secret)
    with pytest.raises(tokens.TokenRefused):
        tokens.authenticate(pair.access.secret)
    assert "signed out" in refresh_refused(pair.refresh_secret)


def test_a_plain_token_can_be_ended_by_its_secret(ada: Any) -> None:
    issued = tokens.issue_person_token(user=ada, kind=TokenKind.USER, name="page")
    machines.revoke_secret(secret=issued.secret)
    with pytest.raises(tokens.TokenRefused):
        tokens.authenticate(issued.secret)


@pytest.mark.django_db(transaction=True)
def test_processes_that_refresh_at_once_all_go_on(ada: Any) -> None:
    first = signed_in(ada)
    pairs = at_once(3, lambda n: machines.refresh(secret=first.refresh_secret))
    assert [tokens.authenticate(pair.access.secret).user for pair in pairs] == [ada] * 3
    assert verify_chain().ok
