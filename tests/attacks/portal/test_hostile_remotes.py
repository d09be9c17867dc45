"""Remotes that send anything: each failure is an entry that the owner sees, and other repositories go on."""

from __future__ import annotations

import gzip
import json
import socket
from collections.abc import Generator
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from access_requests.enums import FarStatus, FollowState
from access_requests.models import (
    AccessRequest,
    Event,
    FarSide,
    FollowedRepo,
    FollowTrouble,
    OutgoingMail,
    RemotePerson,
    RemotePush,
)
from access_requests.services.catalogue.roles import assign_role
from access_requests.services.following import pushing
from access_requests.services.following.client import Away, FarClient
from access_requests.services.following.managing import follow
from access_requests.services.following.polling import poll
from access_requests.services.following.reading import read_item
from access_requests.services.following.troubles import KEPT, note_trouble
from access_requests.services.following.wire import Wire
from access_requests.services.requests.decide import record_decision
from access_requests.tasks import poll_followed
from tests.access_requests.admin.conftest import staff_browser
from tests.attacks.portal.hostile_remote import HostileRemote, answer

__all__ = ["staff_browser"]

pytestmark = pytest.mark.django_db
ITEM = {"user": {"_id": "64a", "user": "clem", "fullname": "Clem D"}, "timestamp": "2026-11-20T10:00:00.000Z"}
DEEP = b"[" * 200_000 + b"]" * 200_000
RIGHT = {"user": {"user": "zoe"}, "timestamp": "2026-11-20T10:00:00.000Z", "fields": {"Institution": "Lab"}}


@pytest.fixture
def remote() -> Generator[HostileRemote]:
    made = HostileRemote()
    yield made
    made.close()


@pytest.fixture
def other() -> Generator[HostileRemote]:
    made = HostileRemote(answer([]))
    yield made
    made.close()


@pytest.fixture
def followed(
    remote: HostileRemote, other: HostileRemote, make_model: Any, make_person: Any, settings: Any
) -> FollowedRepo:
    """Rita's model, which follows the hostile remote; `ai/second` follows a well-behaved one."""
    settings.GATEHOUSE_FOLLOW_TOKENS = {remote.url: "hf_secret", other.url: "hf_other"}
    model, rita = make_model("ai/tulu"), make_person("rita")
    assign_role(model=model, user=rita, role="owner")
    follow(model=make_model("ai/second"), endpoint=other.url, far_id="lab/second")
    return follow(model=model, endpoint=remote.url, far_id="lab/tulu")


def polled(followed: FollowedRepo) -> FollowedRepo:
    """Poll now, whether or not a poll is due, and return the row."""
    FarSide.objects.all().delete()
    FollowedRepo.objects.filter(pk=followed.pk).update(next_poll_at="2020-01-01T00:00:00Z")
    assert poll(followed_id=followed.pk)
    return FollowedRepo.objects.get(pk=followed.pk)


def link(address: str) -> bytes:
    return answer([ITEM], headers=f'Link: <{address}>; rel="next"\r\n')


def limited(value: str) -> bytes:
    return answer({}, status="429 Too Many Requests", headers=f"Retry-After: {value}\r\n")


def bomb() -> bytes:
    packed = gzip.compress(b" " * 50_000_000)
    return answer(packed, headers="Content-Encoding: gzip\r\n")


