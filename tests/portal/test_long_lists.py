"""The admin with many rows: no more queries than with few, capped counts, reachable pages, search."""

from __future__ import annotations

import html
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.usersessions.models import UserSession
from django.contrib.auth import get_user_model
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from access_requests import search
from access_requests.admin import lists
from access_requests.enums import GrantSource, RequestState, TokenKind
from access_requests.models import AccessRequest, AccessToken, Event, EventText, Grant, Machine, OutgoingMail
from access_requests.services.catalogue.roles import assign_role
from model_ops.models import Download

pytestmark = pytest.mark.django_db

QUEUE = "/admin/access_requests/accessrequest/"
EVENTS = "/admin/access_requests/event/"
PEOPLE = "/admin/accounts/user/"
EMAILS = "/admin/access_requests/outgoingmail/"
FEW, MANY = 10, 1000


@pytest.fixture
def boss(make_person: Callable[..., Any], settings: Any) -> Client:
    settings.GATEHOUSE_DEMO = True  # no second factor is required
    return signed_in(make_person("boss", is_superuser=True))


def signed_in(person: Any) -> Client:
    client = Client()
    client.force_login(person, backend="django.contrib.auth.backends.ModelBackend")
    return client


def add_rows(model: Any, many: int, *, kind: str = "request.submitted", **names: str) -> list[AccessRequest]:
    """Write people, each with a request, a grant, a token, an event, an email, a download and a session."""
    now, mark = timezone.now(), uuid.uuid4().hex[:8]
    people = get_user_model().objects.bulk_create(
        get_user_model()(username=f"p{mark}{n}", email=f"p{mark}{n}@example.org", **names)
        for n in range(many)
    )
    requests = AccessRequest.objects.bulk_create(
        AccessRequest(
            model=model,
            applicant=person,
            form=model.form,
            state=RequestState.SUBMITTED,
            submitted_at=now,
            first_submitted_at=now,
            country="DE",
            **names,
        )
        for person in people
    )
    grants = Grant.objects.bulk_create(
        Grant(model=model, user=person, source=GrantSource.REVIEW, ends_at=now + timedelta(days=9))
        for person in people
    )
    AccessToken.objects.bulk_create(
        AccessToken(
            name="laptop", digest=uuid.uuid4().hex, user=grant.user, grant=grant, kind=TokenKind.GRANT
        )
        for grant in grants
    )
    events = Event.objects.bulk_create(
        Event(at=now, kind=kind, actor=person, model=model, digests={"actor_name": "d"}, digest="d")
        for person in people
    )
    EventText.objects.bulk_create(
        EventText(event=event, name="actor_name", salt=b"s", text='"somebody"') for event in events
    )
    OutgoingMail.objects.bulk_create(
        OutgoingMail(key=person.email, to=person.email, subject="Your request", text="Hello")
        for person in people
    )
    Download.objects.bulk_create(
        Download(
            model=model, user=person, commit="a" * 40, path="a.bin", bytes_asked=5, status=200, started_at=now
        )
        for person in people
    )
    UserSession.objects.bulk_create(
        UserSession(user=person, ip="192.0.2.1", session_key=person.username, last_seen_at=now)
        for person in people
    )
    EmailAddress.objects.bulk_create(EmailAddress(user=person, email=person.email) for person in people)
    Authenticator.objects.bulk_create(
        Authenticator(user=person, type=Authenticator.Type.TOTP, data={}) for person in people
    )
    Machine.objects.bulk_create(
        Machine(user=person, name="laptop", ends_at=now + timedelta(days=9)) for person in people
    )
    return requests


LISTS = [
    QUEUE,
    f"{QUEUE}?state=waiting",
    f"{QUEUE}?country=DE&model=ai%2Ftulu",
    f"{QUEUE}?q=p",
    EVENTS,
    f"{EVENTS}?kind=request.submitted",
    f"{EVENTS}?q=submitted",
    PEOPLE,
    f"{PEOPLE}?q=example",
    EMAILS,
    f"{EMAILS}?q=example",
    "/admin/access_requests/grant/",
    "/admin/access_requests/accesstoken/",
    "/admin/access_requests/machine/",
    "/admin/model_ops/download/",
    "/admin/usersessions/usersession/",
    "/admin/account/emailaddress/",
    "/admin/mfa/authenticator/",
    "/ai/tulu/downloads",
]


def queries(client: Client, address: str) -> int:
    with CaptureQueriesContext(connection) as asked:
        assert client.get(address).status_code == 200
    return len(asked)


