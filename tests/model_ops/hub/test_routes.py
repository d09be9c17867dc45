"""The table of routes matches the answers of a live portal, is complete, and is the one in the docs."""

from __future__ import annotations

import itertools

import pytest
from django.urls import URLPattern, URLResolver, get_resolver, resolve

from tests.model_ops.hub.conftest import Answer, Portal
from tests.model_ops.hub.routes_page import PAGE, as_markdown
from tests.model_ops.hub.routes_table import GROUPS, MODELS, PEOPLE, Route

ROUTES = list(itertools.chain.from_iterable(GROUPS.values()))
PREFIXES = ("api/", "oauth/", "resolve", "raw/", "blob", "ask-access", "user-access", "lfs/")


@pytest.fixture(scope="module")
def names(portal: Portal) -> dict[str, str]:
    """The names of the table, with everyone in their state towards every model and with a personal token."""
    names = dict(MODELS)
    content = {"config.json": "e30=", "model.safetensors": "AgAAAAAAAAB7fQ=="}
    for name, repo_id in MODELS.items():
        if name == "absent":
            continue
        texts = {"licences": []} if name == "asked" else {}
        portal.order("model", repo_id=repo_id, listed=name != "hidden", **texts)
        names[f"{name}_commit"] = portal.order("commit", repo_id=repo_id, add=content)["commit"]
        for who in PEOPLE:
            if who != "anonymous":
                state = "granted" if who == "disabled" else who
                portal.order("stand", name=f"table-{who}", repo_id=repo_id, state=state)
    names["commit"] = names["model_commit"]
    portal.order("rename", repo_id=MODELS["renamed"], to="maker/table-new")
    for who in PEOPLE:
        if who != "anonymous":
            kind = "reviewer" if who in {"reviewer", "owner"} else "user"
            token = portal.order("token", name=f"table-{who}", kind=kind, called="table")["token"]
            portal.tokens[f"table-{who}"] = token
    portal.tokens["table-anonymous"] = None
    path, owner = f"/api/models/{MODELS['open']}/settings", portal.tokens["table-owner"]
    assert portal.ask("PUT", path, token=owner, body=b'{"gated": false}').status == 200
    portal.order("end", name="table-disabled", repo_id=MODELS["model"], how="account disabled")
    for who, number in itertools.product(("reviewer", "owner"), (1, 2, 3)):
        state = "pending" if number < 3 else "stranger"
        portal.order("stand", name=f"table-for-{who}-{number}", repo_id=MODELS["model"], state=state)
    return names


def ask(portal: Portal, route: Route, who: str, names: dict[str, str], method: str = "") -> Answer:
    path, body, headers = route.asked(who, names)
    return portal.ask(method or route.method, path, token=portal.tokens[f"table-{who}"], body=body, **headers)


def said(answer: Answer) -> str:
    return f"{answer.status} {answer.headers.get('x-error-code', '')}".strip()


@pytest.mark.parametrize("group", GROUPS)
def test_every_route_answers_everybody_as_the_table_says(
    portal: Portal, names: dict[str, str], group: str
) -> None:
    wrong = []
    for route in GROUPS[group]:
        for who in PEOPLE:
            answer = ask(portal, route, who, names)
            if said(answer) != route.answers[who]:
                wrong.append(f"{route.method} {route.path} {who}: {said(answer)}: {answer.body[:300]!r}")
            if answer.status >= 400:
                assert answer.headers["x-error-message"], (route, who)
                assert "<html" not in answer.text, (route, who)
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("who", ["anonymous", "pending", "owner"])
def test_head_answers_as_get_without_a_body(portal: Portal, names: dict[str, str], who: str) -> None:
    for route in ROUTES:
        if route.method == "GET" and not route.path.startswith("/oauth/"):
            answer = ask(portal, route, who, names, "HEAD")
            assert (said(answer), answer.body) == (route.answers[who], b""), route


def test_everybody_has_an_answer_in_every_row() -> None:
    assert [list(route.answers) for route in ROUTES] == [list(PEOPLE)] * len(ROUTES)


def test_no_address_of_the_protocol_is_without_a_row() -> None:
    """The spelling of a pattern shows whether its address belongs to the protocol."""
    known = {pattern_of(route) for route in ROUTES}
    ours = [one for one in patterns(get_resolver()) if any(part in one for part in PREFIXES)]
    assert len(ours) > 40
    assert [one for one in ours if one not in known] == []


def pattern_of(route: Route) -> str:
    path, _, _ = route.asked(
        "ada", MODELS | {"commit": "0" * 40, "open_commit": "0" * 40, "hidden_commit": "0" * 40}
    )
    return resolve(path.partition("?")[0]).route


def patterns(resolver: URLResolver, prefix: str = "") -> list[str]:
    found: list[str] = []
    for one in resolver.url_patterns:
        place = prefix + str(one.pattern)
        found += [place] if isinstance(one, URLPattern) else patterns(one, place)
    return found


def test_docs_show_the_table() -> None:
    assert PAGE.read_text() == as_markdown()