HOSTILE: dict[str, bytes] = {
    "nothing at all": b"",
    "deep JSON": answer(DEEP),
    "deep objects": answer(b'{"a":' * 100_000 + b"1" + b"}" * 100_000),
    "half a JSON": answer(b'[{"user": {"user": "cl'),
    "not JSON": answer(b"<html>"),
    "an object": answer({"error": "no"}),
    "a number": answer(b"7"),
    "null": answer(b"null"),
    "NaN": answer(b"NaN"),
    "empty": answer(b""),
    "millions of values": answer(b"[" + b"[]," * 2_100_000 + b"[]]"),
    "33 MiB": answer(b" " * (33 * 2**20)),
    "wrong charset": answer(b'[{"user": {"user": "\xff\xfe"}}]', headers="Content-Type: application/json; charset=nonsense\r\n"),
    "gzip bomb": bomb(),
    "brotli": answer(b"W" + b"\xff" * 100, headers="Content-Encoding: br\r\n"),
    "gzip that is none": answer(b"[]", headers="Content-Encoding: gzip\r\n"),
    "link that is no address": link("http://[>"),
    "link with a port that is none": link("http://h:port/"),
    "link to another host": link("http://127.0.0.2:9/x"),
    "link to a file": link("file:///etc/passwd"),
    "link to itself": link("?limit=1000"),
    "link with odd bytes": link("\xff\xfe"),
    "redirect to another host": answer(b"", status="302 Found", headers="Location: http://127.0.0.2:9/\r\n"),
    "redirect to nonsense": answer(b"", status="307 Moved", headers="Location: http://[\r\n"),
    "redirect to a scheme": answer(b"", status="301 Moved", headers="Location: gopher://x/\r\n"),
    "not HTTP": b"SSH-2.0-OpenSSH_9.6\r\n",
    "half a head": b"HTTP/1.1 200 OK\r\nContent-",
    "status that is none": b"HTTP/1.1 9999999 OK\r\n\r\n",
    "status 999": b"HTTP/1.1 999 Odd\r\nContent-Length: 0\r\n\r\n",
    "status 600": b"HTTP/1.1 600 Odd\r\nContent-Length: 0\r\n\r\n",
    "length that lies": answer(b"[]", length=100),
    "length below zero": answer(b"[]", length=-1),
    "length beyond all": answer(b"[]", length=10**30),
    "two lengths": answer(b"[]", headers="Content-Length: 7\r\n"),
    "chunks that are none": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "huge header": answer([], headers=f"X-A: {'a' * 300_000}\r\n"),
    "a hundred thousand headers": answer([], headers="A: b\r\n" * 100_000),
    "header with NUL": answer([], headers="X-A: \0\r\n"),
    "endless hundreds": b"HTTP/1.1 100 Continue\r\n\r\n" * 1000,
    "switches protocols": b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n",
    "TLS alert": b"\x15\x03\x01\x00\x02\x02\x28",
    "500": answer(b"<html>", status="500 Oops"),
    "503 for a time beyond all": answer({}, status="503 No", headers="Retry-After: 99999999999999999999\r\n"),
    "401": answer({"error": "\ud83d\ude00\0\u202e" * 500}, status="401 No"),
    "403 with odd words": answer(b"\xff", status="403 No", headers="X-Error-Message: \xff\xe2\x80\xae\r\n"),
    "404 with deep words": answer(DEEP, status="404 No"),
    "418": answer({"error": ["a list"]}, status="418 Teapot"),
    "429 NaN": limited("NaN"),
    "429 infinity": limited("Infinity"),
    "429 below zero": limited("-5"),
    "429 beyond all": limited("9" * 5000),
    "429 no date": limited("Wed, 99 Foo 99999 99:99:99 GMT"),
    "429 year 9999": limited("Fri, 31 Dec 9999 23:59:59 -2359"),
    "429 odd limit": answer({}, status="429 No", headers='RateLimit: "api";r=0;t=99999999999999999999999\r\n'),
    "429 no limit": answer({}, status="429 No", headers='RateLimit: "api";r=x;t=y\r\n'),
}  # fmt: skip


ORDINARY = {
    "nothing at all", "deep JSON", "millions of values", "wrong charset", "gzip bomb", "link that is no address",
    "link to another host", "link to itself", "redirect to another host", "redirect to nonsense", "not HTTP",
    "length that lies", "huge header", "TLS alert", "500", "401", "404 with deep words", "429 NaN", "429 beyond all",
    "429 odd limit",
}  # fmt: skip
assert HOSTILE.keys() > ORDINARY


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=[] if kind in ORDINARY else pytest.mark.slow) for kind in HOSTILE]
)
def test_hostile_answer_is_an_entry_on_the_page_and_other_repositories_go_on(
    followed: FollowedRepo, remote: HostileRemote, other: HostileRemote, staff_browser: Any, kind: str
) -> None:
    remote.send = HOSTILE[kind]
    was = timezone.now()
    row = polled(followed)
    assert row.problem
    assert (row.failures, row.lease_owner, row.lease_until) == (1, "", None)
    assert row.failing_since is not None
    assert was < row.next_poll_at <= was + timedelta(hours=2)
    trouble = FollowTrouble.objects.get(followed=followed)
    assert (trouble.sentence, trouble.times) == (row.problem[:500], 1)
    assert polled(followed).failures == (2 if row.state == FollowState.FOLLOWING else 1)
    browser: Client = staff_browser(followed.model.roles.get().user)
    page = browser.get(reverse("admin:access_requests_followedrepo_change", args=[followed.pk]))
    assert page.status_code == 200
    assert trouble.sentence in page.context["followed"].problem
    for one in FollowedRepo.objects.order_by("pk"):
        poll_followed(one.pk)
    assert FollowedRepo.objects.get(far_id="lab/second").polled_at is not None
    assert all("hf_secret" not in request for request in other.requests)


