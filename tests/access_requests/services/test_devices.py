from __future__ import annotations

import json
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

import pytest
from django.core.cache import cache
from django.db import connection
from django.test import Client
from django.utils import timezone

from access_requests.enums import DeviceState, TokenKind, TokenOrigin
from access_requests.errors import Conflict, Invalid, NotAllowed, NotFound, RuleError
from access_requests.models import AccessToken, DeviceCode, Event, Machine, RefreshToken
from access_requests.services import tokens
from access_requests.services.audit import verify_chain
from access_requests.services.oauth import codes, limits, machines
from access_requests.services.oauth.errors import OAuthError, TooMany

pytestmark = pytest.mark.django_db
CLIENT = "26be6b09-91c5-47da-9861-d2d2bb7a7e36"
DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"


@pytest.fixture(autouse=True)
def no_counts() -> None:
    cache.clear()


@pytest.fixture
def ada(make_person: Callable[..., Any]) -> Any:
    return make_person("ada")


def begin(client_id: str = CLIENT) -> codes.Begun:
    return codes.begin_sign_in(client_id=client_id, client="python-httpx2/1.0", address="203.0.113.7")


def find(begun: codes.Begun, user: Any) -> DeviceCode:
    return codes.find_waiting(typed=begun.code.user_code, user=user, address="203.0.113.7")


def fetch(begun: codes.Begun, client_id: str = CLIENT) -> machines.Pair:
    return codes.fetch_tokens(device_code=begun.device_code, client_id=client_id)


def signed_in(user: Any, name: str = "laptop") -> machines.Pair:
    begun = begin()
    codes.approve(code=find(begun, user), user=user, name=name)
    return fetch(begun)


def refused(begun: codes.Begun, **arguments: Any) -> str:
    with pytest.raises(OAuthError) as raised:
        fetch(begun, **arguments)
    return raised.value.code


def refresh_refused(secret: str) -> str:
    with pytest.raises(OAuthError) as raised:
        machines.refresh(secret=secret)
    assert raised.value.code == "invalid_grant"
    return raised.value.sentence