@pytest.mark.parametrize("address", LISTS)
def test_long_list_takes_as_many_queries_as_short_one(
    address: str, boss: Client, make_model: Callable[..., Any]
) -> None:
    model = make_model()
    add_rows(model, FEW)
    queries(boss, address)  # read once per process
    few = queries(boss, address)
    add_rows(model, MANY - FEW)
    assert queries(boss, address) == few


@pytest.mark.parametrize(
    "address", [QUEUE, EVENTS, "/admin/access_requests/grant/", "/admin/model_ops/download/"]
)
def test_reviewer_of_several_models_takes_as_many_queries_for_many_rows(
    address: str, boss: Client, make_model: Callable[..., Any], make_person: Callable[..., Any]
) -> None:
    models = [make_model(f"ai/tulu-{n}") for n in range(3)]
    rita = make_person("rita")
    for model in models[:2]:
        assign_role(model=model, user=rita, role="reviewer")
    for model in models:
        add_rows(model, FEW)
    client = signed_in(rita)
    queries(client, address)
    few = queries(client, address)
    for model in models:
        add_rows(model, 330)
    assert queries(client, address) == few
    assert client.get(f"{address}?model=no/such").status_code in {200, 400}  # 400: not a filter of downloads
    shown = {row.model_id for row in client.get(f"{address}?p=2").context["cl"].result_list}
    assert shown <= {model.pk for model in models[:2]}
    assert client.get(address).context["cl"].result_count >= 2 * (FEW + 330)


def test_rows_of_several_models_are_merged_in_the_order_of_the_queue(
    boss: Client, make_model: Callable[..., Any], make_person: Callable[..., Any]
) -> None:
    rita = make_person("rita")
    for number in range(3):
        model = make_model(f"ai/tulu-{number}")
        assign_role(model=model, user=rita, role="reviewer")
        add_rows(model, 40)
    client = signed_in(rita)
    pages = [client.get(f"{QUEUE}?p={page}").context["cl"].result_list for page in (1, 2, 3)]
    assert [row.pk for page in pages for row in page] == list(
        AccessRequest.objects.order_by("first_submitted_at", "pk").values_list("pk", flat=True)
    )


def test_restriction_to_models_is_kept_where_rows_are_read_apart(
    make_model: Callable[..., Any], boss: Client
) -> None:
    models = [make_model(f"ai/tulu-{n}") for n in range(3)]
    for model in models:
        add_rows(model, 2)
    mine = [model.pk for model in models[:2]]
    rows = AccessRequest.objects.filter(lists.OfModels(lists.F("model_id"), mine)).order_by("pk")
    parts = lists.apart(rows, mine)
    assert [{row.model_id for row in part} for part in parts] == [{pk} for pk in mine]
    assert all("ANY" not in str(part.query) for part in parts)
    assert {row.model_id for row in rows} == set(mine)


def test_count_ends_where_pages_end(
    boss: Client, make_model: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lists, "MOST", 120)
    add_rows(make_model(), 200)
    shown = html.unescape(boss.get(QUEUE).content.decode())
    assert "More than 120 access requests" in " ".join(shown.split())
    last = boss.get(f"{QUEUE}?p=3").context["cl"].result_list
    for page in ("4", "99999", "-1", "0"):
        changes = boss.get(f"{QUEUE}?p={page}").context["cl"]
        assert changes.page_num == (3 if int(page) > 3 else 1)
    assert boss.get(f"{QUEUE}?p=99999").context["cl"].result_list == last


