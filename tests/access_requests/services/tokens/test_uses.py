from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from access_requests.enums import TokenKind
from access_requests.models import AccessToken
from access_requests.services import tokens
from access_requests.services.tokens.uses import Uses

pytestmark = pytest.mark.django_db


@pytest.fixture
def token(make_person: Callable[..., Any]) -> AccessToken:
    return tokens.issue_person_token(user=make_person("ada"), kind=TokenKind.USER, name="laptop").token


def seen(token: AccessToken) -> tuple[Any, str]:
    token.refresh_from_db()
    return token.last_used_address, token.last_used_client


def test_use_is_written_when_flushed_and_not_in_the_request(
    token: AccessToken, django_assert_num_queries: Any
) -> None:
    uses = Uses()
    with django_assert_num_queries(0):
        uses.note(token.pk, address="192.0.2.7", client="hf/2.4\0" + "x" * 300)
    assert seen(token) == (None, "")
    with django_assert_num_queries(1):
        assert uses.flush() == 1
    assert seen(token) == ("192.0.2.7", ("hf/2.4" + "x" * 300)[:200])
    assert uses.flush() == 0


def test_a_thousand_uses_are_one_write(token: AccessToken, django_assert_num_queries: Any) -> None:
    uses = Uses()
    for _ in range(1000):
        uses.note(token.pk, address="192.0.2.7", client="hf")
    with django_assert_num_queries(1):
        assert uses.flush(all_of_them=False) == 1


def test_the_same_address_is_written_once_a_minute_and_another_one_at_once(token: AccessToken) -> None:
    uses = Uses()
    uses.note(token.pk, address="192.0.2.7", client="first")
    assert uses.flush(all_of_them=False) == 1
    uses.note(token.pk, address="192.0.2.7", client="second")
    assert uses.flush(all_of_them=False) == 0
    uses.note(token.pk, address="192.0.2.8", client="third")
    assert uses.flush(all_of_them=False) == 1
    assert seen(token) == ("192.0.2.8", "third")
    uses.note(token.pk, address="192.0.2.8", client="fourth")
    assert (uses.flush(all_of_them=False), uses.flush()) == (0, 1)
    assert seen(token) == ("192.0.2.8", "fourth")


def test_newer_use_of_another_process_stays(token: AccessToken) -> None:
    uses = Uses()
    uses.note(token.pk, address="192.0.2.7", client="here")
    later = timezone.now() + timedelta(minutes=1)
    AccessToken.objects.update(last_used_at=later, last_used_address="192.0.2.9", last_used_client="there")
    uses.flush()
    assert seen(token) == ("192.0.2.9", "there")


@pytest.mark.django_db(transaction=True)
def test_what_the_database_never_takes_holds_up_nothing(token: AccessToken) -> None:
    uses = Uses()
    uses.note(token.pk - 1, address="no address", client="hf")
    uses.note(token.pk, address="192.0.2.7", client="hf")
    uses.flush()
    assert seen(token) == ("192.0.2.7", "hf")
    assert uses.flush() == 0


@pytest.mark.django_db(transaction=True)
def test_what_cannot_be_written_waits(token: AccessToken, django_db_blocker: Any) -> None:
    uses = Uses()
    uses.note(token.pk, address="192.0.2.7", client="hf")
    with django_db_blocker.block(), pytest.raises(RuntimeError):
        uses.flush()
    assert uses.flush() == 1
    assert seen(token) == ("192.0.2.7", "hf")


def test_token_that_is_gone_is_no_error(token: AccessToken) -> None:
    uses = Uses()
    uses.note(token.pk + 1000, address="192.0.2.7", client="hf")
    assert uses.flush() == 1
