"""Opening a page takes no lock and writes nothing: open every address as everyone and check the SQL."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from allauth.mfa.models import Authenticator
from django.apps import apps
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import URLPattern, URLResolver, get_resolver

from access_requests.enums import Outcome, TokenKind, TokenOrigin
from access_requests.models import AccessToken, Machine, TrustedRepository
from access_requests.services.catalogue.roles import assign_role
from access_requests.services.oauth import codes
from access_requests.services.oauth.trusted import trust_repository
from access_requests.services.requests.decide import record_decision
from access_requests.services.tokens import issue_person_token, issue_token
from model_ops.services.revisions.publish import publish_revision
from portal.accounts.people import invitation_url
from tests.model_ops.hub.routes_table import GROUPS
from tests.sign_in import sign_in

pytestmark = pytest.mark.django_db

WRITES = re.compile(
    r"^\W*(INSERT|UPDATE|DELETE|TRUNCATE|LOCK|MERGE)\b"
    r"|\bFOR (NO KEY )?UPDATE\b|\bFOR (KEY )?SHARE\b|\bpg_(try_)?advisory|\bnextval\b",
    re.IGNORECASE,
)
# The pages that write although they are only opened, each with its reason. Each writes only its own
# visitor's session, which no one else waits for.
IN_SESSION = {
    "mfa_activate_totp": ("ada", "the secret that is shown must be known when its first code comes back"),
    "mfa_add_webauthn": ("ada", "the challenge that a new passkey answers"),
    "mfa_reauthenticate_webauthn": ("", "the challenge of a passkey, which nobody has here"),
    "mfa_login_webauthn": ("nobody", "the challenge that the passkey answers"),
    "account_reset_password_from_key": ("nobody", "the key leaves the address before the page is shown"),
}
SESSION = '"django_session"'
PEOPLE = ["nobody", "stranger", "waiting", "ada", "olga", "root"]


class World:
    """One model and people in every relation to it."""

    model: Any
    people: dict[str, Any]
    tokens: dict[str, str | None]
    numbers: dict[str, int]


@pytest.fixture
def world(make_person: Callable[..., Any], make_model: Callable[..., Any], submit: Any) -> World:
    made = World()
    made.model = make_model("ai/tulu")
    made.people = {name: make_person(name) for name in PEOPLE if name not in {"nobody", "root"}}
    made.people["root"] = make_person("root", is_superuser=True)
    ada, olga, model = made.people["ada"], made.people["olga"], made.model
    assign_role(model=model, user=olga, role="owner")
    request = submit(ada, model)
    record_decision(request=request, reviewer=olga, outcome=Outcome.APPROVED)
    waits = submit(made.people["waiting"], model)
    publish_revision(model=model)
    grant = request.grants.get()
    issue_token(grant=grant, user=ada, name="laptop")
    made.tokens = {"nobody": None}
    for name, person in made.people.items():
        made.tokens[name] = issue_person_token(user=person, kind=TokenKind.USER, name="all").secret
    mine = AccessToken.objects.get(user=ada, origin=TokenOrigin.PAGE, grant=None)
    code = codes.begin_sign_in(client_id="", client="", address=None).code
    machine = codes.approve(code=code, user=ada, name="gpu")
    trusted = trust_repository(
        user=ada, issuer="https://token.actions.githubusercontent.com", repository="ada/tulu"
    )
    made.numbers = {
        "request": waits.pk,
        "licence": model.licence_versions.get().pk,
        "token_revoke": grant.tokens.get().pk,
        "my_token_rotate": mine.pk,
        "my_token_revoke": mine.pk,
        "machine_sign_out": Machine.objects.get(pk=machine.pk).pk,
        "trusted_remove": TrustedRepository.objects.get(pk=trusted.pk).pk,
    }
    return made


def leaves(resolver: URLResolver, before: str = "") -> Iterator[tuple[str, URLPattern]]:
    """Return every address with its pattern."""
    for one in resolver.url_patterns:
        if isinstance(one, URLResolver):
            yield from leaves(one, before + str(one.pattern))
        else:
            yield before + str(one.pattern), one


def number_of(name: str, world: World) -> int | str:
    """Return the id that an address with this name shows; in the admin, the last row of its table, if any."""
    if name in world.numbers:
        return world.numbers[name]
    for model in apps.get_models():
        if name.startswith(f"{model._meta.label_lower.replace('.', '_')}_"):
            row = model._default_manager.order_by("pk").last()
            return row.pk if row else 1
    return 1


def pages(world: World) -> Iterator[tuple[str, str]]:
    """Return (name, address) of every page; regular expressions are the protocol's, with two exceptions."""
    for pattern, leaf in leaves(get_resolver()):
        name = leaf.name or ""
        if name == "account_reset_password_from_key":
            yield name, urlsplit(invitation_url(world.people["stranger"])).path
            continue
        if re.search(r"[\^$\\]", pattern):
            continue
        values = {"namespace": "ai", "name": "tulu", "app_label": "accounts", "signed": "x", "token": "x"}
        values |= dict.fromkeys(("pk", "object_id", "mail_id"), str(number_of(name, world)))
        values["content_type_id"] = "1"
        yield name, "/" + re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", pattern).format(**values)
    for label in ("access_requests", "accounts", "model_ops"):
        yield "app_list", f"/admin/{label}/"