BAD_ITEMS: dict[str, Any] = {
    "null": None,
    "a number beyond all": 10**40,
    "nobody": {},
    "a user that is a list": {"user": [1]},
    "a deep answer": {"requestId": "d", "user": {"user": "deep"}, "fields": {"a": json.loads("[" * 500 + "]" * 500)}},
    "a year that overflows": {"user": {"user": "late"}, "timestamp": "9999-12-31T23:59:59-23:59"},
    "a year that underflows": {"user": {"user": "early"}, "timestamp": "0001-01-01T00:00:00+23:59"},
    "a day that is none": {"user": {"user": "noday"}, "timestamp": "2026-02-31T00:00:00Z"},
    "NUL and surrogates": {"user": {"user": "nul", "fullname": "\0\ud800"}, "fields": {"\0\ud800": "\0\ud800", "b": ["\ud800"]}},
    "names that turn around": {"user": {"user": "bidi", "fullname": "\u202egnorw\u2066 name"}},
    "an email of 10 MB": {"user": {"user": "mail", "email": "a@" + "b" * 10_000_000}},
    "a name of 10 MB": {"user": {"user": "n" * 10_000_000}, "requestId": "long"},
    "marks without end": {"user": {"user": "marks", "fullname": "a" + "\u0316\u0301" * 2_000_000}},
    "answers without end": {"user": {"user": "many"}, "fields": {str(n): "x" * 5000 for n in range(1000)}},
    "wrong types": {"requestId": 1.5, "user": {"user": "types", "_id": {}, "fullname": 7, "email": []}, "timestamp": 7, "fields": [1]},
    "one id of two people": {"requestId": "same", "user": {"user": "second"}},
    "one person of two ids": {"requestId": "other", "user": {"user": "first"}},
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD_ITEMS)
def test_bad_entry_stands_in_no_other_entrys_way(
    followed: FollowedRepo, remote: HostileRemote, kind: str
) -> None:
    first = {"requestId": "same", "user": {"user": "first"}}
    items = answer([first, BAD_ITEMS[kind], RIGHT])
    remote.send = lambda sock, path: sock.sendall(items if "/pending" in path else answer([]))
    row = polled(followed)
    assert (row.problem, row.failures) == ("", 0)
    assert {"first", "zoe"} <= set(RemotePerson.objects.values_list("name", flat=True))
    assert (row.unread > 0) == FollowTrouble.objects.filter(followed=followed).exists()
    assert polled(followed).failures == 0


def test_numbers_beyond_all_spoil_no_page(followed: FollowedRepo, remote: HostileRemote) -> None:
    """Python refuses to parse a number of more than 4,300 digits, and with it the page of requests."""
    huge = (
        b'[{"requestId": %b, "user": {"user": "big"}, "fields": {"n": %b, "x": NaN, "y": -Infinity}}, %b]'
        % (b"9" * 5000, b"9" * 5000, json.dumps(RIGHT).encode())
    )
    remote.send = lambda sock, path: sock.sendall(answer(huge if "/pending" in path else []))
    row = polled(followed)
    assert (row.problem, row.failures, row.unread) == ("", 0, 0)
    assert AccessRequest.objects.count() == 2


