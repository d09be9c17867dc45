"""What a poll imports, and what it leaves alone."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from access_requests.enums import FarStatus, FollowState, RequestState
from access_requests.models import (
    AccessRequest,
    Event,
    EventText,
    FarSide,
    FollowedRepo,
    OutgoingMail,
    RemotePerson,
    RemoteRequest,
)
from access_requests.services.following import budget, polling
from access_requests.services.following.managing import follow, pause, sync_now, unfollow
from access_requests.services.requests.decide import record_decision
from portal.accounts.models import User
from tests.access_requests.services.following.conftest import Sides
from tests.access_requests.services.following.proxy import Reply

pytestmark = pytest.mark.django_db


@pytest.mark.slow
def test_pending_request_is_imported_with_person_and_answers(sides: Sides) -> None:
    name = sides.ask()
    followed = sides.poll()
    assert (followed.problem, followed.failures, followed.unread) == ("", 0, 0)
    remote = sides.remote(name)
    request, person = remote.request, remote.person.user
    assert (request.state, request.model, request.full_name) == (
        RequestState.SUBMITTED,
        sides.model,
        "Ada Lovelace",
    )
    assert request.answers == {
        "f1": "Ada", "f2": "Lovelace", "f3": "Analytical Society", "f4": "GB",
        "f5": "Study of instruction following.", "f6": [], "f7": True,
    }  # fmt: skip
    assert (remote.far_status, remote.other_answers, remote.drifted_at) == (FarStatus.PENDING, {}, None)
    assert (remote.person.name, remote.person.full_name) == (name, "Clem Delangue")
    assert remote.person.email == f"{name}@far.example.org"
    assert (person.imported, person.email, person.has_usable_password()) == (True, "", False)
    assert person.username == f"{name}.{followed.host.replace(':', '.')}"
    (event,) = Event.objects.filter(kind="request.imported")
    assert (event.request_id, event.actor, event.actor_name) == (request.pk, None, followed.host)


def test_second_poll_brings_nothing_new(sides: Sides) -> None:
    name = sides.ask()
    sides.poll()
    before = list(RemoteRequest.objects.values_list("pk", "far_asked_at", "request"))
    events = Event.objects.count()
    sides.poll()
    assert list(RemoteRequest.objects.values_list("pk", "far_asked_at", "request")) == before
    assert (Event.objects.count(), sides.remote(name).drifted_at) == (events, None)


def test_one_mail_tells_of_all_that_a_poll_brought(sides: Sides) -> None:
    for _ in range(3):
        sides.ask()
    sides.poll()
    sides.poll()
    (mail,) = OutgoingMail.objects.all()
    assert (mail.to, mail.subject) == (
        "rita@example.org", f"3 new requests for ai/tulu from {sides.followed.host}",
    )  # fmt: skip


def test_answers_under_labels_that_our_form_lacks_are_kept(sides: Sides) -> None:
    name = sides.ask()

    def other(items: list) -> list:
        for item in items:
            item["fields"] = {
                "institution:": "Lab", "Shoe size": "42", "Country (where user is located)": "Atlantis",
                "First Name": "Zoe",
            }  # fmt: skip
        return items

    sides.proxy.change("/pending", other)
    sides.poll()
    remote = sides.remote(name)
    assert remote.request.answers == {"f1": "Zoe", "f3": "Lab"}
    assert remote.other_answers == {"Shoe size": "42", "Country (where user is located)": "Atlantis"}


def test_request_waits_for_a_reviewer_even_where_our_gate_is_automatic(sides: Sides) -> None:
    sides.model.gate = "auto"
    sides.model.save()
    name = sides.ask()
    sides.poll()
    assert sides.remote(name).request.state == RequestState.SUBMITTED


def test_accepted_people_whom_we_never_saw_are_left_alone(sides: Sides) -> None:
    name = sides.ask()
    sides.put(name, "accepted")
    sides.poll()
    assert RemotePerson.objects.count() == 0
    assert User.objects.filter(imported=True).count() == 0


def test_entries_without_request_id_are_matched_by_name(sides: Sides) -> None:
    def bare(items: list) -> list:
        return [
            {k: v for k, v in item.items() if k != "requestId"} | {"user": {"user": item["user"]["user"]}}
            for item in items
        ]

    sides.proxy.change("user-access-request/", bare)
    name = sides.ask()
    sides.poll()
    sides.poll()
    (remote,) = RemoteRequest.objects.all()
    assert (remote.far_request_id, remote.person.name, remote.person.email) == ("", name, "")


def test_entries_with_hidden_names_are_matched_by_request_id(sides: Sides) -> None:
    def hide(items: list) -> list:
        return [{k: v for k, v in item.items() if k != "user"} for item in items]

    sides.proxy.change("user-access-request/", hide)
    name = sides.ask()
    sides.poll()
    sides.poll()
    (remote,) = RemoteRequest.objects.all()
    assert (remote.person.name, remote.person.user.get_full_name()) == ("", remote.person.user.username)
    record_decision(request=remote.request, reviewer=sides.rita, outcome="approved")
    assert sides.tell() == [True]
    assert sides.place(name) == "accepted"
    assert list(sides.proxy.wrote()[0]) == ["requestId", "status"]


def test_entry_that_cannot_be_understood_is_counted(sides: Sides) -> None:
    sides.ask()
    sides.proxy.change("/pending", lambda items: [*items, {"user": None}, 7])
    assert sides.poll().unread == 2
    assert RemoteRequest.objects.count() == 1


def test_person_with_hidden_name_is_the_same_person_in_a_second_repository(
    sides: Sides, make_model: Any
) -> None:
    hidden = {"user": {"_id": "65a1"}}
    sides.proxy.change("/pending", lambda items: [item | hidden for item in items])
    sides.ask()
    sides.poll()
    other = follow(model=make_model("ai/other"), endpoint=sides.proxy.url, far_id=sides.far_id + "-b")
    sides.proxy.instead("/pending", Reply(200, [{**hidden, "requestId": "b1", "status": "pending"}]))
    for name in ("accepted", "rejected", "reset"):
        sides.proxy.instead(f"/{name}", Reply(200, []))
    assert polling.poll(followed_id=other.pk) is True
    other.refresh_from_db()
    assert (other.problem, other.unread) == ("", 0)
    (person,) = RemotePerson.objects.all()
    assert person.remote_requests.count() == 2


def test_address_is_kept_in_lower_case(sides: Sides) -> None:
    sides.proxy.change(
        "/pending",
        lambda items: [item | {"user": {**item["user"], "email": "Clem@Example.ORG"}} for item in items],
    )
    sides.ask()
    sides.poll()
    assert RemotePerson.objects.get().email == "clem@example.org"


@pytest.mark.slow
def test_person_who_was_renamed_there_stays_the_same_person(sides: Sides) -> None:
    name = sides.ask()
    sides.poll()
    remote = sides.remote(name)
    sides.far.order("rename", name=name, to=f"{name}-x")
    sides.poll()
    assert sides.remote(f"{name}-x").pk == remote.pk
    assert Event.objects.get(kind="remote.renamed").data == {"was": name, "is": f"{name}-x"}


def test_name_that_somebody_else_took_is_somebody_else(sides: Sides) -> None:
    name = sides.ask()
    sides.poll()
    first = sides.remote(name)
    sides.far.order("rename", name=name, to=f"{name}-x")
    sides.ask(name + "-new")
    sides.far.order("rename", name=name + "-new", to=name)
    sides.poll()
    first.refresh_from_db()
    first.person.refresh_from_db()
    second = sides.remote(name)
    assert (first.person.name, second.pk == first.pk) == (f"{name}-x", False)
    assert second.person.user != first.person.user


@pytest.mark.slow
def test_person_here_with_that_name_or_address_is_not_taken_for_them(sides: Sides, make_person) -> None:
    name = "zoe-local"
    here = make_person(name, email=f"{name}@far.example.org")
    host = sides.followed.host.replace(":", ".")
    squatter = make_person(f"{name}.{host}")
    sides.ask(name)
    sides.poll()
    person = sides.remote(name).person.user
    assert person not in {here, squatter}
    assert person.username == f"{name}.{host}.2"
    assert not AccessRequest.objects.filter(applicant__in=[here, squatter]).exists()


def test_person_withdrew_and_asked_again_after_a_reset_is_a_new_request(sides: Sides) -> None:
    name = sides.ask()
    sides.poll()
    old = sides.remote(name).request
    record_decision(request=old, reviewer=sides.rita, outcome="reset")
    assert sides.tell() == [True]
    assert sides.place(name) == "reset"
    sides.ask(name)
    sides.poll()
    new = sides.remote(name).request
    assert (new.pk == old.pk, new.state, new.applicant) == (False, RequestState.SUBMITTED, old.applicant)
    old.refresh_from_db()
    assert old.state == RequestState.RESET


@pytest.mark.slow
def test_token_that_lost_its_right_is_one_sentence_and_stops_polls_until_it_changes(
    sides: Sides, settings
) -> None:
    good = settings.GATEHOUSE_FOLLOW_TOKENS[sides.proxy.url]
    settings.GATEHOUSE_FOLLOW_TOKENS = {sides.proxy.url: sides.far.order("reader", name="farid")["token"]}
    followed = sides.poll()
    assert followed.state == FollowState.REFUSED
    assert followed.problem.startswith(
        f"{followed.host} does not let our token decide about {sides.far_id} (it answered 403: "
    )
    assert followed.problem.endswith("fix its rights there and press “Ask now”.")
    sides.proxy.calls.clear()
    assert sides.poll().state == FollowState.REFUSED
    assert sides.proxy.calls == []
    settings.GATEHOUSE_FOLLOW_TOKENS = {sides.proxy.url: good}
    followed = sides.poll()
    assert (followed.state, followed.problem) == (FollowState.FOLLOWING, "")


def test_token_whose_rights_were_mended_is_tried_again_when_asked_to(sides: Sides) -> None:
    sides.proxy.instead(
        "user-access-request", Reply(401, {"error": "Invalid username or password."}), times=1
    )
    assert sides.poll().state == FollowState.REFUSED
    sync_now(followed=sides.followed, actor=sides.rita)
    assert sides.poll().state == FollowState.FOLLOWING


def test_missing_token_is_said_and_nothing_is_called(sides: Sides, settings) -> None:
    settings.GATEHOUSE_FOLLOW_TOKENS = {}
    assert sides.poll().problem == (
        f"There is no token for {sides.followed.host}: set GATEHOUSE_FOLLOW_TOKENS and restart the portal."
    )
    assert sides.proxy.calls == []


def test_no_token_is_in_the_database(sides: Sides, settings) -> None:
    sides.ask()
    sides.poll()
    token = settings.GATEHOUSE_FOLLOW_TOKENS[sides.proxy.url]
    rows = [
        *FollowedRepo.objects.values(),
        *Event.objects.values(),
        *EventText.objects.values(),
        *RemoteRequest.objects.values(),
    ]
    assert token not in repr(rows)
    assert sides.proxy.calls[0].headers["authorization"] == f"Bearer {token}"


def test_limit_is_waited_for_and_shown(sides: Sides) -> None:
    sides.proxy.instead("/accepted", Reply(429, {}, {"Retry-After": "90"}), times=1)
    now = timezone.now()
    followed = sides.poll()
    assert (followed.failures, followed.state) == (1, FollowState.FOLLOWING)
    assert followed.problem == (
        f"{followed.host} could not be asked: it was asked too often. We will try again when it allows."
    )
    assert 89 <= (followed.next_poll_at - now).total_seconds() < 120
    calls = len(sides.proxy.calls)
    sides.poll()
    assert len(sides.proxy.calls) == calls  # nothing is requested before the pause is over


@pytest.mark.slow
@pytest.mark.parametrize(
    "reply",
    [
        Reply(503, {}),
        pytest.param(Reply(200, b"<html>"), marks=pytest.mark.slow),
        pytest.param(Reply(200, {"error": "no list"}), marks=pytest.mark.slow),
    ],
)
def test_far_side_in_trouble_is_asked_again_later_and_later(sides: Sides, reply: Reply) -> None:
    name = sides.ask()
    sides.poll()
    sides.proxy.instead("/rejected", reply)
    pauses = []
    for failures in (1, 2, 3):
        now = timezone.now()
        followed = sides.poll()
        assert followed.failures == failures
        pauses.append(round((followed.next_poll_at - now).total_seconds(), -1))
    assert pauses == [300, 600, 1200]
    assert followed.problem.startswith(f"{followed.host} could not be asked: ")
    assert sides.remote(name).missed == 0  # a poll that did not see all lists says nothing about anyone
    sides.proxy.clear()
    assert sides.poll().problem == ""


def test_repository_that_is_gone_is_a_sentence(sides: Sides) -> None:
    FollowedRepo.objects.update(far_id="lab/gone")
    problem = sides.poll().problem
    assert problem.startswith(f"{sides.followed.host} has no lab/gone for us: it answered 404: ")


def test_two_workers_at_once_poll_once(sides: Sides) -> None:
    FollowedRepo.objects.update(lease_owner="another", lease_until=timezone.now() + timedelta(minutes=1))
    sides.poll()
    assert sides.proxy.calls == []
    FollowedRepo.objects.update(lease_until=timezone.now() - timedelta(minutes=1))
    sides.poll()
    assert [call.path.rpartition("/")[2].partition("?")[0] for call in sides.proxy.calls] == [
        "pending", "accepted", "rejected", "reset",
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
def test_poll_that_lost_its_lease_writes_nothing_more(sides: Sides) -> None:
    sides.ask()

    def steal(items: list) -> list:
        FollowedRepo.objects.update(lease_owner="another")
        connection.close()
        return items

    sides.proxy.change("/rejected", steal)
    sides.poll()
    assert [call.path.rpartition("/")[2].partition("?")[0] for call in sides.proxy.calls] == [
        "pending", "accepted", "rejected",
    ]  # fmt: skip
    assert RemoteRequest.objects.count() == 0
    assert FollowedRepo.objects.get().lease_owner == "another"


@pytest.mark.parametrize(
    ("act", "state"),
    [
        (pause, FollowState.PAUSED),
        pytest.param(unfollow, FollowState.ENDED, marks=pytest.mark.slow),
        (sync_now, FollowState.FOLLOWING),
    ],
)
@pytest.mark.django_db(transaction=True)
def test_what_the_owner_does_during_a_poll_is_not_undone_by_it(
    sides: Sides, act: Any, state: FollowState
) -> None:
    """The poll has already read its last list and only has to record how it went."""

    def meanwhile(items: list) -> list:
        act(followed=FollowedRepo.objects.get(), actor=sides.rita)
        connection.close()
        return items

    sides.proxy.change("/reset", meanwhile)
    followed = sides.poll()
    assert (followed.state, followed.polled_at) == (state, None)
    assert followed.next_poll_at <= timezone.now()
    assert polling.due().exists() == (act is sync_now)


def test_budget_is_shared_and_leaves_room_for_decisions(sides: Sides) -> None:
    name = sides.ask()
    sides.poll()
    FarSide.objects.update(calls=budget.CALLS_FOR_POLLS - 1)
    sides.proxy.calls.clear()
    followed = sides.poll()
    assert (len(sides.proxy.calls), followed.failures) == (1, 0)
    assert followed.next_poll_at > timezone.now()
    record_decision(request=sides.remote(name).request, reviewer=sides.rita, outcome="approved")
    assert sides.tell() == [True]
    FarSide.objects.update(window_started_at=timezone.now() - budget.WINDOW)
    sides.poll()
    assert FarSide.objects.get().calls == 4


def test_paused_and_ended_ones_are_not_polled(sides: Sides) -> None:
    pause(followed=sides.followed, actor=sides.rita)
    sides.poll()
    sync_now(followed=sides.followed, actor=sides.rita)
    unfollow(followed=sides.followed, actor=sides.rita)
    sides.poll()
    assert sides.proxy.calls == []


@pytest.mark.slow
@pytest.mark.parametrize("where", ["pending", pytest.param("accepted", marks=pytest.mark.slow)])
def test_entry_seen_once_nowhere_is_not_taken_for_gone(sides: Sides, where: str) -> None:
    """The entry may have moved to a list that had already been read."""
    name = sides.ask()
    sides.poll()
    if where == "accepted":
        record_decision(request=sides.remote(name).request, reviewer=sides.rita, outcome="approved")
        sides.tell()
    sides.proxy.change(f"/{where}", lambda _: [])
    sides.poll()
    assert (sides.remote(name).far_status, sides.remote(name).drifted_at) == (where, None)
    sides.poll()
    assert sides.remote(name).far_status == FarStatus.MISSING
    assert sides.remote(name).drifted_at is not None
    sides.proxy.clear()
    sides.poll()
    assert (sides.remote(name).far_status, sides.remote(name).drifted_at) == (where, None)


def test_entry_that_cannot_be_taken_in_stands_in_nobodys_way(sides: Sides) -> None:
    """Two people share a request id, and one person appears twice, whatever the remote means by that."""
    name = sides.ask()

    def twist(items: list) -> list:
        other = {**items[0], "user": {"user": f"{name}-b", "_id": "b"}}
        last = {**items[0], "user": {"user": f"{name}-c", "_id": "c"}, "requestId": "c1"}
        return [*items, other, items[0], last, last]

    sides.proxy.change("/pending", twist)
    followed = sides.poll()
    assert (followed.problem, followed.unread) == ("", 1)
    assert set(RemotePerson.objects.values_list("name", flat=True)) == {name, f"{name}-c"}
    assert AccessRequest.objects.count() == 2


@pytest.mark.slow
def test_clock_there_that_is_ahead_is_no_difference(sides: Sides) -> None:
    name = sides.ask()
    ahead = (timezone.now() + timedelta(hours=3)).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    sides.proxy.change("/pending", lambda items: [item | {"timestamp": ahead} for item in items])
    sides.poll()
    sides.poll()
    remote = sides.remote(name)
    assert (remote.drifted_at, remote.request.submitted_at <= timezone.now()) == (None, True)


def test_poll_that_sees_nothing_new_takes_no_query_for_each_person(
    sides: Sides,
) -> None:
    counts = []
    for _ in range(2):
        sides.ask()
        sides.poll()
        with CaptureQueriesContext(connection) as queries:
            sides.poll()
        counts.append(len(queries))
    assert counts[0] == counts[1]


def test_poll_takes_no_lock_for_people_who_left_the_lists_and_reads_no_card(sides: Sides) -> None:
    names = [sides.ask() for _ in range(2)]
    sides.poll()
    for name in names:
        sides.far.order("withdraw", name=name, repo_id=sides.far_id)
    for _ in range(2):
        sides.poll()
    assert set(RemoteRequest.objects.values_list("far_status", flat=True)) == {"missing"}
    with CaptureQueriesContext(connection) as queries:
        sides.poll()
    told = [query["sql"] for query in queries]
    assert [sql for sql in told if "advisory" in sql] == []
    of_people = [
        sql for sql in told if sql.startswith("SELECT") and 'FROM "access_requests_remoterequest"' in sql
    ]
    assert len(of_people) == 1
    assert [sql for sql in of_people if '"card"' in sql or '"card_data"' in sql or '"schema"' in sql] == []
