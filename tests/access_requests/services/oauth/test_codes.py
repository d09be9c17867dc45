from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from access_requests.enums import DeviceState, TokenKind, TokenOrigin
from access_requests.errors import Conflict, Invalid, NotFound, RuleError
from access_requests.models import AccessToken, DeviceCode, Event, Machine, OutgoingMail, RefreshToken
from access_requests.services import delete_expired, tokens
from access_requests.services.event_log.append import verify_chain
from access_requests.services.oauth import codes, limits, machines
from access_requests.services.oauth.errors import OAuthError, TooMany
from tests.access_requests.services.oauth.signing import (
    at_once,
    begin,
    fetch,
    find,
    refresh_refused,
    signed_in,
)

pytestmark = pytest.mark.django_db


def refused(begun: codes.Begun, **arguments: Any) -> str:
    with pytest.raises(OAuthError) as raised:
        fetch(begun, **arguments)
    return raised.value.code


def test_an_approved_machine_gets_a_token_of_its_person(ada: Any) -> None:
    begun = begin()
    assert refused(begun) == "authorization_pending"
    codes.approve(code=find(begun, ada), user=ada, name="  my   laptop ")
    pair = fetch(begun)
    token = tokens.authenticate(pair.access.secret)
    assert (token.user, token.kind, token.origin, token.name) == (
        ada,
        TokenKind.USER,
        TokenOrigin.DEVICE,
        "my laptop",
    )
    assert token.expires_at is not None
    assert abs(token.expires_at - timezone.now() - timedelta(days=30)) < timedelta(minutes=1)
    assert list(Event.objects.order_by("pk").values_list("kind", "actor__username")) == [
        ("machine.approved", "ada"),
        ("token.issued", "ada"),
    ]
    assert verify_chain().ok


def test_codes_are_readable_and_only_digests_are_stored(ada: Any) -> None:
    begun = begin()
    assert set(begun.code.user_code) <= set("BCDFGHJKLMNPQRSTVWXZ")
    pair = (codes.approve(code=find(begun, ada), user=ada, name="x"), fetch(begun))[1]
    rows = [DeviceCode, RefreshToken, AccessToken, Machine, Event]
    stored = json.dumps([list(model.objects.values()) for model in rows], default=str)
    assert begun.code.user_code in stored
    for secret in (begun.device_code, pair.access.secret, pair.refresh_secret):
        assert secret not in stored


def test_the_person_is_told_by_mail(ada: Any) -> None:
    begun = begin()
    machine = codes.approve(code=find(begun, ada), user=ada, name="<lab> & “cluster”")
    told = OutgoingMail.objects.get()
    assert (told.to, told.subject) == (ada.email, "“<lab> & “cluster”” was signed in")
    assert "from 203.0.113.7" in told.text
    assert told.text.count("/me/machines") == 1
    codes.deny(code=find(begin(), ada), user=ada)
    assert OutgoingMail.objects.count() == 1
    assert machine.is_live()


def test_a_code_is_found_however_it_is_typed(ada: Any) -> None:
    begun = begin()
    code = begun.code.user_code
    for typed in (
        code,
        code.lower(),
        f" {code[:4]}-{code[4:]} ",
        f"{code[:4]} {code[4:]}",
        f"{code[:4]}–{code[4:]}",
    ):
        assert codes.find_waiting(typed=typed, user=ada, address=None) == begun.code
    for typed in ("", "BCDF", "BCDFGHJA", "BCDFGHJKL", "ＢＣＤＦＧＨＪＫ", "\0" * 8, "%s%s%s%s"):
        with pytest.raises(NotFound):
            codes.find_waiting(typed=typed, user=ada, address=None)


def test_a_denied_machine_is_told_and_gets_nothing(ada: Any) -> None:
    begun = begin()
    codes.deny(code=find(begun, ada), user=ada)
    assert [refused(begun), refused(begun)] == ["access_denied", "access_denied"]
    with pytest.raises(Conflict, match="already denied"):
        codes.approve(code=begun.code, user=ada, name="x")
    assert not AccessToken.objects.exists()


