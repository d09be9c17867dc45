"""Pages of the Hub's lists agree with the pure rule for every person, whatever their history."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from datetime import datetime, timedelta
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from access_requests.access import list_pages
from access_requests.access.list_pages import Key, Wanted, everybody, page_of
from access_requests.access.review_lists import UNCOUNTED, ReviewEntry, order, place_of
from access_requests.enums import CLOSED_STATES, OPEN_STATES, Place, RequestState
from access_requests.models import AccessRequest, GatedModel, Grant, ListPlace
from access_requests.services import list_places
from access_requests.services.list_places import write_places

pytestmark = pytest.mark.django_db

PEOPLE = 70
HOUR = timedelta(hours=1)


def draw_history(luck: random.Random, model: GatedModel, person: Any) -> None:
    """Write a few requests and grants of one person, as services could; few hours, so that many are equal."""
    hours = sorted(luck.randrange(40) for _ in range(8))
    clock = iter([timezone.now() - timedelta(days=9) + HOUR * hour for hour in hours])
    for _ in range(luck.randrange(3)):
        _closed_request(luck, model, person, next(clock), next(clock))
        if luck.random() < 0.3:
            _grant(luck, model, person, next(clock), is_open=False)
    if luck.random() < 0.3:
        _request(model, person, luck.choice(OPEN_STATES), asked=next(clock))
    if luck.random() < 0.3:
        _grant(luck, model, person, timezone.now() - HOUR * luck.randrange(30, 40), is_open=True)


def _closed_request(
    luck: random.Random, model: GatedModel, person: Any, asked: datetime, closed: datetime
) -> None:
    state = luck.choice([*CLOSED_STATES, RequestState.REJECTED, RequestState.REJECTED])
    _request(model, person, state, asked=asked, closed_at=closed)


def _request(model: GatedModel, person: Any, state: RequestState, *, asked: datetime, **fields: Any) -> None:
    dates = {} if state == RequestState.DRAFT else {"submitted_at": asked, "first_submitted_at": asked}
    appealed = {"appealed_at": asked} if state == RequestState.APPEALED else {}
    row = AccessRequest.objects.create(
        model=model, applicant=person, form=model.form, state=state, **dates, **appealed, **fields
    )
    AccessRequest.objects.filter(pk=row.pk).update(created_at=asked - HOUR * 2)


def _grant(luck: random.Random, model: GatedModel, person: Any, starts: datetime, *, is_open: bool) -> None:
    submitted = list(AccessRequest.objects.filter(model=model, applicant=person, submitted_at__isnull=False))
    ends = timezone.now() + HOUR * luck.choice([-1, 9]) if is_open else starts + HOUR
    revoked = ends if not is_open and luck.random() < 0.5 else None
    Grant.objects.create(
        model=model, user=person, source="review", starts_at=starts, ends_at=ends, revoked_at=revoked,
        closed_at=None if is_open else ends, request=luck.choice([*submitted, None]),
    )  # fmt: skip


def newest_first(request: AccessRequest) -> tuple[bool, datetime, int]:
    return (request.closed_at is None, request.closed_at or timezone.now(), request.pk)


def whole_list(model: GatedModel, place: Place) -> list[ReviewEntry]:
    """Apply the rule to everyone in Python and return the list."""
    asked = model.requests.filter(submitted_at__isnull=False).exclude(state__in=UNCOUNTED)
    requests = {row.applicant_id: row for row in sorted(asked, key=newest_first)}
    grants = {row.user_id: row for row in model.grants.order_by("pk").select_related("request")}
    both = {person: (requests.get(person), grants.get(person)) for person in requests.keys() | grants.keys()}
    found = [ReviewEntry(person, place, *pair) for person, pair in both.items() if place_of(*pair) == place]
    return sorted(found, key=order)


@pytest.fixture
def histories(make_person: Callable[..., Any], make_model: Callable[..., Any], request: Any) -> GatedModel:
    """Return a model with random histories; another one, with the same people, must not matter."""
    luck = random.Random(request.param)
    models = [make_model("ai/tulu"), make_model("ai/other")]
    for number in range(PEOPLE):
        person = make_person(f"{luck.choice('abC')}-{number}")
        for model in models:
            draw_history(luck, model, person)
    write_places()
    return models[0]


def pages(model: GatedModel, place: Place, wanted: Wanted, most: int) -> list[ReviewEntry]:
    """Return the entries of all pages of a list, one page after another."""
    found: list[ReviewEntry] = []
    behind: Key | None = None
    while page := page_of(model, place, wanted, behind=behind, most=most):
        found, behind = [*found, *page], order(page[-1])
    return found


@pytest.mark.parametrize("histories", range(3), indirect=True)
def test_pages_hold_what_the_rule_says_of_everybody(histories: GatedModel) -> None:
    names = dict(get_user_model().objects.values_list("pk", "username"))
    middle = timezone.now() - timedelta(days=9) + HOUR * 15
    sizes = {}
    for place in Place:
        expected = whole_list(histories, place)
        sizes[place] = len(expected)
        for most in (1, 7, 1000):
            assert pages(histories, place, Wanted(), most) == expected
        assert pages(histories, place, Wanted(name="c-1"), 5) == [
            entry for entry in expected if names[entry.person_id].startswith("C-1")
        ]
        assert pages(histories, place, Wanted(after=middle), 5) == [
            entry for entry in expected if order(entry)[0] > middle
        ]
        assert pages(histories, place, Wanted(before=middle), 5) == [
            entry for entry in expected if order(entry)[0] < middle
        ]
    assert min(sizes.values()) > 3  # the histories fill each list
    together = sorted((entry for place in Place for entry in whole_list(histories, place)), key=order)
    assert list(everybody(histories)) == together


@pytest.mark.parametrize("histories", [7], indirect=True)
def test_page_is_right_also_where_places_are_written_late(histories: GatedModel) -> None:
    """An outdated row is left out of its list and never shown in a wrong one."""
    ListPlace.objects.filter(place=Place.PENDING).update(place=Place.REJECTED)
    rejected = whole_list(histories, Place.REJECTED)
    assert pages(histories, Place.REJECTED, Wanted(), 3) == rejected


@pytest.mark.parametrize("place", Place)
def test_page_of_a_long_list_costs_as_many_queries_as_of_a_short_one(
    make_model: Callable[..., Any], place: Place
) -> None:
    model = make_model()
    state = {Place.PENDING: "submitted", Place.ACCEPTED: "approved"}.get(place, str(place))

    def add(first: int, last: int) -> None:
        user, at = get_user_model(), timezone.now() - HOUR
        people = user.objects.bulk_create(
            user(username=f"p{number}", email=f"p{number}@example.org") for number in range(first, last)
        )
        closed = None if place == Place.PENDING else at
        requests = AccessRequest.objects.bulk_create(
            AccessRequest(
                model=model,
                applicant=person,
                form=model.form,
                state=state,
                submitted_at=at,
                first_submitted_at=at,
                closed_at=closed,
            )
            for person in people
        )
        if place == Place.ACCEPTED:
            Grant.objects.bulk_create(
                Grant(
                    model=model, user=request.applicant, request=request, source="review", starts_at=at,
                    ends_at=at + HOUR * 9,
                )
                for request in requests
            )  # fmt: skip
        write_places()

    def queries() -> int:
        with CaptureQueriesContext(connection) as asked:
            assert len(page_of(model, place, most=10)) == 10
        return len(asked)

    add(0, 10)
    few = queries()
    add(10, 1000)
    assert queries() == few


def test_command_repairs_what_no_service_wrote(
    make_person: Callable[..., Any], make_model: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(list_places, "AT_ONCE", 2)
    luck, model = random.Random(3), make_model("ai/tulu")
    people = [make_person(f"a-{number}") for number in range(7)]
    for person in people:
        draw_history(luck, model, person)
    assert not ListPlace.objects.exists()
    out = StringIO()
    call_command("write_list_places", "--json", stdout=out)
    with_any = {row.applicant_id for row in AccessRequest.objects.all()} | {
        row.user_id for row in Grant.objects.all()
    }
    assert json.loads(out.getvalue()) == {"people": len(with_any)}
    assert len(with_any) > 2
    assert set(ListPlace.objects.values_list("person", flat=True)) == with_any
    for place in Place:
        assert pages(model, place, Wanted(), 3) == whole_list(model, place)


def test_person_whose_end_is_noticed_meanwhile_is_on_a_page_once(
    make_person: Callable[..., Any], make_model: Callable[..., Any]
) -> None:
    model, ada = make_model("ai/tulu"), make_person("ada")
    start = timezone.now() - HOUR * 9
    Grant.objects.create(model=model, user=ada, source="review", starts_at=start, ends_at=start + HOUR)
    write_places()
    noticed = list[bool]()

    def notice(execute: Any, sql: str, *arguments: Any) -> Any:
        if not noticed and '"access_requests_listplace"."asked_at"' in sql and "ORDER BY 1" in sql:
            noticed.append(True)
            Grant.objects.update(closed_at=timezone.now())
            write_places()
        return execute(sql, *arguments)

    with connection.execute_wrapper(notice):
        assert [entry.person_id for entry in page_of(model, Place.RESET, most=10)] == [ada.pk]
    assert noticed


def test_ends_that_nobody_noticed_are_looked_at_in_a_bounded_number(
    make_person: Callable[..., Any], make_model: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(list_pages, "MOST_ENDED", 2)
    model, start = make_model("ai/tulu"), timezone.now() - HOUR * 9
    people = [make_person(f"a-{number}") for number in range(3)]
    for number, person in enumerate(people):
        end = start + HOUR * (3 - number)
        Grant.objects.create(model=model, user=person, source="review", starts_at=start, ends_at=end)
    write_places()
    first = {entry.person_id for entry in page_of(model, Place.RESET, most=10)}
    assert first == {people[1].pk, people[2].pk}
    Grant.objects.update(closed_at=timezone.now())
    write_places()
    assert {entry.person_id for entry in page_of(model, Place.RESET, most=10)} == {p.pk for p in people}