def let_time_pass(pair: machines.Pair, **ago: int) -> None:
    RefreshToken.objects.filter(machine=pair.machine, used_at__isnull=False).update(
        used_at=timezone.now() - timedelta(**ago)
    )


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
    assert list(Event.objects.order_by("number").values_list("kind", "actor__username")) == [
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
    with pytest.raises(Conflict, match="denied already"):
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
        with pytest.raises(Conflict, match="approved already"):
            act()
    assert list(Machine.objects.values_list("name", "user__username")) == [("one", "ada")]


def test_an_ended_code_can_neither_be_approved_nor_fetched(ada: Any) -> None:
    waiting, approved = begin(), begin()
    codes.approve(code=find(approved, ada), user=ada, name="x")
    DeviceCode.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    with pytest.raises(Conflict, match="ended"):
        find(waiting, ada)
    assert [refused(waiting), refused(approved)] == ["expired_token", "expired_token"]
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


def test_disabled_account_approves_nothing_and_refreshes_nothing(ada: Any) -> None:
    pair, begun = signed_in(ada), begin()
    code = find(begun, ada)
    ada.is_active = False
    ada.save()
    with pytest.raises(NotAllowed):
        codes.approve(code=code, user=ada, name="x")
    assert "disabled" in refresh_refused(pair.refresh_secret)


@pytest.mark.parametrize("name", ["", "  ", "x" * 101, "a\tb\0", "DEFAULT", "default", "a]b", "[x"])
def test_a_machine_has_a_name_that_the_client_can_keep(ada: Any, name: str) -> None:
    begun = begin()
    with pytest.raises(Invalid):
        codes.approve(code=find(begun, ada), user=ada, name=name)
    assert DeviceCode.objects.get().state == DeviceState.WAITING


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
    # What the lost answer held was used now: whoever asks with the first token is not the one who lost it.
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


def test_ended_codes_are_forgotten_after_a_day(ada: Any) -> None:
    pair, waiting = signed_in(ada), begin()
    assert codes.forget_ended_codes() == 0
    DeviceCode.objects.exclude(pk=waiting.code.pk).update(expires_at=timezone.now() - timedelta(days=2))
    assert codes.forget_ended_codes() == 1
    assert tokens.authenticate(pair.access.secret)


def test_the_wire_speaks_as_the_standards_say(client: Client, ada: Any) -> None:
    begun = client.post("/oauth/device", {"client_id": CLIENT}, headers={"User-Agent": "curl/8\r"})
    told = begun.json()
    assert begun["Cache-Control"] == "no-store"
    assert sorted(told) == [
        "device_code", "expires_in", "interval", "user_code", "verification_uri", "verification_uri_complete",
    ]  # fmt: skip
    assert told["verification_uri_complete"] == f"{told['verification_uri']}?user_code={told['user_code']}"
    poll = {"grant_type": DEVICE_GRANT, "device_code": told["device_code"], "client_id": CLIENT}
    waits = client.post("/oauth/token", poll)
    assert (waits.status_code, waits.json()["error"]) == (400, "authorization_pending")
    code = codes.find_waiting(typed=told["user_code"], user=ada, address=None)
    codes.approve(code=code, user=ada, name="laptop")
    given = client.post("/oauth/token", poll)
    assert given["Cache-Control"] == "no-store"
    assert (given.json()["token_type"], given.json()["expires_in"]) == ("bearer", 30 * 86400)
    again = {
        "grant_type": "refresh_token",
        "refresh_token": given.json()["refresh_token"],
        "client_id": CLIENT,
    }
    renewed = client.post("/oauth/token", again).json()
    assert renewed["refresh_token"] != given.json()["refresh_token"]
    for token in (renewed["access_token"], "nothing of ours"):
        gone = client.post("/oauth/revoke", {"token": token})
        assert (gone.status_code, gone.json()) == (200, {})
    with pytest.raises(tokens.TokenRefused):
        tokens.authenticate(renewed["access_token"])


BAD_REQUESTS = [
    ("/oauth/device", {}, 400, "invalid_request"),
    ("/oauth/device", {"client_id": "a\0b"}, 400, "invalid_request"),
    ("/oauth/device", {"client_id": ["a", "b"]}, 400, "invalid_request"),
    ("/oauth/token", {}, 400, "invalid_request"),
    ("/oauth/token", {"grant_type": "password"}, 400, "unsupported_grant_type"),
    ("/oauth/token", {"grant_type": DEVICE_GRANT}, 400, "invalid_request"),
    (
        "/oauth/token",
        {"grant_type": DEVICE_GRANT, "client_id": "x", "device_code": "é"},
        400,
        "invalid_grant",
    ),
    ("/oauth/token", {"grant_type": "refresh_token", "refresh_token": "x" * 9000}, 400, "invalid_grant"),
    ("/oauth/token", {"grant_type": "refresh_token"}, 400, "invalid_request"),
    ("/oauth/revoke", {}, 400, "invalid_request"),
    ("/oauth/token", {f"f{n}": "1" for n in range(2000)}, 400, "invalid_request"),
    ("/oauth/token", {"grant_type": "x" * 70_000}, 413, "invalid_request"),
]


@pytest.mark.parametrize(("path", "data", "status", "error"), BAD_REQUESTS)
def test_bad_requests_are_refused_with_a_sentence(
    client: Client, path: str, data: dict[str, Any], status: int, error: str
) -> None:
    body = urlencode(data, doseq=True)
    answer = client.post(path, body, content_type="application/x-www-form-urlencoded")
    assert (answer.status_code, answer.json()["error"]) == (status, error)
    assert answer["X-Error-Message"] == answer.json()["error_description"]
    assert answer["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'"x"', b"null", b"[" * 30_000, b'{"grant_type": 3}', b"\xff\xfe", b'{"grant_type": "\\u0000"}']
)  # fmt: skip
def test_bad_json_is_refused_with_a_sentence(client: Client, body: bytes) -> None:
    answer = client.post("/oauth/token", body, content_type="application/json")
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")


def test_only_post_is_taken_and_no_cookie_is_needed(ada: Any) -> None:
    strict = Client(enforce_csrf_checks=True)
    answer = strict.get("/oauth/token")
    assert (answer.status_code, answer["Allow"], answer.json()["error"]) == (405, "POST", "invalid_request")
    assert strict.post("/oauth/device", {"client_id": "x" * 500}).status_code == 200
    assert DeviceCode.objects.get().client_id == "x" * 100


def test_metadata_names_the_addresses(client: Client, settings: Any) -> None:
    told = client.get("/.well-known/oauth-authorization-server").json()
    assert told["issuer"] == settings.GATEHOUSE_URL
    assert told["token_endpoint"] == f"{settings.GATEHOUSE_URL}/oauth/token"


def at_once(count: int, act: Callable[[int], Any]) -> list[Any]:
    """What each of several threads got, or the class of what it was refused with."""
    results: list[Any] = []
    barrier = threading.Barrier(count)

    def run(number: int) -> None:
        try:
            barrier.wait(30)
            results.append(act(number))
        except RuleError as error:
            results.append(type(error))
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return results


@pytest.mark.django_db(transaction=True)
def test_of_many_who_do_the_same_at_once_one_wins(ada: Any) -> None:
    begun = begin()
    code = find(begun, ada)
    approved = at_once(4, lambda n: codes.approve(code=code, user=ada, name=f"tab {n}"))
    assert approved.count(Conflict) == 3
    assert Machine.objects.count() == 1
    fetched = at_once(4, lambda n: fetch(begun))
    # The others' use gave the code away, so that what the winner got has ended as well.
    assert fetched.count(OAuthError) == 3
    assert not machines.live_machines(ada).exists()
    assert AccessToken.objects.filter(revoked_at=None).count() == 0


@pytest.mark.django_db(transaction=True)
def test_processes_that_refresh_at_once_all_go_on(ada: Any) -> None:
    first = signed_in(ada)
    pairs = at_once(3, lambda n: machines.refresh(secret=first.refresh_secret))
    assert [tokens.authenticate(pair.access.secret).user for pair in pairs] == [ada] * 3
    assert verify_chain().ok