def test_long_list_keeps_its_order_and_short_one_is_sorted(
    boss: Client, make_model: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model()
    for name in ("Zoe", "Ada", "Mia"):
        add_rows(model, 1, last_name=name)
    by_name = f"{QUEUE}?o=0"
    assert [row.last_name for row in boss.get(by_name).context["cl"].result_list] == ["Ada", "Mia", "Zoe"]
    monkeypatch.setattr(lists, "MOST", 2)
    assert [row.last_name for row in boss.get(by_name).context["cl"].result_list] == ["Zoe", "Ada", "Mia"]


NAMES = {
    "chinese": {"first_name": "伟", "last_name": "王", "institution": "北京大学"},
    "one field": {"first_name": "王伟", "institution": "清华大学"},
    "korean": {"first_name": "민수", "last_name": "김", "institution": "서울대학교"},
    "greek": {"first_name": "Νίκος", "last_name": "Παπαδόπουλος", "institution": "Αθήνα"},
    "russian": {"first_name": "Иван", "last_name": "Петров", "institution": "МГУ"},
    "german": {"first_name": "Jürgen", "last_name": "Weiß", "institution": "TU_100% \\ München"},
    "latin": {"first_name": "Bo", "last_name": "Li", "institution": "O'Neill & Söhne"},
}
FOUND = [
    ("王伟", {"chinese", "one field"}),
    ("王", {"chinese", "one field"}),
    ("大学", {"chinese", "one field"}),
    ("김민수", {"korean"}),
    ("민수", {"korean"}),
    ("пЕТРОВ", {"russian"}),
    ("мгу", {"russian"}),
    ("παπαδόπουλος", {"greek"}),
    ("ΠΑΠΑΔΌΠΟΥΛΟΣ", {"greek"}),
    ("jÜRGEN weiß", {"german"}),
    ("ünche", {"german"}),
    ("u\u0308nchen", {"german"}),
    ("100%", {"german"}),
    ("tu_1", {"german"}),
    ("u_100", {"german"}),
    ("t_", set()),
    ("bo", {"latin"}),
    ("LI", {"latin"}),
    ("o'neill", {"latin"}),
    ('"Bo Li"', {"latin"}),
    ("'Li", {"latin"}),
    ("no such thing", set()),
]


@pytest.fixture(params=["at the beginning", "by index"])
def looked(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Make a search use either way: reading the beginning of the list, or the indexes alone."""
    if request.param == "by index":
        monkeypatch.setattr(lists, "LOOKED_THROUGH", 1)
    return str(request.param)


@pytest.mark.parametrize(("typed", "found"), FOUND)
def test_people_and_requests_are_found_in_every_script(
    typed: str, found: set[str], looked: str, boss: Client, make_model: Callable[..., Any]
) -> None:
    model = make_model()
    requests = {name: add_rows(model, 1, **names)[0] for name, names in NAMES.items()}
    shown = {row.pk for row in boss.get(QUEUE, {"q": typed}).context["cl"].result_list}
    assert shown == {requests[name].pk for name in found}
    people = {row.pk for row in boss.get(PEOPLE, {"q": typed}).context["cl"].result_list}
    assert people & {request.applicant_id for request in requests.values()} == {
        requests[name].applicant_id for name in found
    }


def test_request_is_found_by_its_applicants_account_and_its_use(
    looked: str, boss: Client, make_model: Callable[..., Any]
) -> None:
    model = make_model()
    wanted, other = (add_rows(model, 1)[0] for _ in range(2))
    AccessRequest.objects.filter(pk=wanted.pk).update(intended_use="Sprachmodelle für Lettisch")
    for typed in (wanted.applicant.username, wanted.applicant.email.upper(), "LETTISCH für"):
        assert [row.pk for row in boss.get(QUEUE, {"q": typed}).context["cl"].result_list] == [wanted.pk]
    both = {row.pk for row in boss.get(QUEUE, {"q": "example.org"}).context["cl"].result_list}
    assert both == {wanted.pk, other.pk}


def test_reviewers_search_finds_requests_for_their_models_only(
    looked: str, boss: Client, make_model: Callable[..., Any], make_person: Callable[..., Any]
) -> None:
    models = [make_model(f"ai/tulu-{n}") for n in range(3)]
    requests = [add_rows(model, 1, last_name="Petrov")[0] for model in models]
    rita = make_person("rita")
    for model in models[:2]:
        assign_role(model=model, user=rita, role="reviewer")
    shown = signed_in(rita).get(QUEUE, {"q": "petrov"}).context["cl"].result_list
    assert {row.pk for row in shown} == {request.pk for request in requests[:2]}


def test_common_term_is_answered_from_the_beginning_and_said_to_be_partial(
    boss: Client, make_model: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lists, "LOOKED_THROUGH", 30)
    monkeypatch.setattr(lists, "ENOUGH", 10)
    add_rows(make_model(), 40, last_name="Petrov")
    answer = boss.get(QUEUE, {"q": "petrov"})
    first = list(AccessRequest.objects.order_by("first_submitted_at", "pk").values_list("pk", flat=True)[:30])
    assert [row.pk for row in answer.context["cl"].result_list] == first
    assert lists.NOT_ALL in html.unescape(answer.content.decode())
    assert lists.NOT_ALL not in html.unescape(boss.get(QUEUE, {"q": "nobody"}).content.decode())


@pytest.mark.parametrize(
    "list_of", ["access_requests/grant", "access_requests/accesstoken", "model_ops/download"]
)
@pytest.mark.parametrize("typed", ["petrov", "ai/many"])
def test_term_that_means_too_many_people_or_models_is_said_to_be_partial(
    list_of: str, typed: str, boss: Client, make_model: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        add_rows(make_model(f"ai/many-{number}"), 1, last_name="Petrov")
    address = f"/admin/{list_of}/"
    assert lists.NOT_ALL not in html.unescape(boss.get(address, {"q": typed}).content.decode())
    monkeypatch.setattr(search, "MOST_PEOPLE", 2)
    assert lists.NOT_ALL in html.unescape(boss.get(address, {"q": typed}).content.decode())
    assert lists.NOT_ALL not in html.unescape(boss.get(address, {"q": "nobody"}).content.decode())


def test_table_of_a_search_that_finds_only_some_rows_is_refused(
    boss: Client, make_model: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    add_rows(make_model(), 3, last_name="Petrov")
    table = "/admin/model_ops/download/csv/"
    assert boss.get(table, {"q": "petrov"}).status_code == 200
    monkeypatch.setattr(search, "MOST_PEOPLE", 2)
    refused = boss.get(table, {"q": "petrov"})
    assert (refused.status_code, refused.content.decode().strip()) == (422, lists.NOT_ALL)


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("request.SUB", {"one"}),
        ("polic", {"two"}),
        ("ai/tulu", {"one"}),
        ("ai/tulu renamed", set()),
        ("pda", {"one"}),
    ],
)
def test_event_is_found_by_kind_writer_model_and_person(
    typed: str,
    found: set[str],
    looked: str,
    boss: Client,
    make_model: Callable[..., Any],
    make_person: Callable[..., Any],
) -> None:
    model, now = make_model("ai/tulu"), timezone.now()
    events = {
        "one": Event(at=now, kind="request.submitted", model=model, actor=make_person("pda"), digest="d"),
        "two": Event(at=now, kind="portal.renamed", writer="policy", digest="d"),
    }
    Event.objects.bulk_create(events.values())
    shown = {row.pk for row in boss.get(EVENTS, {"q": typed}).context["cl"].result_list}
    assert {name for name, event in events.items() if event.pk in shown} == found


@pytest.mark.parametrize("address", LISTS)
@pytest.mark.parametrize(
    "typed",
    [
        "\0",
        "a\0b",
        "%",
        "_",
        "\\",
        "'",
        '"',
        "🙂",
        "++",
        "x" * 5000,
        "(",
        "192.0.2.1",
        "fe80::1%x",
        "a " * 50,
    ],
)
def test_odd_searches_are_answered(
    address: str, typed: str, boss: Client, make_model: Callable[..., Any]
) -> None:
    add_rows(make_model(), 2)
    assert boss.get(address.partition("?")[0], {"q": typed}).status_code == 200


@pytest.mark.parametrize("address", LISTS)
def test_half_a_character_is_answered(address: str, boss: Client, make_model: Callable[..., Any]) -> None:
    add_rows(make_model(), 2)
    assert boss.get(f"{address.partition('?')[0]}?q=%ED%A0%80%FF").status_code == 200


@pytest.mark.parametrize(
    "day", ["2026", "2026-11", "2026-11-30", "2026-13", "x", "99999", "2026-12", "2026-12-31", "9999"]
)
def test_events_of_a_day(day: str, boss: Client, make_model: Callable[..., Any]) -> None:
    from datetime import UTC, datetime

    Event.objects.bulk_create([Event(at=datetime(2026, 11, 30, 23, 59, tzinfo=UTC), kind="a.b", digest="d")])
    shown = [row.kind for row in boss.get(EVENTS, {"day": day}).context["cl"].result_list]
    assert ("a.b" in shown) == (day in {"2026", "2026-11", "2026-11-30"})


def test_model_filter_asks_for_an_id_where_there_are_many_models(
    boss: Client, make_model: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from access_requests.admin import filters

    one, two = make_model("ai/one"), make_model("ai/two")
    (request,) = add_rows(one, 1)
    assert 'href="?model=ai%2Fone"' in boss.get(QUEUE).content.decode()
    assert "ai%2Ftwo" not in boss.get(QUEUE).content.decode()
    monkeypatch.setattr(filters, "MOST_LISTED", 1)
    shown = boss.get(f"{QUEUE}?state=waiting&model=AI/one")
    assert [row.pk for row in shown.context["cl"].result_list] == [request.pk]
    assert '<input type="hidden" name="state" value="waiting">' in shown.content.decode()
    assert list(boss.get(f"{QUEUE}?model={two}").context["cl"].result_list) == []
    assert list(boss.get(f"{QUEUE}?model=no/such").context["cl"].result_list) == []


def test_choice_of_a_model_takes_the_place_of_a_key_in_an_old_address(
    boss: Client, make_model: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from access_requests.admin import filters

    one, two = make_model("ai/one"), make_model("ai/two")
    requests = {model.repo_id: add_rows(model, 1)[0] for model in (one, two)}
    old = f"{QUEUE}?model__id__exact={one.pk}"

    def by_model() -> str:
        shown = boss.get(old)
        assert [row.pk for row in shown.context["cl"].result_list] == [requests["ai/one"].pk]
        return shown.content.decode().partition('data-filter-title="model"')[2].partition("</details>")[0]

    assert '<a href="?">All</a>' in by_model()
    assert 'href="?model=ai%2Ftwo"' in by_model()
    assert "model__id__exact" not in by_model()
    monkeypatch.setattr(filters, "MOST_LISTED", 1)
    assert '<input id="model-filter"' in by_model()
    assert "model__id__exact" not in by_model()


def test_pages_lead_to_the_requests_for_one_model(boss: Client, make_model: Callable[..., Any]) -> None:
    add_rows(make_model("ai/one"), 1)
    two = make_model("ai/two")
    add_rows(two, 1)
    pages = {
        "/admin/access_requests/gatedmodel/": "?state=waiting&amp;model=ai%2Ftwo",
        f"/admin/access_requests/gatedmodel/{two.pk}/change/": "?model=ai/two",
    }
    for address, query in pages.items():
        assert f'href="{QUEUE}{query}"' in boss.get(address).content.decode()
        shown = boss.get(QUEUE + html.unescape(query)).context["cl"].result_list
        assert [row.model_id for row in shown] == [two.pk]


@pytest.mark.parametrize("models", [1, 2])
def test_days_of_a_reviewer_begin_and_end_with_events_of_their_models(
    models: int, boss: Client, make_model: Callable[..., Any], make_person: Callable[..., Any]
) -> None:
    rita = make_person("rita")
    made = [make_model(f"ai/{name}") for name in ("one", "two", "three")]
    now = timezone.now().replace(month=6, day=15)
    for model, ago in zip(made, (1, 3, 9), strict=True):
        at = now.replace(year=now.year - ago)
        Event.objects.bulk_create([Event(at=at, kind="a.b", model=model, digest="d")])
    for model in made[:models]:
        assign_role(model=model, user=rita, role="reviewer")
    page = signed_in(rita).get(EVENTS).content.decode()
    years = [year for year in range(now.year - 10, now.year + 1) if f'href="?day={year}"' in page]
    assert years == list(range(now.year - (1, 3)[models - 1], now.year + 1))  # roles were assigned this year


def test_page_of_a_person_takes_few_queries(boss: Client, make_person: Callable[..., Any]) -> None:
    ada = make_person("ada")
    queries(boss, f"{PEOPLE}{ada.pk}/change/")
    assert queries(boss, f"{PEOPLE}{ada.pk}/change/") <= 20


def test_reviewers_look_for_events_by_names_and_not_by_addresses(
    boss: Client, make_model: Callable[..., Any], make_person: Callable[..., Any]
) -> None:
    model, rita = make_model("ai/one"), make_person("rita")
    assign_role(model=model, user=rita, role="reviewer")
    (request,) = add_rows(model, 1, first_name="Kim", last_name="Petrov", institution="Elsewhere")
    who = request.applicant
    mine = Event.objects.get(actor=who)
    for typed, by_all in (
        (who.username, True), ("petrov", True), ("petrovkim", True), (who.email, False), ("elsewhere", False),
    ):  # fmt: skip
        for browser, finds in ((boss, True), (signed_in(rita), by_all)):
            shown = browser.get(EVENTS, {"q": typed}).context["cl"].result_list
            assert (mine in shown) == finds, typed


def test_page_of_a_request_leads_to_its_older_steps(
    boss: Client, make_model: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from access_requests.admin import review_page

    (request,) = add_rows(make_model(), 1)
    now = timezone.now()
    Event.objects.bulk_create(
        Event(at=now, kind=f"a.b{number}", model=request.model, request=request, digest="d")
        for number in range(3)
    )
    own = Event.objects.filter(request=request)
    log = f"{EVENTS}?request__id__exact={request.pk}"
    for most, is_cut in ((own.count(), False), (own.count() - 1, True)):
        monkeypatch.setattr(review_page, "MOST_STEPS", most)
        page = boss.get(f"{QUEUE}{request.pk}/change/")
        assert len(page.context["events"]) == most
        assert (f'Older steps are in <a href="{log}">' in page.content.decode()) == is_cut
    assert {row.pk for row in boss.get(log).context["cl"].result_list} == set(
        own.values_list("pk", flat=True)
    )
