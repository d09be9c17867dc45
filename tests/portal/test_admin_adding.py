from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.test import Client

from access_requests.models import GatedModel

pytestmark = pytest.mark.django_db


def signed_in(person: Any) -> Client:
    client = Client()
    client.force_login(person)
    return client


@pytest.mark.parametrize("path", ["account/emailaddress/", "usersessions/usersession/"])
def test_addresses_and_sessions_are_not_added_by_hand(
    make_person: Callable[..., Any], settings: Any, path: str
) -> None:
    settings.GATEHOUSE_DEMO = True  # no second factor is required
    root = signed_in(make_person("root", is_superuser=True))
    page = root.get(f"/admin/{path}")
    assert page.status_code == 200
    assert f"/admin/{path}add/" not in page.content.decode()
    assert f"/admin/{path}add/" not in root.get("/admin/").content.decode()
    assert root.get(f"/admin/{path}add/").status_code == 403


@pytest.mark.parametrize(("who", "told"), [("adder", False), ("root", True)])
def test_hidden_model_whose_name_is_taken_is_named_only_to_those_who_may_know(
    make_model: Callable[..., Any], make_person: Callable[..., Any], settings: Any, who: str, told: bool
) -> None:
    settings.GATEHOUSE_DEMO = True
    make_model("ai/Secret", listed=False)
    person = make_person(who, is_superuser=who == "root")
    person.user_permissions.add(*Permission.objects.filter(codename="add_gatedmodel"))
    fields = {"repo_id": "ai/secret", "card": "# A", "licence_language": "en", "gate": "manual"}
    answer = signed_in(person).post(
        "/admin/access_requests/gatedmodel/add/",
        {**fields, "grant_days": "30", "method": "add", "compat": ""},
    )
    page = answer.content.decode()
    assert (answer.status_code, GatedModel.objects.count()) == (200, 1)
    assert ("You own no model in ai: " in page) is not told
    assert ("ai/Secret is already in the catalogue" in page) is told
