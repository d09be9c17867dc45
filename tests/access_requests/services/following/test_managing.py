"""Who may follow what and with which token, and the commands for it."""

from __future__ import annotations

import json
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command

from access_requests.enums import FollowState
from access_requests.errors import Conflict, Invalid, NotAllowed
from access_requests.models import Event, FollowedRepo, RemotePush
from access_requests.services.catalogue.roles import assign_role
from access_requests.services.following.credentials import (
    check_endpoint,
    known_endpoints,
    token_for,
    token_mark,
)
from access_requests.services.following.managing import follow, unfollow
from access_requests.services.requests.decide import record_decision
from tests.access_requests.services.following.conftest import Sides

pytestmark = pytest.mark.django_db
HUB = "https://hub.example.org"


@pytest.fixture
def tokens(settings: Any) -> None:
    settings.GATEHOUSE_HUB_ENDPOINT, settings.GATEHOUSE_HUB_TOKEN = HUB, "hf_hub"
    settings.GATEHOUSE_FOLLOW_TOKENS = {"https://other.example.org": "gth_other"}


def test_token_goes_to_its_own_endpoint_alone(tokens: None) -> None:
    assert (token_for(HUB), token_for("https://other.example.org")) == ("hf_hub", "gth_other")
    for stranger in (
        "http://hub.example.org",
        f"{HUB}.evil.org",
        f"{HUB}:444",
        f"{HUB}/x",
        "https://huggingface.co",
    ):
        assert token_for(stranger) == ""
    assert known_endpoints() == [HUB, "https://other.example.org"]


def test_mark_tells_tokens_apart_and_does_not_hold_them() -> None:
    assert token_mark("a") != token_mark("b")
    assert len(token_mark("hf_secret")) == 64


@pytest.mark.parametrize(
    "endpoint",
    ["", "hub.example.org", "ftp://hub.example.org", "http://hub.example.org", "https://u:p@hub.example.org", "https://h?x=1", "http://[x", "http://127.0.0.1:8000", "https://" + "h" * 200],
)  # fmt: skip
def test_endpoint_that_cannot_be_trusted_with_a_token_is_refused(endpoint: str) -> None:
    with pytest.raises(Invalid):
        check_endpoint(endpoint)


def test_endpoint_is_kept_without_slash_and_in_lower_case() -> None:
    assert check_endpoint(" https://Hub.example.ORG/ ") == HUB
    assert check_endpoint("http://127.0.0.1:9/") == "http://127.0.0.1:9"


def test_follow_takes_the_models_own_id_and_is_an_event(
    tokens: None, make_model: Any, make_person: Any
) -> None:
    model, rita = make_model("ai/tulu"), make_person("rita")
    assign_role(model=model, user=rita, role="owner")
    followed = follow(model=model, endpoint=HUB, actor=rita)
    assert (followed.far_id, followed.state, followed.mail_applicants) == (
        "ai/tulu",
        FollowState.FOLLOWING,
        False,
    )
    event = Event.objects.get(kind="following.began")
    assert (event.actor, event.data) == (rita, {"endpoint": HUB, "repository": "ai/tulu"})


def test_follow_is_refused_in_a_sentence(tokens: None, make_model: Any, make_person: Any) -> None:
    model, stranger, owner = make_model("ai/tulu"), make_person("sam"), make_person("olga")
    assign_role(model=model, user=owner, role="owner")
    with pytest.raises(NotAllowed, match="You are not an owner"):
        follow(model=model, endpoint=HUB, actor=stranger)
    with pytest.raises(Invalid, match="has no token here: ask an operator to set"):
        follow(model=model, endpoint="https://third.example.org", actor=owner)
    with pytest.raises(Invalid, match="set GATEHOUSE_FOLLOW_TOKENS to one with write access to ai/tulu"):
        follow(model=model, endpoint="https://third.example.org")
    with pytest.raises(Invalid, match="not a repository id"):
        follow(model=model, endpoint=HUB, far_id="ai/../x")
    with pytest.raises(Invalid, match="is not gated here"):
        follow(model=make_model("ai/open", gate="none"), endpoint=HUB)
    follow(model=model, endpoint=HUB)
    for again in (model, make_model("ai/other")):
        with pytest.raises(Conflict, match="followed already"):
            follow(model=again, endpoint=HUB, far_id="AI/Tulu")
    assert FollowedRepo.objects.count() == 1


def test_unfollow_tells_nothing_more_and_following_again_knows_who_was_imported(sides: Sides) -> None:
    name = sides.ask()
    sides.poll()
    remote = sides.remote(name)
    unfollow(followed=sides.followed, actor=sides.rita)
    record_decision(request=remote.request, reviewer=sides.rita, outcome="approved")
    assert RemotePush.objects.count() == 0
    again = follow(model=sides.model, endpoint=sides.proxy.url, far_id=sides.far_id)
    assert again.pk == sides.followed.pk
    sides.poll()
    assert sides.remote(name).pk == remote.pk
    assert sides.remote(name).drifted_at is not None  # decided here in the meantime, and not reported
    assert sides.place(name) == "pending"


def run(name: str, *arguments: str) -> dict[str, Any]:
    out = StringIO()
    call_command(name, *arguments, "--json", stdout=out)
    return dict(json.loads(out.getvalue()))


def test_commands_follow_ask_and_unfollow(sides: Sides) -> None:
    name = sides.ask()
    place = {"model": "ai/tulu", "endpoint": sides.proxy.url, "repository": sides.far_id}
    assert run("unfollow", "ai/tulu") == place
    assert run("follow", "ai/tulu", "--endpoint", sides.proxy.url, "--as", sides.far_id) == place
    found = run("sync_now", "AI/tulu")
    assert (found["known"], found["told"], found["drifted"], found["problem"]) == (1, 0, 0, "")
    record_decision(request=sides.remote(name).request, reviewer=sides.rita, outcome="approved")
    assert run("sync_now", "ai/tulu")["told"] == 1
    assert sides.place(name) == "accepted"


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        (["unfollow", "ai/other"], "There is no model ai/other"),
        (["sync_now", "ai/free"], "ai/free follows no repository: begin with manage.py follow ai/free."),
        (
            ["follow", "ai/free", "--endpoint", "https://x.example.org"],
            "There is no token for https://x.example.org",
        ),
        (
            ["follow", "ai/free", "--endpoint", "http://x.example.org"],
            "could be read on its way over plain http",
        ),
    ],
)
def test_command_that_cannot_be_done_says_why(make_model: Any, command: list[str], sentence: str) -> None:
    make_model("ai/free")
    errors = StringIO()
    with pytest.raises(SystemExit):
        call_command(*command, stdout=StringIO(), stderr=errors)
    assert sentence in errors.getvalue()
