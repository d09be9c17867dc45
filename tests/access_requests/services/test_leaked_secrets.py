from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from access_requests.enums import TokenKind
from access_requests.models import AccessToken, Event, Grant, OutgoingMail
from access_requests.services import tokens
from access_requests.services.event_log.append import verify_chain
from access_requests.services.grants import grant_access
from access_requests.services.leaked_secrets import Found, Result, report_tokens
from access_requests.services.tokens.secret import PATTERN
from tests.threads import all_at_once


@pytest.fixture
def grant(make_person: Callable[..., Any], make_model: Callable[..., Any]) -> Grant:
    made = grant_access(model=make_model(), email=make_person("ada").email, days=30).grant
    OutgoingMail.objects.all().delete()
    return made


@pytest.mark.django_db
def test_reported_token_ends_with_event_and_mail(grant: Grant) -> None:
    issued = tokens.issue_token(grant=grant, user=grant.user, name="laptop")
    place = f"https://example.org/paste?{issued.secret}\n\x07 line 3"
    answers = report_tokens(found=[Found(issued.secret, place)])
    assert [answer.result for answer in answers] == [Result.REVOKED]
    assert answers[0].hint == issued.token.hint
    with pytest.raises(tokens.TokenRefused, match="found in a place where others could read it"):
        tokens.authenticate(issued.secret)
    event = Event.objects.get(kind="token.revoked")
    assert (event.actor, event.actor_name, event.grant) == (None, "leak report", grant)
    assert event.data["place"] == "https://example.org/paste?gth_... line 3"
    mail = OutgoingMail.objects.get()
    assert mail.to == grant.user.email
    assert "https://example.org/paste?gth_... line 3" in mail.text
    assert f"{grant.model.address()}/access" in mail.text
    assert issued.secret not in mail.text + repr(event.data)
    assert verify_chain().ok


@pytest.mark.django_db
def test_what_is_not_alive_here_ends_nothing_and_mails_nobody(grant: Grant) -> None:
    ended = tokens.issue_token(grant=grant, user=grant.user, name="ended")
    revoked = tokens.issue_token(grant=grant, user=grant.user, name="revoked")
    AccessToken.objects.filter(pk=ended.token.pk).update(expires_at=timezone.now())
    tokens.revoke_token(token=revoked.token, user=grant.user)
    other = tokens.issue_person_token(user=grant.user, kind=TokenKind.USER, name="other")
    found = [Found(secret) for secret in (ended.secret, revoked.secret, tokens.make_secret(), "gth_x", "")]
    assert [answer.result for answer in report_tokens(found=found)] == [
        Result.ENDED,
        Result.ENDED,
        Result.UNKNOWN,
        Result.UNKNOWN,
        Result.UNKNOWN,
    ]
    assert tokens.authenticate(other.secret) == other.token
    assert not OutgoingMail.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_reported_by_many_at_once_is_ended_once(grant: Grant) -> None:
    secret = tokens.issue_token(grant=grant, user=grant.user, name="laptop").secret
    results = all_at_once(5, lambda _: report_tokens(found=[Found(secret)])[0].result)
    assert sorted(results) == [Result.ENDED] * 4 + [Result.REVOKED]
    assert (Event.objects.filter(kind="token.revoked").count(), OutgoingMail.objects.count()) == (1, 1)


@pytest.mark.django_db
def test_machine_of_a_leaked_token_is_signed_out(grant: Grant) -> None:
    from access_requests.models import Machine
    from access_requests.services.oauth.machines import first_pair, refresh

    machine = Machine.objects.create(user=grant.user, name="box", ends_at=timezone.now() + timedelta(days=30))
    pair = first_pair(machine)
    assert report_tokens(found=[Found(pair.access.secret)])[0].result == Result.REVOKED
    machine.refresh_from_db()
    assert not machine.is_live()
    with pytest.raises(Exception, match="signed out"):
        refresh(secret=pair.refresh_secret)


@pytest.mark.django_db
@pytest.mark.parametrize("used", [True, False])
def test_leaked_refresh_token_signs_its_machine_out(grant: Grant, used: bool) -> None:
    from access_requests.models import Machine
    from access_requests.services.oauth.machines import first_pair, refresh

    machine = Machine.objects.create(user=grant.user, name="box", ends_at=timezone.now() + timedelta(days=30))
    leaked = first_pair(machine).refresh_secret
    access = refresh(secret=leaked).access if used else None
    assert PATTERN.fullmatch(leaked)
    assert tokens.looks_right(leaked, tokens.REFRESH_PREFIX)
    assert not tokens.looks_right(leaked)
    false = leaked[:-1] + ("a" if leaked[-1] != "a" else "b")
    seen = [Found(false), Found(leaked, f"a page with {leaked}"), Found(leaked)]
    results = [answer.result for answer in report_tokens(found=seen)]
    assert results == [Result.UNKNOWN, Result.REVOKED, Result.ENDED]
    machine.refresh_from_db()
    assert machine.signed_out_why == "it was found in a place where others could read it"
    if access is not None:
        with pytest.raises(tokens.TokenRefused):
            tokens.authenticate(access.secret)
    event, mail = Event.objects.get(kind="machine.signed_out"), OutgoingMail.objects.get()
    assert event.data["place"] == "a page with gth_..."
    assert mail.to == grant.user.email
    assert "a page with gth_..." in mail.text
    assert leaked not in mail.text + repr(event.data)
    assert verify_chain().ok