def routes(world: World) -> Iterator[tuple[str, str]]:
    """Return the addresses of the Hub's protocol that are opened with GET."""
    names = dict.fromkeys(
        ("model", "open", "hidden", "renamed", "asked", "left", "absent"), world.model.repo_id
    )
    names |= dict.fromkeys((f"{name}_commit" for name in list(names)), world.model.refs.get().revision.commit)
    names["commit"] = names["model_commit"]
    for route in chain.from_iterable(GROUPS.values()):
        if route.method == "GET":
            yield route.path, route.asked("ada", names)[0]


def written(client: Client, address: str, **headers: Any) -> list[str]:
    """Open the address and return the statements that did more than read."""
    with CaptureQueriesContext(connection) as seen:
        response = client.get(address, **headers)
        b"".join(response.streaming_content) if response.streaming else response.content
    assert response.status_code < 500 or address == "/healthz", address  # /healthz: no worker runs
    return [query["sql"] for query in seen if WRITES.search(query["sql"])]


def browser_of(world: World, name: str) -> Client:
    client = Client()
    if name == "root":
        factors = Authenticator.objects
        factors.create(user=world.people["root"], type=Authenticator.Type.TOTP, data={})
    if name != "nobody":
        sign_in(
            client, world.people[name], confirmed=True
        )  # so that pages that ask for the password again open at once
    return client


@pytest.mark.parametrize("who", PEOPLE)
def test_page_writes_nothing_when_it_is_opened(world: World, who: str) -> None:
    client, wrong, opened = browser_of(world, who), [], 0
    for name, address in pages(world):
        opened += 1
        found = written(client, address)
        if name in IN_SESSION:
            found = [sql for sql in found if SESSION not in sql]
        wrong += [f"{address} ({name}): {sql[:200]}" for sql in found]
        if who != "nobody" and "_auth_user_id" not in client.session:
            pytest.fail(f"{address} ended the session")
    assert opened > 100
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("name", [name for name, (who, _reason) in IN_SESSION.items() if who])
def test_page_that_may_write_still_does(world: World, name: str) -> None:
    who, _reason = IN_SESSION[name]
    address = dict(pages(world))[name]
    ajax = {"HTTP_X_REQUESTED_WITH": "XMLHttpRequest"} if name == "mfa_login_webauthn" else {}
    found = written(browser_of(world, who), address, **ajax)
    assert found
    assert all(SESSION in sql for sql in found)


@pytest.mark.parametrize("who", PEOPLE)
def test_route_of_the_protocol_writes_nothing_when_it_is_asked(
    world: World, who: str, settings: Any, tmp_path: Path
) -> None:
    token = world.tokens[who]
    headers = {"HTTP_AUTHORIZATION": f"Bearer {token}"} if token else {}
    wrong, opened = [], 0
    for name, address in routes(world):
        opened += 1
        wrong += [f"{address} ({name}): {sql[:200]}" for sql in written(Client(), address, **headers)]
    assert opened > 10
    assert not wrong, "\n".join(wrong)
