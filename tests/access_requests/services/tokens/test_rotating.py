from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone

from access_requests.enums import TokenKind, TokenOrigin
from access_requests.errors import Conflict, Invalid, NotAllowed
from access_requests.models import AccessToken, Event, Grant, ModelRole
from access_requests.services import tokens
from access_requests.services.catalogue.roles import assign_role
from access_requests.services.event_log.append import verify_chain
from access_requests.services.grants import grant_access, revoke_access
from access_requests.services.tokens.issuing import LONGEST_LIFE
from tests.threads import all_at_once


@pytest.fixture
def grant(make_person: Callable[..., Any], make_model: Callable[..., Any]) -> Grant:
    return grant_access(model=make_model(), email=make_person("ada").email, days=30).grant


def made(grant: Grant, **wishes: Any) -> tokens.Issued:
    return tokens.issue_token(grant=grant, user=grant.user, name="laptop", **wishes)


@pytest.mark.django_db
@pytest.mark.parametrize("overlap", list(tokens.OVERLAPS))
def test_old_token_lives_for_the_overlap_and_the_new_one_at_once(grant: Grant, overlap: str) -> None:
    old = made(grant, networks=["192.0.2.0/24"])
    before = timezone.now()
    new = tokens.rotate_token(token=old.token, user=grant.user, overlap=overlap)
    token = tokens.authenticate(new.secret, address="192.0.2.7")
    assert (token.name, token.grant, token.networks, token.expires_at) == (
        "laptop",
        grant,
        ["192.0.2.0/24"],
        None,
    )
    stored = AccessToken.objects.get(pk=old.token.pk)
    assert stored.replaced_by == new.token
    if overlap == "now":
        with pytest.raises(tokens.TokenRefused, match=r"revoked on .*replaced by its successor"):
            tokens.authenticate(old.secret, address="192.0.2.7")
    else:
        assert tokens.authenticate(old.secret, address="192.0.2.7") == old.token
        length = tokens.OVERLAPS[overlap].length
        assert before + length <= stored.expires_at <= timezone.now() + length
    AccessToken.objects.filter(pk=old.token.pk, revoked_at=None).update(expires_at=timezone.now())
    with pytest.raises(tokens.TokenRefused, match=r"revoked on|use the one that replaced it"):
        tokens.authenticate(old.secret, address="192.0.2.7")
    event = Event.objects.get(kind="token.rotated")
    assert (event.data["token"], event.data["successor"]) == (old.token.pk, new.token.pk)
    assert verify_chain().ok


@pytest.mark.django_db
def test_overlap_never_prolongs_the_old_token_and_the_new_one_lives_as_long_as_it(grant: Grant) -> None:
    end = timezone.now() + timedelta(minutes=10)
    old = made(grant, expires_at=end)
    new = tokens.rotate_token(token=old.token, user=grant.user, overlap="7d").token
    old.token.refresh_from_db()
    assert old.token.expires_at == end
    assert timedelta(minutes=9) < new.expires_at - timezone.now() <= timedelta(minutes=10)


@pytest.mark.django_db
def test_token_is_rotated_once_and_its_successor_again(grant: Grant) -> None:
    old = made(grant)
    new = tokens.rotate_token(token=old.token, user=grant.user, overlap="1d")
    with pytest.raises(Conflict, match="already been rotated"):
        tokens.rotate_token(token=old.token, user=grant.user, overlap="now")
    newest = tokens.rotate_token(token=new.token, user=grant.user, overlap="now")
    assert tokens.authenticate(newest.secret).name == "laptop"
    with pytest.raises(Conflict, match="cannot be shown again"):
        made(grant)


@pytest.mark.django_db
def test_ended_tokens_and_ended_grants_are_not_rotated(grant: Grant) -> None:
    token = made(grant).token
    AccessToken.objects.update(expires_at=timezone.now())
    with pytest.raises(Conflict, match="has ended"):
        tokens.rotate_token(token=token, user=grant.user, overlap="1h")
    AccessToken.objects.update(expires_at=None, revoked_at=timezone.now())
    with pytest.raises(Conflict, match="has ended"):
        tokens.rotate_token(token=token, user=grant.user, overlap="1h")
    AccessToken.objects.update(revoked_at=None)
    revoke_access(model=grant.model, user=grant.user)
    with pytest.raises(Conflict, match="Your access to ai/tulu has ended"):
        tokens.rotate_token(token=token, user=grant.user, overlap="1h")
    assert AccessToken.objects.count() == 1


