from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from django.core.cache import cache
from django.test import Client

from access_requests.admin import sign_ins
from access_requests.enums import Role, TokenKind, TokenOrigin
from access_requests.models import Machine, TokenExchange, TrustedRepository
from access_requests.services.catalogue.roles import assign_role
from access_requests.services.oauth import codes
from access_requests.services.oauth.trusted import trust_repository
from access_requests.services.tokens import issue_person_token

pytestmark = pytest.mark.django_db
PAGES = ["/admin/access_requests/machine/", "/admin/access_requests/trustedrepository/"]


@pytest.fixture
def rows(make_person: Callable[..., Any], settings: Any) -> tuple[Machine, TrustedRepository]:
    settings.GATEHOUSE_DEMO = True  # no second factor is required
    cache.clear()
    ada = make_person("ada")
    begun = codes.begin_sign_in(client_id="x", client="curl", address="203.0.113.7")
    machine = codes.approve(code=begun.code, user=ada, name="Ada's own laptop")
    codes.fetch_tokens(device_code=begun.device_code, client_id="x")
    issuer = "https://token.actions.githubusercontent.com"
    return machine, trust_repository(user=ada, issuer=issuer, repository="acme/eval")


def signed_in(person: Any) -> Client:
    client = Client()
    client.force_login(person)
    return client


def test_a_superuser_sees_and_ends_them(rows: Any, make_person: Callable[..., Any]) -> None:
    root = signed_in(make_person("root", is_superuser=True))
    for path, row, words in zip(PAGES, rows, ("own laptop", "acme/eval"), strict=True):
        assert words in root.get(path).content.decode()
        assert words in root.get(f"{path}{row.pk}/change/").content.decode()
        assert root.get(f"{path}add/").status_code == 403
        assert root.post(f"{path}{row.pk}/delete/").status_code == 403
    for path, row, action in zip(PAGES, rows, ("sign_out_machines", "remove_trust"), strict=True):
        answer = root.post(path, {"action": action, "_selected_action": row.pk}, follow=True)
        assert answer.status_code == 200
    assert Machine.objects.get().signed_out_why == "signed out by an administrator"
    assert TrustedRepository.objects.get().removed_at is not None


def test_others_on_the_staff_see_none(
    rows: Any, make_person: Callable[..., Any], make_model: Callable[..., Any]
) -> None:
    reviewer = make_person("rita")
    assign_role(model=make_model(), user=reviewer, role=Role.OWNER)
    for path in PAGES:
        assert signed_in(reviewer).get(path).status_code == 403
        assert "/admin/login/" in signed_in(make_person(f"u{len(path)}")).get(path).url


def test_a_quiet_repository_shows_its_exchanges_beside_a_busy_one(
    rows: Any, make_person: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sign_ins, "MOST_EXCHANGES", 2)
    _, quiet = rows
    busy = trust_repository(user=quiet.user, issuer=quiet.issuer, repository="acme/busy")
    for number, trusted in enumerate([quiet, busy, busy, busy]):
        token = issue_person_token(
            user=quiet.user, kind=TokenKind.USER, name=f"ci {number}", origin=TokenOrigin.OIDC
        ).token
        TokenExchange.objects.create(
            trusted=trusted, token=token, identity=f"{number:064}", address=f"192.0.2.{number}"
        )
    root = signed_in(make_person("root", is_superuser=True))
    shown = [root.get(f"{PAGES[1]}{row.pk}/change/").content.decode() for row in (quiet, busy)]
    seen = [re.findall(r"192\.0\.2\.\d", page) for page in shown]
    assert [sorted(set(addresses)) for addresses in seen] == [["192.0.2.0"], ["192.0.2.2", "192.0.2.3"]]
