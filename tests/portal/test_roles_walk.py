"""Every role on every route of the admin and the API that changes something: nothing changes for those who may not."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from django.contrib import admin
from django.db import connection
from django.test import Client
from django.urls import get_resolver
from django.utils import timezone

from access_requests.enums import FarStatus, TokenKind
from access_requests.models import FollowedRepo, GatedModel
from access_requests.services.catalogue.gated_models import LicenceText
from access_requests.services.catalogue.message_texts import save_template
from access_requests.services.catalogue.roles import assign_role
from access_requests.services.following.importing import import_request
from access_requests.services.following.reading import FarItem
from access_requests.services.grants import grant_access
from access_requests.services.requests.messages import add_note
from access_requests.services.tokens import issue_person_token
from tests.attacks.portal.hostile_site import pretty, routes

pytestmark = pytest.mark.django_db

ROLES = ("stranger", "auditor", "reviewer", "owner")
# Admin pages that change the model itself; a reviewer may not use them either.
OF_OWNERS = (
    "gatedmodel",
    "followedrepo",
    "uploadrule",
    "recovery",
    "modelweights",
    "revision",
    "weightsource",
)
# What a person may do for themselves, with or without a role.
OWN_ACTIONS = ("ask-access", "user-access-request/cancel", "credentials/revoke")
TABLES = """
SELECT table_name FROM information_schema.tables WHERE table_schema = current_schema()
    AND (table_name LIKE 'access\\_requests\\_%%' OR table_name LIKE 'model\\_ops\\_%%' OR table_name = 'accounts_user')
"""


@pytest.fixture
def walk(make_person: Callable[..., Any], make_model: Callable[..., Any], submit: Any) -> Any:
    """Return a model with rows of many kinds, and clients and tokens of people in every role."""

    class Walk:
        model = make_model("ai/walk", licences=[LicenceText("L.txt", "en", "Be good.\n")])
        people = {name: make_person(name) for name in ROLES}
        ada, bob = make_person("ada"), make_person("bob")
        clients: dict[str, Client] = {}
        tokens: dict[str, str] = {}

    for name in ROLES[1:]:
        assign_role(model=Walk.model, user=Walk.people[name], role=name)
    Walk.request = submit(Walk.ada, Walk.model)
    grant_access(model=Walk.model, email=Walk.bob.email, days=30, token_name="laptop")
    add_note(request=Walk.request, reviewer=Walk.people["owner"], words="Looks fine.")
    save_template(model=Walk.model, name="Hello", text="Hello {name}")
    followed = FollowedRepo.objects.create(model=Walk.model, endpoint="http://127.0.0.1:9", far_id="far/walk")
    item = FarItem(
        status=FarStatus.PENDING,
        name="clem",
        full_name="Clem",
        email="",
        fields={},
        asked_at=timezone.now(),
    )
    import_request(followed=followed, item=item)
    for name, someone in Walk.people.items():
        Authenticator.objects.create(user=someone, type=Authenticator.Type.TOTP, data={})
        client = Client()
        client.force_login(someone)
        Walk.clients[name] = client
        kind = TokenKind.REVIEWER if name in {"reviewer", "owner"} else TokenKind.USER
        Walk.tokens[name] = issue_person_token(user=someone, name="walk", kind=kind).secret
    return Walk


def state() -> dict[str, str]:
    """Return a digest of every table's rows."""
    with connection.cursor() as cursor:
        cursor.execute(TABLES)
        found = {}
        for (table,) in cursor.fetchall():
            cursor.execute(
                f"SELECT md5(coalesce(string_agg(t::text, ';' ORDER BY t::text), '')) FROM {table} t"
            )
            found[table] = cursor.fetchone()[0]
    return found


def admin_addresses() -> Iterator[tuple[str, str]]:
    """Yield the name of the model and the address of each route of the admin, with rows that exist."""
    first = {
        model._meta.label_lower: model._default_manager.order_by("pk").values_list("pk", flat=True).first()
        for model in admin.site._registry
    }
    for route in dict.fromkeys(routes(get_resolver())):
        address = pretty(route, {"object_id": "1"})
        parts = address.strip("/").split("/")
        if parts[0] == "admin" and len(parts) > 2:
            label = f"{parts[1]}.{parts[2]}"
            number = first.get(label)
            yield parts[2], pretty(route, {"object_id": str(number) if number is not None else "1"})


def fields(walk: Any) -> dict[str, Any]:
    """Return the fields of all the admin's forms at once, filled in so that an owner could save them."""
    return {
        "outcome": "approved", "submission": "1", "to": "reset", "seen": "0", "read": "1", "words": "Because.",
        "reason_code": "other", "reason": "Because.", "kind": "note", "message_words": "Hello", "post": "yes",
        "add": "Add", "email": "new@example.org", "role": "owner", "name": "More.txt", "language": "en", "text": "More.",
        "retire": str(walk.model.licence_versions.get().pk), "repo_id": "ai/walked", "gate": "manual", "grant_days": "9",
        "approvals": "2", "listed": "on", "card": "---\nlicense: mit\n---\n# Other\n", "poll_every": "600",
        "mail_applicants": "on", "action": "try_again", "_selected_action": "1", "publish_uploads": "on",
        "model": str(walk.model.pk), "endpoint": "http://127.0.0.1:9", "far_id": "far/other",
        "licence_versions-TOTAL_FORMS": "0", "licence_versions-INITIAL_FORMS": "0",
    }  # fmt: skip