def test_two_tabs_approve_once(ada: Any, make_person: Callable[..., Any]) -> None:
    begun = begin()
    seen_twice = find(begun, ada), find(begun, make_person("bob"))
    codes.approve(code=seen_twice[0], user=ada, name="one")
    later = [
        lambda: codes.approve(code=seen_twice[1], user=ada, name="two"),
        lambda: codes.approve(code=seen_twice[1], user=make_person("eve"), name="two"),
        lambda: codes.deny(code=seen_twice[1], user=ada),
    ]
    for act in later:
        with pytest.raises(Conflict, match="already approved"):
            act()
    assert list(Machine.objects.values_list("name", "user__username")) == [("one", "ada")]


def test_a_machine_signed_out_before_it_fetched_gets_nothing(ada: Any) -> None:
    begun = begin()
    machine = codes.approve(code=find(begun, ada), user=ada, name="laptop")
    assert machines.sign_out(machine=machine, why="signed out on its page", actor=ada)
    for _ in range(2):
        with pytest.raises(OAuthError, match="signed out: signed out on its page") as raised:
            fetch(begun)
        assert raised.value.code == "access_denied"
    assert DeviceCode.objects.get().state == DeviceState.ENDED
    with pytest.raises(Conflict, match="ended before the machine fetched"):
        find(begun, ada)
    assert not AccessToken.objects.exists()
    assert not RefreshToken.objects.exists()


def test_a_code_of_a_machine_that_lives_no_more_gets_nothing(ada: Any) -> None:
    begun = begin()
    machine = codes.approve(code=find(begun, ada), user=ada, name="laptop")
    Machine.objects.filter(pk=machine.pk).update(ends_at=timezone.now())
    assert [refused(begun), refused(begun)] == ["expired_token", "expired_token"]
    assert not AccessToken.objects.exists()


def test_a_code_of_an_account_that_was_disabled_meanwhile_gets_nothing(ada: Any) -> None:
    begun = begin()
    codes.approve(code=find(begun, ada), user=ada, name="laptop")
    type(ada).objects.update(is_active=False)
    assert [refused(begun), refused(begun)] == ["access_denied", "access_denied"]
    assert Machine.objects.get().signed_out_why == "its account is disabled"
    assert (DeviceCode.objects.get().state, AccessToken.objects.count()) == (DeviceState.ENDED, 0)


def test_an_ended_code_can_neither_be_approved_nor_fetched(ada: Any) -> None:
    waiting, approved = begin(), begin()
    codes.approve(code=find(approved, ada), user=ada, name="x")
    DeviceCode.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    with pytest.raises(Conflict, match="has expired"):
        find(waiting, ada)
    for _ in range(2):
        assert [refused(waiting), refused(approved)] == ["expired_token", "expired_token"]
    states = [DeviceState.ENDED, DeviceState.WAITING]
    assert list(DeviceCode.objects.values_list("state", flat=True)) == states
    assert not machines.live_machines(ada).exists()
    assert not AccessToken.objects.exists()


def test_a_device_code_works_once_and_a_second_use_signs_the_machine_out(ada: Any) -> None:
    begun = begin()
    codes.approve(code=find(begun, ada), user=ada, name="x")
    pair = fetch(begun)
    assert refused(begun) == "invalid_grant"
    with pytest.raises(tokens.TokenRefused, match="revoked"):
        tokens.authenticate(pair.access.secret)
    assert "came a second time" in refresh_refused(pair.refresh_secret)


def test_a_device_code_belongs_to_its_client() -> None:
    begun = begin()
    assert refused(begun, client_id="another") == "invalid_grant"
    assert refused(begun) == "authorization_pending"


def test_polling_too_fast_slows_down() -> None:
    begun = begin()
    assert [refused(begun), refused(begun)] == ["authorization_pending", "slow_down"]
    slower = DeviceCode.objects.get()
    assert slower.interval == codes.INTERVAL + 5
    DeviceCode.objects.update(polled_at=timezone.now() - timedelta(seconds=slower.interval))
    assert refused(begun) == "authorization_pending"


