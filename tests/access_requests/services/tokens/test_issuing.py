from __future__ import annotations

import re
import zlib
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from access_requests.errors import Conflict, Invalid, NotAllowed
from access_requests.models import AccessToken, Event, Grant
from access_requests.services import tokens
from access_requests.services.grants import grant_access, revoke_access

pytestmark = pytest.mark.django_db


@pytest.fixture
def grant(make_person: Callable[..., Any], make_model: Callable[..., Any]) -> Grant:
    person = make_person("ada")
    return grant_access(model=make_model(), email=person.email, days=30).grant


def base62(text: str) -> int:
    number = 0
    for character in text:
        number = number * 62 + tokens.ALPHABET.index(character)
    return number


def test_secret_has_prefix_body_and_checksum() -> None:
    secret = tokens.make_secret()
    assert re.fullmatch(r"gth_[0-9A-Za-z]{32}[0-9A-Za-z]{6}", secret)
    assert base62(secret[-6:]) == zlib.crc32(secret[:-6].encode())
    assert tokens.make_secret() != secret


def test_one_changed_character_is_recognised_without_the_database(django_assert_num_queries: Any) -> None:
    secret = tokens.make_secret()
    other = "a" if secret[10] != "a" else "b"
    with django_assert_num_queries(0), pytest.raises(tokens.TokenRefused, match="not a Gatehouse token"):
        tokens.authenticate(secret[:10] + other + secret[11:])


@pytest.mark.parametrize("secret", ["", "hf_abc", "gth_", "gth_" + "é" * 38, "gth_" + "0" * 38, "x" * 10_000])
def test_garbage_is_refused_in_one_sentence(secret: str) -> None:
    with pytest.raises(tokens.TokenRefused, match="not a Gatehouse token"):
        tokens.authenticate(secret)


def test_first_token_is_shown_once(grant: Grant) -> None:
    issued = tokens.show_first_token(grant=grant, user=grant.user)
    assert tokens.authenticate(issued.secret).pk == issued.token.pk
    with pytest.raises(Conflict, match="cannot be shown again"):
        tokens.show_first_token(grant=grant, user=grant.user)
    assert AccessToken.objects.count() == 1


def test_no_secret_is_stored_anywhere(grant: Grant) -> None:
    secret = tokens.show_first_token(grant=grant, user=grant.user).secret
    assert tokens.authenticate(secret)
    with connection.cursor() as cursor:
        cursor.execute("SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'")
        for (table,) in cursor.fetchall():
            cursor.execute(f'SELECT count(*) FROM "{table}" t WHERE t::text LIKE %s', [f"%{secret}%"])
            assert cursor.fetchone() == (0,), table


def test_look_up_is_one_query(grant: Grant, django_assert_num_queries: Any) -> None:
    secret = tokens.show_first_token(grant=grant, user=grant.user).secret
    for _ in range(2):
        with django_assert_num_queries(1):
            tokens.authenticate(secret, address="192.0.2.7", client="hf/2.4")
    with django_assert_num_queries(1), pytest.raises(tokens.TokenRefused, match="not known here"):
        tokens.authenticate(tokens.make_secret())


def test_token_of_another_person_cannot_be_made_or_revoked(
    grant: Grant, make_person: Callable[..., Any]
) -> None:
    eve = make_person("eve")
    with pytest.raises(NotAllowed):
        tokens.show_first_token(grant=grant, user=eve)
    token = tokens.show_first_token(grant=grant, user=grant.user).token
    with pytest.raises(NotAllowed):
        tokens.revoke_token(token=token, user=eve)


@pytest.mark.parametrize("name", ["", "  ", "x" * 101, "bell\x07", "nul\0"])
def test_unfit_name_is_refused(grant: Grant, name: str) -> None:
    with pytest.raises(Invalid, match="name"):
        tokens.issue_token(grant=grant, user=grant.user, name=name)


def test_revoked_token_is_refused_with_its_page_and_twice_is_once(grant: Grant) -> None:
    issued = tokens.issue_token(grant=grant, user=grant.user, name="laptop")
    tokens.revoke_token(token=issued.token, user=grant.user)
    tokens.revoke_token(token=issued.token, user=grant.user)
    with pytest.raises(tokens.TokenRefused, match=r"revoked on .*/ai/tulu/access"):
        tokens.authenticate(issued.secret)
    assert Event.objects.filter(kind="token.revoked").count() == 1


def test_token_ends_at_its_own_date(grant: Grant) -> None:
    issued = tokens.issue_token(
        grant=grant, user=grant.user, name="week", expires_at=timezone.now() + timedelta(days=7)
    )
    AccessToken.objects.filter(pk=issued.token.pk).update(expires_at=timezone.now() - timedelta(seconds=1))
    with pytest.raises(tokens.TokenRefused, match="ended on"):
        tokens.authenticate(issued.secret)


def test_token_that_ended_gives_its_name_and_place_back(grant: Grant) -> None:
    ends = timezone.now() + timedelta(days=1)
    for number in range(tokens.MOST_TOKENS):
        tokens.issue_token(grant=grant, user=grant.user, name=f"laptop {number}", expires_at=ends)
    AccessToken.objects.filter(name="laptop 7").update(expires_at=timezone.now())
    again = tokens.issue_token(grant=grant, user=grant.user, name="laptop 7")
    assert tokens.authenticate(again.secret) == again.token


def test_token_of_a_disabled_account_is_refused(grant: Grant) -> None:
    secret = tokens.show_first_token(grant=grant, user=grant.user).secret
    grant.user.is_active = False
    grant.user.save()
    with pytest.raises(tokens.TokenRefused, match="disabled"):
        tokens.authenticate(secret)


def test_no_token_after_the_grant_was_revoked(grant: Grant) -> None:
    revoke_access(model=grant.model, user=grant.user)
    with pytest.raises(Conflict, match="has ended"):
        tokens.show_first_token(grant=grant, user=grant.user)


def test_number_of_live_tokens_is_bounded(grant: Grant) -> None:
    for number in range(tokens.MOST_TOKENS):
        tokens.issue_token(grant=grant, user=grant.user, name=f"machine {number}")
    with pytest.raises(Conflict, match="revoke one"):
        tokens.issue_token(grant=grant, user=grant.user, name="one more")
