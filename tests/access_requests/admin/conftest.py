"""Fixtures for the admin: staff with a second factor, whom the admin lets in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from django.test import Client

from access_requests.services.catalogue.roles import assign_role


@pytest.fixture
def staff_browser() -> Callable[[Any], Client]:
    """Return `staff_browser(person)`: the client of a signed-in staff member with a second factor."""

    def browser(person: Any) -> Client:
        Authenticator.objects.get_or_create(user=person, type=Authenticator.Type.TOTP, defaults={"data": {}})
        client = Client()
        client.force_login(person)
        return client

    return browser


@pytest.fixture
def desk(make_person: Callable[..., Any], make_model: Callable[..., Any], staff_browser: Any) -> Any:
    """Return ada, ai/tulu's owner olga and reviewer rita, sam, who owns another model, and superuser root."""

    class Desk:
        ada = make_person("ada", first_name="Ada", last_name="Lovelace", orcid="0000-0002-1825-0097")
        olga, rita, sam = make_person("olga"), make_person("rita"), make_person("sam")
        root = make_person("root", is_superuser=True)
        model, other = make_model("ai/tulu"), make_model("ai/other")

    assign_role(model=Desk.model, user=Desk.olga, role="owner")
    assign_role(model=Desk.model, user=Desk.rita, role="reviewer")
    assign_role(model=Desk.other, user=Desk.sam, role="owner")
    for name in ("olga", "rita", "sam", "root"):
        setattr(Desk, f"{name}_browser", staff_browser(getattr(Desk, name)))
    return Desk