def test_pages_without_end_are_an_entry(followed: FollowedRepo, remote: HostileRemote) -> None:
    def send(sock: socket.socket, path: str) -> None:
        sock.sendall(link(f"?cursor={len(remote.requests)}"))

    remote.send = send
    row = polled(followed)
    assert row.problem == (
        f"{row.host} could not be asked: its lists are longer than 200 pages or 100,000 entries. We try again."
    )
    assert len(remote.requests) == 201


@pytest.mark.parametrize(
    "before", [b"HTTP/1.1 200 OK\r\nX-A: ", b"HTTP/1.1 200 OK\r\n\r\n"], ids=["head", "body"]
)
def test_dripping_answer_ends_as_a_whole(remote: HostileRemote, before: bytes) -> None:
    """The answer comes one byte at a time, each well within the read timeout."""

    def send(sock: socket.socket, path: str) -> None:
        sock.sendall(before)
        remote.drip(sock, b" ")

    remote.send = send
    wire = Wire(headers={}, longest=0.5)
    with pytest.raises(Away):
        wire.call("GET", f"{remote.url}/x")
    wire.close()


def test_reset_connection_and_missing_tls_are_entries(
    followed: FollowedRepo, remote: HostileRemote, settings: Any
) -> None:
    def reset(sock: socket.socket, path: str) -> None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    remote.send = reset
    assert "could not be reached" in polled(followed).problem
    remote.send = b"HTTP/1.1 400 Bad Request\r\n\r\n"
    secure = remote.url.replace("http:", "https:")
    settings.GATEHOUSE_FOLLOW_TOKENS |= {secure: "hf_secret"}
    FollowedRepo.objects.filter(pk=followed.pk).update(endpoint=secure)
    assert "SSL" in polled(followed).problem


def test_cookies_are_not_kept(remote: HostileRemote) -> None:
    remote.send = answer([], headers="Set-Cookie: a=b; Path=/\r\n" * 50)
    with FarClient(
        endpoint=remote.url, far_id="lab/tulu", token="t", spend=lambda: None, closed=lambda _: None
    ) as client:
        for status in (FarStatus.PENDING, FarStatus.ACCEPTED):
            assert list(client.entries(status)) == []
    assert len(remote.requests) == 2
    assert all("cookie" not in request.lower() for request in remote.requests)