@pytest.mark.django_db
def test_rotation_asks_for_the_right_person_and_overlap(grant: Grant, make_person: Any) -> None:
    token = made(grant).token
    with pytest.raises(NotAllowed):
        tokens.rotate_token(token=token, user=make_person("eve", is_superuser=True), overlap="now")
    with pytest.raises(Invalid, match="now, 1h, 1d, 7d"):
        tokens.rotate_token(token=token, user=grant.user, overlap="1y")


@pytest.mark.django_db
def test_reviewers_token_is_not_rotated_without_the_role(grant: Grant) -> None:
    assign_role(model=grant.model, user=grant.user, role="reviewer")
    token = tokens.issue_person_token(user=grant.user, kind=TokenKind.REVIEWER, name="desk").token
    ModelRole.objects.all().delete()
    with pytest.raises(NotAllowed, match="you are neither"):
        tokens.rotate_token(token=token, user=grant.user, overlap="now")


@pytest.mark.django_db
def test_token_of_a_machine_renews_itself(grant: Grant) -> None:
    token = tokens.issue_person_token(
        user=grant.user, kind=TokenKind.USER, name="box", origin=TokenOrigin.DEVICE
    ).token
    with pytest.raises(Conflict, match="renews itself"):
        tokens.rotate_token(token=token, user=grant.user, overlap="now")


@pytest.mark.django_db
def test_rotating_again_and_again_makes_no_more_tokens_than_allowed(grant: Grant) -> None:
    newest = made(grant).token
    for _ in range(tokens.MOST_TOKENS - 1):
        newest = tokens.rotate_token(token=newest, user=grant.user, overlap="7d").token
    with pytest.raises(Conflict, match="revoke one first"):
        tokens.rotate_token(token=newest, user=grant.user, overlap="7d")
    tokens.rotate_token(token=newest, user=grant.user, overlap="now")


@pytest.mark.django_db(transaction=True)
def test_of_rotations_at_once_one_wins_and_one_secret_exists(grant: Grant) -> None:
    token = made(grant).token

    def rotate(_: int) -> tokens.Issued | None:
        try:
            return tokens.rotate_token(token=token, user=grant.user, overlap="1h")
        except Conflict:
            return None

    won = [issued for issued in all_at_once(6, rotate) if issued]
    assert len(won) == 1
    assert AccessToken.objects.count() == 2
    token.refresh_from_db()
    assert token.replaced_by == won[0].token


@pytest.mark.django_db(transaction=True)
def test_rotation_and_revocation_at_once_leave_no_forgotten_live_token(grant: Grant) -> None:
    """Whichever comes first, a revoked token has no successor, or one that the person sees and can revoke."""
    token = made(grant).token

    def act(number: int) -> None:
        if number:
            tokens.revoke_token(token=AccessToken.objects.get(pk=token.pk), user=grant.user)
            return
        with suppress(Conflict):
            tokens.rotate_token(token=token, user=grant.user, overlap="7d")

    all_at_once(2, act)
    token.refresh_from_db()
    assert token.revoked_at is not None
    assert AccessToken.objects.filter(revoked_at=None).count() == (1 if token.replaced_by_id else 0)
    assert verify_chain().ok


@pytest.mark.django_db
def test_successor_of_a_token_with_a_far_end_lives_for_ten_years(grant: Grant) -> None:
    old = made(grant)
    AccessToken.objects.filter(pk=old.token.pk).update(expires_at=datetime(9999, 12, 31, tzinfo=UTC))
    new = tokens.rotate_token(token=old.token, user=grant.user, overlap="1d")
    assert new.token.expires_at is not None
    assert abs(new.token.expires_at - timezone.now() - LONGEST_LIFE) < timedelta(minutes=1)