@pytest.mark.parametrize("who", ["stranger", "auditor", "reviewer"])
def test_no_route_of_the_admin_changes_what_the_role_may_not(walk: Any, who: str) -> None:
    sent, wrong, asked = fields(walk), [], 0
    for kind, address in admin_addresses():
        if who == "reviewer" and kind not in OF_OWNERS:
            continue
        before = state()
        response = walk.clients[who].post(address, sent)
        asked += 1
        after = state()
        changed = [table for table in after if after[table] != before[table]]
        if changed or response.status_code >= 500:
            wrong.append((address, response.status_code, changed))
    assert asked > 10
    assert wrong == []


def test_the_walk_would_notice(walk: Any) -> None:
    """The same requests of an owner change rows, so they are not refused for their form."""
    sent, changing = fields(walk), set()
    for kind, address in admin_addresses():
        before = state()
        walk.clients["owner"].post(address, sent)
        if state() != before:
            changing.add(f"{kind} {address.strip('/').split('/')[-1]}")
    assert changing >= {
        "gatedmodel people",
        "gatedmodel licences",
        "gatedmodel templates",
        "accessrequest decide",
        "accessrequest message",
        "grant revoke",
        "followedrepo settings",
    }


@pytest.mark.parametrize("who", ["stranger", "auditor"])
def test_no_route_of_the_api_changes_what_the_role_may_not(walk: Any, who: str) -> None:
    body = {
        "user": "ada", "status": "accepted", "requests": [{"user": "ada"}], "gated": False, "private": True,
        "name": "walked", "organization": "ai", "type": "model", "fromRepo": "ai/walk", "toRepo": "ai/walked",
        "branch": "other", "tag": "v1", "files": [], "summary": "x", "paths": ["x"], "operation": "upload",
        "objects": [{"oid": "0" * 64, "size": 1}],
    }  # fmt: skip
    wrong, asked = [], 0
    for route in dict.fromkeys(routes(get_resolver())):
        address = pretty(route, {"repo_id": "ai/walk", "pk": "1"})
        if not address.startswith("/api/") or any(part in address for part in OWN_ACTIONS):
            continue
        for method in ("post", "put", "delete"):
            before = state()
            response = getattr(walk.clients[who], method)(
                address,
                json.dumps(body),
                content_type="application/json",
                headers={"authorization": f"Bearer {walk.tokens[who]}"},
            )
            asked += 1
            changed = {table for table, digest in state().items() if digest != before[table]}
            changed -= {"access_requests_accesstoken"}  # when a token was last used
            if changed or response.status_code >= 500:
                wrong.append((method, address, response.status_code, changed))
    assert asked > 60
    assert wrong == []


@pytest.mark.parametrize("who", ROLES)
def test_every_page_and_call_answers_every_role(walk: Any, who: str) -> None:
    values = {"namespace": "ai", "name": "walk", "repo_id": "ai/walk", "pk": "1", "object_id": "1"}
    addresses = [pretty(route, values) for route in dict.fromkeys(routes(get_resolver()))]
    addresses += [address for _kind, address in admin_addresses()]
    bearer = {"authorization": f"Bearer {walk.tokens[who]}"}
    wrong = []
    for address in addresses:
        headers = bearer if address.startswith("/api/") else {}
        status = walk.clients[who].get(address, headers=headers).status_code
        if status >= 500 and address != "/healthz":  # which misses a worker here
            wrong.append((address, status))
    assert len(addresses) > 300
    assert wrong == []


@pytest.mark.parametrize(
    ("who", "requests", "log", "downloads", "file"),
    [
        ("stranger", 302, 302, 404, 403),
        ("auditor", 200, 200, 200, 403),
        ("reviewer", 200, 200, 200, 404),
        ("owner", 200, 200, 200, 404),
    ],
)
def test_what_each_role_reads(
    walk: Any, who: str, requests: int, log: int, downloads: int, file: int
) -> None:
    client = walk.clients[who]
    event = walk.request.events.first()
    assert (
        client.get(f"/admin/access_requests/accessrequest/{walk.request.pk}/change/").status_code == requests
    )
    assert client.get(f"/admin/access_requests/event/{event.pk}/change/").status_code == log
    assert client.get("/ai/walk/downloads").status_code == downloads
    bearer = {"authorization": f"Bearer {walk.tokens[who]}"}
    answer = Client().get("/ai/walk/resolve/main/model.safetensors", headers=bearer)
    assert answer.status_code == file
    assert GatedModel.objects.filter(pk=walk.model.pk).exists()