def test_error_that_nobody_foresaw_is_an_entry_with_a_mark(
    followed: FollowedRepo, remote: HostileRemote, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    settings.GATEHOUSE_FOLLOW_TOKENS = {remote.url: "hf_\u2603"}  # cannot be sent in a header
    row = polled(followed)
    assert (row.failures, remote.requests) == (1, [])
    assert "not foreseen (UnicodeEncodeError, marked " in row.problem
    mark = row.problem.partition("marked ")[2][:8]
    assert [mark in record.getMessage() for record in caplog.records if record.exc_info] == [True]
    polled(followed)
    assert FollowTrouble.objects.get().times == 2  # the same fault is one entry


def test_entry_that_leads_to_an_unforeseen_error_is_left_out_and_shown(
    followed: FollowedRepo, remote: HostileRemote
) -> None:
    form = followed.model.form
    assert form is not None
    type(form).objects.filter(pk=form.pk).update(schema={"nonsense": True})
    remote.send = lambda sock, path: sock.sendall(answer([RIGHT] if "/pending" in path else []))
    row = polled(followed)
    assert (row.problem, row.unread) == ("", 1)
    assert "An entry was left out: its answer led to an error" in FollowTrouble.objects.get().sentence


def test_worker_that_dies_over_an_answer_is_an_entry(followed: FollowedRepo, remote: HostileRemote) -> None:
    """The worker is killed, for example for its memory use, and cannot record anything itself."""
    remote.send = answer([])
    dead = {"lease_owner": "dead", "lease_until": timezone.now() - timedelta(minutes=1)}
    FollowedRepo.objects.filter(pk=followed.pk).update(failures=2, **dead)
    row = polled(followed)
    assert (row.failures, remote.requests) == (3, [])
    assert "the worker that polled was stopped" in row.problem
    assert row.next_poll_at > timezone.now()
    assert FollowTrouble.objects.get().sentence == row.problem
    assert polled(followed).problem == ""


def test_owner_is_mailed_once_when_it_fails_for_long_and_once_when_that_is_over(
    followed: FollowedRepo, remote: HostileRemote
) -> None:
    def subjects() -> list[str]:
        return list(OutgoingMail.objects.order_by("pk").values_list("subject", flat=True))

    remote.send = HOSTILE["deep JSON"]
    polled(followed)
    assert subjects() == []
    FollowedRepo.objects.filter(pk=followed.pk).update(failing_since=timezone.now() - timedelta(hours=2))
    polled(followed)
    polled(followed)
    assert subjects() == [f"{followed.host} does not answer for ai/tulu"]
    remote.send = answer([])
    row = polled(followed)
    polled(followed)
    assert subjects()[1:] == [f"{followed.host} answers again for ai/tulu"]
    assert (row.failing_since, row.failing_told_at) == (None, None)
    kinds = Event.objects.filter(kind__in=["following.failing", "following.recovered"]).order_by("pk")
    assert list(kinds.values_list("kind", flat=True)) == ["following.failing", "following.recovered"]


def test_remote_that_fails_differently_each_time_fills_no_table(followed: FollowedRepo) -> None:
    for number in range(KEPT + 20):
        note_trouble(followed, f"problem {number} " + "x" * 1000)
    assert FollowTrouble.objects.filter(followed=followed).count() == KEPT


def test_long_import_goes_on_at_the_next_poll(followed: FollowedRepo, remote: HostileRemote) -> None:
    people = [{"user": {"user": f"p{number}"}} for number in range(3)]
    remote.send = lambda sock, path: sock.sendall(answer(people if "/pending" in path else []))
    for count in (1, 2, 3):
        assert poll(followed_id=followed.pk, longest=0)
        assert AccessRequest.objects.count() == count


@pytest.mark.parametrize(
    "kind", ["deep JSON", "link that is no address", "not HTTP", "429 NaN", "404 with deep words"]
)
def test_decision_that_meets_a_hostile_answer_is_tried_again_and_shown(
    followed: FollowedRepo, remote: HostileRemote, kind: str
) -> None:
    remote.send = lambda sock, path: sock.sendall(answer([RIGHT] if "/pending" in path else []))
    polled(followed)
    request = AccessRequest.objects.get()
    rita = followed.model.roles.get().user
    record_decision(request=request, reviewer=rita, outcome="approved")
    remote.send = HOSTILE[kind]
    push = RemotePush.objects.get()
    assert not pushing.push(push_id=push.pk)
    push.refresh_from_db()
    assert push.state == "due"
    assert push.last_error.startswith(f"{followed.host}: ")
    assert push.next_try_at > timezone.now()


texts = st.text(max_size=20)
values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), texts),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(texts, inner, max_size=4)),
    max_leaves=20,
)
items = st.fixed_dictionaries(
    {},
    optional={
        "requestId": values,
        "timestamp": st.one_of(values, st.datetimes().map(str), st.just("2026-01-01T00:00:00+23:59")),
        "fields": st.one_of(values, st.dictionaries(texts, values, max_size=5)),
        "user": st.one_of(
            values,
            st.fixed_dictionaries({}, optional=dict.fromkeys(("user", "_id", "fullname", "email"), values)),
        ),
    },
)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(raw=st.one_of(values, items))
def test_any_entry_is_read_or_left_out(raw: Any) -> None:
    item = read_item(raw, FarStatus.PENDING)
    if item is not None:
        assert item.name or item.request_id
        stored = json.dumps([item.fields, item.full_name, item.email])
        assert "\\u0000" not in stored
        assert not any("\ud800" <= c <= "\udfff" for c in json.loads(stored)[1])


@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    content=st.one_of(st.binary(max_size=200), st.lists(st.one_of(values, items), max_size=5)),
    whole=st.booleans(),
)
def test_any_answer_leaves_a_row_that_says_how_it_went(
    followed: FollowedRepo, remote: HostileRemote, content: Any, whole: bool
) -> None:
    FollowedRepo.objects.filter(pk=followed.pk).update(state=FollowState.FOLLOWING, problem="", failures=0)
    remote.send = content if isinstance(content, bytes) and not whole else answer(content)
    row = polled(followed)
    assert row.lease_owner == ""
    assert bool(row.problem) == bool(row.failures)