def test_guesses_are_bounded_by_person_and_address(ada: Any, make_person: Callable[..., Any]) -> None:
    begun = begin()
    for _ in range(limits.WRONG_CODES_OF_PERSON.most):
        with pytest.raises(NotFound):
            codes.find_waiting(typed="BCDFGHJK", user=ada, address="198.51.100.1")
    with pytest.raises(TooMany):
        codes.find_waiting(typed=begun.code.user_code, user=ada, address="198.51.100.2")
    for n in range(limits.WRONG_CODES_OF_ADDRESS.most):
        with pytest.raises(RuleError):
            codes.find_waiting(typed="BCDFGHJK", user=make_person(f"p{n}"), address=f"2001:db8::{n:x}")
    with pytest.raises(TooMany, match="address"):
        codes.find_waiting(typed=begun.code.user_code, user=make_person("bob"), address="2001:db8::ffff")
    assert find(begun, make_person("carol")) == begun.code


def test_right_codes_do_not_count_as_guesses(ada: Any) -> None:
    begun = begin()
    for _ in range(limits.WRONG_CODES_OF_PERSON.most + 5):
        assert find(begun, ada)


def test_sign_ins_of_an_address_are_bounded() -> None:
    for _ in range(limits.SIGN_INS_OF_ADDRESS.most):
        begin()
    with pytest.raises(TooMany):
        begin()


@pytest.mark.parametrize("name", ["", "  ", "x" * 101, "a\tb\0", "DEFAULT", "default", "a]b", "[x"])
def test_a_machine_has_a_name_that_the_client_can_keep(ada: Any, name: str) -> None:
    begun = begin()
    with pytest.raises(Invalid):
        codes.approve(code=find(begun, ada), user=ada, name=name)
    assert DeviceCode.objects.get().state == DeviceState.WAITING


def test_ended_codes_are_deleted_after_a_week(ada: Any) -> None:
    pair, waiting = signed_in(ada), begin()
    DeviceCode.objects.exclude(pk=waiting.code.pk).update(expires_at=timezone.now() - timedelta(days=6))
    assert delete_expired.clear_device_codes() == 0
    DeviceCode.objects.exclude(pk=waiting.code.pk).update(expires_at=timezone.now() - timedelta(days=8))
    assert delete_expired.clear_device_codes() == 1
    assert tokens.authenticate(pair.access.secret)


def test_a_machine_that_never_came_for_its_tokens_is_signed_out(ada: Any) -> None:
    fetched, missed, begun = signed_in(ada), begin(), begin()
    codes.approve(code=find(missed, ada), user=ada, name="missed")
    codes.approve(code=find(begun, ada), user=ada, name="still in time")
    late = DeviceCode.objects.exclude(pk=begun.code.pk)
    late.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert [delete_expired.end_unfetched_sign_ins(), delete_expired.end_unfetched_sign_ins()] == [1, 0]
    assert {machine.name for machine in machines.live_machines(ada)} == {"laptop", "still in time"}
    assert Machine.objects.get(name="missed").signed_out_why == codes.NEVER_FETCHED
    assert [refused(missed), refused(missed)] == ["expired_token", "expired_token"]
    assert tokens.authenticate(fetched.access.secret)
    assert fetch(begun)


@pytest.mark.django_db(transaction=True)
def test_of_many_who_do_the_same_at_once_one_wins(ada: Any) -> None:
    begun = begin()
    code = find(begun, ada)
    approved = at_once(4, lambda n: codes.approve(code=code, user=ada, name=f"tab {n}"))
    assert approved.count(Conflict) == 3
    assert Machine.objects.count() == 1
    fetched = at_once(4, lambda n: fetch(begun))
    # The refused attempts showed that the code had leaked, so the winner's sign-in was ended as well.
    assert fetched.count(OAuthError) == 3
    assert not machines.live_machines(ada).exists()
    assert AccessToken.objects.filter(revoked_at=None).count() == 0
