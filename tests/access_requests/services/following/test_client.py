"""The client handles every kind of answer, over real sockets."""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import partial
from typing import Any

import pytest

from access_requests.enums import FarStatus
from access_requests.services.following.client import (
    Away,
    FarClient,
    FarError,
    Limited,
    NotThere,
    Refused,
    RepositoryGone,
    TokenRefused,
)
from tests.access_requests.services.following.proxy import FaultProxy, Reply

LIST = "/api/models/lab/tulu/user-access-request/"
ITEM = {
    "user": {"_id": "64a", "user": "clem", "fullname": "Clem D", "email": "clem@example.org"},
    "timestamp": "2026-11-20T10:00:00.000Z",
    "status": "pending",
}


@pytest.fixture
def far() -> Generator[FaultProxy]:
    proxy = FaultProxy()
    yield proxy
    proxy.close()


@pytest.fixture
def client(far: FaultProxy) -> Generator[FarClient]:
    with make_client(far) as made:
        yield made


def make_client(far: FaultProxy, closed: Callable[[int], None] = lambda _: None) -> FarClient:
    return FarClient(
        endpoint=far.url, far_id="lab/tulu", token="hf_secret", spend=lambda: None, closed=closed
    )


def names(client: FarClient, **options: Any) -> list[str]:
    return [item.name for item in client.entries(FarStatus.PENDING, **options) if item]


def test_entry_of_the_live_hub_without_request_id_is_read(far: FaultProxy, client: FarClient) -> None:
    far.instead(LIST, Reply(body=[ITEM]))
    (item,) = client.entries(FarStatus.PENDING)
    assert item is not None
    assert (item.name, item.user_id, item.full_name, item.email) == (
        "clem",
        "64a",
        "Clem D",
        "clem@example.org",
    )
    assert (item.request_id, item.status, item.fields) == ("", FarStatus.PENDING, {})
    assert item.asked_at is not None
    assert item.asked_at.isoformat() == "2026-11-20T10:00:00+00:00"
    assert far.calls[0].headers["authorization"] == "Bearer hf_secret"


@pytest.mark.parametrize(
    "raw",
    [
        None,
        7,
        "clem",
        [],
        {},
        {"user": None},
        {"user": {"user": ""}},
        {"user": {"user": "a b"}},
        {"requestId": "x" * 101},
        {"user": {"user": "a\u202eb"}},
        {"user": {"user": "a\x00b"}},
        {"user": {"user": ["clem"]}},
        {"requestId": True},
    ],
)
def test_entry_that_names_nobody_is_counted_and_breaks_nothing(
    far: FaultProxy, client: FarClient, raw: Any
) -> None:
    far.instead(LIST, Reply(body=[raw, ITEM]))
    found = list(client.entries(FarStatus.PENDING))
    assert found[0] is None
    assert found[1] is not None


def test_entry_with_odd_values_is_cleaned(far: FaultProxy, client: FarClient) -> None:
    odd = {
        "requestId": 12,
        "user": {"user": None, "fullname": "Ada\u202e\n Love\0lace", "email": "not an address", "_id": {}},
        "timestamp": "yesterday",
        "fields": {
            "A\nlabel": "x\0y\ud800",
            "n": 3,
            "yes": True,
            "deep": {"a": [1]},
            "none": None,
            "list": ["a", "b"],
        },
    }
    far.instead(LIST, Reply(body=[odd]))
    (item,) = client.entries(FarStatus.PENDING)
    assert item is not None
    assert (item.request_id, item.name, item.full_name) == ("12", "", "Ada Love lace")
    assert (item.email, item.user_id, item.asked_at) == ("", "", None)
    assert item.fields == {
        "A label": "x\ufffdy\ufffd", "n": "3", "yes": True, "deep": '{"a": [1]}', "list": ["a", "b"],
    }  # fmt: skip


def test_pages_are_followed_within_the_list(far: FaultProxy, client: FarClient) -> None:
    link = {"Link": f'<{far.url}{LIST}pending?cursor=2>; rel="next"'}
    far.instead("cursor=2", Reply(body=[ITEM | {"user": {"user": "zoe"}}]))
    far.instead(LIST, Reply(body=[ITEM], headers=link))
    assert names(client) == ["clem", "zoe"]


@pytest.mark.parametrize(
    "target",
    [
        "http://127.0.0.2:9/api",
        "{far}/api/whoami-v2",
        "//127.0.0.2:9/x",
        "{far}.example.org/x",
        "file:///etc/passwd",
    ],
)
def test_next_page_elsewhere_never_gets_the_token(far: FaultProxy, client: FarClient, target: str) -> None:
    link = {"Link": f'<{target.format(far=far.url)}>; rel="next"'}
    far.instead(LIST, Reply(body=[ITEM], headers=link))
    with pytest.raises(Away, match="not of this list"):
        names(client)
    assert len(far.calls) == 1


def test_pages_in_a_circle_are_an_error(far: FaultProxy, client: FarClient) -> None:
    link = {"Link": f'<{far.url}{LIST}pending?limit=1000>; rel="next"'}
    far.instead(LIST, Reply(body=[ITEM], headers=link))
    with pytest.raises(Away, match="circle"):
        names(client)


def test_redirect_to_another_host_is_not_followed(far: FaultProxy, client: FarClient) -> None:
    other = FaultProxy()
    other.instead("", Reply(body=[ITEM]))
    far.instead(
        LIST, Reply(307, {}, {"Location": f"{other.url}/api/models/new/name/user-access-request/pending"})
    )
    with pytest.raises(RepositoryGone, match="/api/models/new/name"):
        names(client)
    with pytest.raises(RepositoryGone):
        client.handle(name="clem", request_id="", status=FarStatus.ACCEPTED)
    assert other.calls == []
    other.close()


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (Reply(401, {"error": "Invalid username or password."}), TokenRefused),
        (Reply(403, {"error": "read access but not the required permissions"}), TokenRefused),
        (Reply(404, {}, {"X-Error-Code": "RepoNotFound"}), RepositoryGone),
        (Reply(500, b"<html>"), Away),
        (Reply(503, {}), Away),
        (Reply(200, b"<html>"), Away),
        (Reply(200, {"error": "no"}), Away),
        (Reply(400, {"error": "no"}), Refused),
        (Reply(429, {}), Limited),
    ],
)
def test_list_that_fails_says_in_which_way(
    far: FaultProxy, client: FarClient, reply: Reply, error: type[FarError]
) -> None:
    far.instead(LIST, reply)
    with pytest.raises(error):
        names(client)


def test_write_that_finds_no_request_is_told_from_a_repository_that_is_gone(
    far: FaultProxy, client: FarClient
) -> None:
    far.instead("handle", Reply(404, {"error": "No access request found matching your criteria"}), times=1)
    far.instead("handle", Reply(404, {}, {"X-Error-Code": "RepoNotFound"}))
    with pytest.raises(NotThere, match="No access request found"):
        client.handle(name="clem", request_id="", status=FarStatus.ACCEPTED)
    with pytest.raises(RepositoryGone):
        client.handle(name="clem", request_id="", status=FarStatus.ACCEPTED)


def test_write_names_the_person_or_where_names_are_hidden_the_request(
    far: FaultProxy, client: FarClient
) -> None:
    far.instead("handle", Reply(body={}))
    client.handle(name="clem", request_id="r1", status=FarStatus.REJECTED, words="No.")
    client.handle(name="", request_id="r1", status=FarStatus.ACCEPTED, words="Yes.")
    client.handle(name="clem", request_id="", status=FarStatus.RESET, words="Over.")
    assert far.wrote() == [
        {"user": "clem", "status": "rejected", "rejectionReason": "No."},
        {"requestId": "r1", "status": "accepted"},
        {"user": "clem", "status": "reset", "resetReason": "Over."},
    ]


def test_reset_list_that_is_not_there_is_empty(far: FaultProxy, client: FarClient) -> None:
    far.instead("reset", Reply(404, {}))
    assert list(client.entries(FarStatus.RESET)) == []


def test_nobody_listening_is_away() -> None:
    far = FaultProxy()
    far.close()
    with make_client(far) as client, pytest.raises(Away, match="could not be reached"):
        names(client)


def test_answer_that_is_too_large_is_refused(far: FaultProxy, client: FarClient) -> None:
    far.instead(LIST, Reply(body=b" " * (33 * 2**20)))
    with pytest.raises(Away, match="too large"):
        names(client)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "120"}, 120),
        ({"Retry-After": "0"}, 1),
        ({"Retry-After": "999999999999"}, 3600),
        ({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, 1),
        ({"Retry-After": "soon"}, 60),
        ({"RateLimit": '"api";r=0;t=55'}, 55),
        ({}, 60),
    ],
)
def test_limit_says_how_long_to_wait(far: FaultProxy, headers: dict[str, str], seconds: int) -> None:
    told: list[int] = []
    far.instead(LIST, Reply(429, {}, headers))
    with make_client(far, told.append) as client, pytest.raises(Limited) as limited:
        names(client)
    assert (limited.value.seconds, told) == (seconds, [seconds])


def test_last_call_allowed_closes_the_endpoint_before_it_refuses(far: FaultProxy) -> None:
    told: list[int] = []
    far.instead(LIST, Reply(body=[ITEM], headers={"RateLimit": '"api";r=0;t=55'}))
    with make_client(far, told.append) as client:
        assert names(client) == ["clem"]
    assert told == [55]


def test_budget_is_asked_before_every_call(far: FaultProxy) -> None:
    def none_left() -> None:
        raise Limited("used up", 9)

    with FarClient(
        endpoint=far.url, far_id="lab/tulu", token="t", spend=none_left, closed=lambda _: None
    ) as client:
        for act in (
            partial(names, client),
            partial(client.handle, name="c", request_id="", status=FarStatus.ACCEPTED),
            partial(client.grant, name="c"),
        ):
            with pytest.raises(Limited):
                act()
    assert far.calls == []
