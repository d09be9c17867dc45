"""The download log's pages and tables: people see their own; a million rows or an odd name do no harm."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from django.contrib.auth.models import Permission
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from access_requests.enums import Role
from access_requests.services.catalogue.roles import assign_role
from access_requests.services.grants import grant_access
from model_ops import download_log
from model_ops.models import Download

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


@pytest.fixture
def download(db: None) -> Callable[..., Download]:
    """Return `download(model, person)`, which records a file sent at noon on 20 November."""

    def make(model: Any, user: Any = None, **fields: Any) -> Download:
        facts: dict[str, Any] = {
            "commit": "c" * 40, "path": "model.safetensors", "bytes_asked": 1000, "bytes_sent": 1000, "status": 200,
            "seconds": 1.5, "state": "complete", "address": "192.0.2.7", "client": "hf_hub/2.4", "started_at": NOON,
        }  # fmt: skip
        return Download.objects.create(model=model, user=user, **facts | fields)

    return make


@pytest.fixture
def scene(
    make_model: Callable[..., Any], make_person: Callable[..., Any], download: Callable[..., Any]
) -> Any:
    """Create downloads by ada and bob; rita reviews the model, olga owns it, sue reviews another."""
    model, other = make_model("ai/tulu"), make_model("ai/other")
    people = {name: make_person(name) for name in ("ada", "bob", "rita", "olga", "sue", "eve")}
    for name in ("ada", "bob"):
        granted = grant_access(model=model, email=people[name].email, days=9, token_name=f"{name}-laptop")
        token = granted.grant.tokens.first()
        download(model, people[name], path=f"{name}.safetensors", grant=granted.grant, token=token, address="192.0.2.9" if name == "bob" else "192.0.2.7")  # fmt: skip
    download(other, people["bob"], path="elsewhere.safetensors")
    for name, where, role in (("rita", model, Role.REVIEWER), ("olga", model, Role.OWNER), ("sue", other, Role.REVIEWER)):  # fmt: skip
        assign_role(model=where, user=people[name], role=role)
        Authenticator.objects.create(user=people[name], type=Authenticator.Type.TOTP, data={})
    return model, people


def as_person(person: Any) -> Client:
    client = Client()
    client.force_login(person)
    return client


def without_form_tokens(response: Any) -> str:
    """Return the page without its random tokens, which could contain any short word."""
    return re.sub(r'value="[A-Za-z0-9]{64}"', "", response.content.decode())


def table(response: Any) -> list[dict[str, str]]:
    assert response["Content-Type"] == "text/csv; charset=utf-8"
    return list(csv.DictReader(io.StringIO(b"".join(response.streaming_content).decode(), newline="")))


def test_own_page_shows_own_rows_and_nobody_elses(scene: Any) -> None:
    _, people = scene
    shown = without_form_tokens(as_person(people["ada"]).get("/me/downloads"))
    for there in ("ada.safetensors", "ada-laptop", "192.0.2.7", "1 download,", "ai/tulu"):
        assert there in shown
    for hidden in ("bob", "192.0.2.9", "elsewhere"):
        assert hidden not in shown
    rows = table(as_person(people["ada"]).get("/me/downloads.csv"))
    assert [(row["path"], row["token"]) for row in rows] == [("ada.safetensors", "ada-laptop")]
    assert "person" not in rows[0]


@pytest.mark.parametrize(
    ("who", "status"), [("rita", 200), ("olga", 200), ("ada", 404), ("sue", 404), ("eve", 404)]
)
def test_models_log_is_for_those_who_decide_about_it(scene: Any, who: str, status: int) -> None:
    model, people = scene
    client = as_person(people[who])
    for address in ("/ai/tulu/downloads", "/ai/tulu/downloads.csv"):
        response = client.get(address)
        assert response.status_code == status
        body = response.getvalue().decode()
        assert ("bob.safetensors" in body) is (status == 200)
        assert "elsewhere" not in body
    link = "/ai/tulu/downloads"
    assert (link in client.get(model.get_absolute_url()).content.decode()) is (status == 200)


def test_hidden_models_log_looks_like_no_model(scene: Any) -> None:
    model, people = scene
    model.listed = False
    model.save(update_fields=["listed"])
    client = as_person(people["eve"])
    hidden, unknown = (
        without_form_tokens(client.get(f"/{name}/downloads")).replace(name, "X")
        for name in ("ai/tulu", "ai/none")
    )
    assert hidden == unknown


@pytest.mark.parametrize(
    "address", ["/me/downloads", "/me/downloads.csv", "/ai/tulu/downloads", "/ai/tulu/downloads.csv"]
)
def test_nobody_signed_in_is_led_to_the_sign_in(scene: Any, address: str) -> None:
    response = Client().get(address)
    assert (response.status_code, response["Location"]) == (302, f"/accounts/login/?next={address}")


FILTERS = {
    "": ["late", "noon", "early"],
    "since=2026-11-20": ["late", "noon"],
    "until=2026-11-20": ["noon", "early"],
    "since=2026-11-20&until=2026-11-20": ["noon"],
    "since=0001-01-01&until=9999-12-31": ["late", "noon", "early"],
    "since=9999-12-31": [],
    "until=9999-12-30": ["late", "noon", "early"],
    "until=0001-01-01": [],
    "person=bob": ["noon"],
    "person=BOB@example.org": ["noon"],
    "person=nobody": [],
    "before=nonsense": ["late", "noon", "early"],
    "before=9999-12-31T23:59:59-14:00~7": ["late", "noon", "early"],
    "before=2026-11-21~7": ["late", "noon", "early"],
    "before=2026-11-20T12:00:00%2B00:00~99999999999999999999999": ["late", "noon", "early"],
}


def test_filters_and_odd_places_narrow_the_models_log(scene: Any, download: Callable[..., Download]) -> None:
    model, people = scene
    Download.objects.all().delete()
    for path, hours, who in (("early", -13, "ada"), ("noon", 0, "bob"), ("late", 12, "ada")):
        download(model, people[who], path=path, started_at=NOON + timedelta(hours=hours))
    client = as_person(people["rita"])
    pages = {query: client.get(f"/ai/tulu/downloads?{query}").context["page"].rows for query in FILTERS}
    tables = {query: table(client.get(f"/ai/tulu/downloads.csv?{query}")) for query in FILTERS}
    assert {query: [row.path for row in rows] for query, rows in pages.items()} == FILTERS
    assert {query: [row["path"] for row in rows] for query, rows in tables.items()} == FILTERS


def test_own_page_is_filtered_by_model(scene: Any) -> None:
    _, people = scene
    page = as_person(people["bob"]).get("/me/downloads?model=ai/other")
    assert [row.path for row in page.context["page"].rows] == ["elsewhere.safetensors"]


def test_day_that_cannot_be_read_is_said_and_shows_nothing(scene: Any) -> None:
    _, people = scene
    client = as_person(people["ada"])
    for day in ("tomorrow", "2026-02-31", "\x00"):
        page = client.get("/me/downloads", {"since": day})
        assert (page.status_code, page.context["page"].rows) == (422, [])
        assert client.get("/me/downloads.csv", {"since": day}).status_code == 422


def test_pages_follow_each_other_without_gap_or_overlap(
    scene: Any, download: Callable[..., Download]
) -> None:
    """Many downloads start at the same moment."""
    model, people = scene
    Download.objects.all().delete()
    made = [download(model, people["ada"], path=f"{n}", started_at=NOON + timedelta(seconds=n // 40)).path for n in range(120)]  # fmt: skip
    client, seen, place = as_person(people["ada"]), [], ""
    for _ in range(3):
        page = client.get("/me/downloads", {"before": place} if place else {}).context["page"]
        seen += [row.path for row in page.rows]
        place = page.following
    assert (seen, place) == (made[::-1], "")


def test_page_costs_a_constant_number_of_queries(scene: Any, download: Callable[..., Download]) -> None:
    model, people = scene
    client, costs = as_person(people["rita"]), []
    client.get("/ai/tulu/downloads")  # records the session's device
    for _ in range(2):
        with CaptureQueriesContext(connection) as queries:
            client.get("/ai/tulu/downloads")
        costs.append(len(queries))
        for number in range(60):
            download(model, people["ada"], path=f"{number}")
    assert costs[0] == costs[1]


def test_totals_leave_out_what_nobody_knows(scene: Any, download: Callable[..., Download]) -> None:
    model, people = scene
    download(model, people["ada"], state="cut", bytes_sent=None, seconds=None)
    found = download_log.totals(download_log.of_model(model))
    assert (found.bodies, found.bytes_sent) == (3, 2000)
    page = as_person(people["rita"]).get("/ai/tulu/downloads").content.decode()
    assert "3 downloads, 2.0 KB sent" in page
    assert "not known" in page


def test_cell_that_would_be_a_formula_is_text(scene: Any, download: Callable[..., Download]) -> None:
    model, people = scene
    Download.objects.all().delete()
    starts = ["=", "+", "-", "@", "\t", "\r"]
    for start in starts:
        download(model, people["ada"], path=f'{start}HYPERLINK("x")', client=f"{start}cmd|' /C calc'!A0")
    rows = table(as_person(people["rita"]).get("/ai/tulu/downloads.csv"))
    cells = [(row["path"], row["client"]) for row in reversed(rows)]
    assert cells == [(f'\'{start}HYPERLINK("x")', f"'{start}cmd|' /C calc'!A0") for start in starts]


def test_hostile_names_are_shown_as_text(scene: Any, download: Callable[..., Download]) -> None:
    model, people = scene
    download(model, people["ada"], path="<script>alert(1)</script>", client='"><img src=x>')
    page = as_person(people["rita"]).get("/ai/tulu/downloads").content.decode()
    assert "<script>alert" not in page
    assert "<img src=x" not in page


def test_table_streams_every_row(
    scene: Any, download: Callable[..., Download], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, people = scene
    monkeypatch.setattr(download_log, "AT_ONCE", 7)
    for number in range(30):
        download(model, people["ada"], path=f"{number}")
    rows = table(as_person(people["rita"]).get("/ai/tulu/downloads.csv"))
    assert len({row["request_id"] for row in rows}) == 32


def test_page_of_somebody_without_downloads_says_so(scene: Any) -> None:
    _, people = scene
    assert (
        "You have not downloaded anything yet"
        in as_person(people["eve"]).get("/me/downloads").content.decode()
    )


def test_access_page_leads_to_own_downloads(scene: Any) -> None:
    _, people = scene
    page = as_person(people["ada"]).get("/ai/tulu/access").content.decode()
    assert 'href="/me/downloads?model=ai/tulu"' in page
    assert 'href="/me/downloads"' in page


def test_admin_lists_and_saves_what_the_visitor_decides_for(
    scene: Any, make_person: Callable[..., Any], settings: Any
) -> None:
    settings.GATEHOUSE_DEMO = True  # no second factor is required
    _, people = scene
    root = make_person("root", is_superuser=True)
    for person, paths in ((people["sue"], {"elsewhere.safetensors"}), (root, {"elsewhere.safetensors", "ada.safetensors", "bob.safetensors"})):  # fmt: skip
        client = as_person(person)
        listed = client.get("/admin/model_ops/download/")
        assert {row.path for row in listed.context["cl"].result_list} == paths
        assert {row["path"] for row in table(client.get("/admin/model_ops/download/csv/"))} == paths
    only = as_person(root).get(f"/admin/model_ops/download/csv/?user__id__exact={people['bob'].pk}")
    assert {row["person"] for row in table(only)} == {"bob"}
    assert as_person(people["eve"]).get("/admin/model_ops/download/csv/").status_code == 302
    people["eve"].user_permissions.add(Permission.objects.get(codename="add_gatedmodel"))
    assert as_person(people["eve"]).get("/admin/model_ops/download/csv/").status_code == 403


def test_admin_finds_people_and_models(scene: Any, make_person: Callable[..., Any], settings: Any) -> None:
    settings.GATEHOUSE_DEMO = True  # no second factor is required
    client = as_person(make_person("root", is_superuser=True))
    for words, found in (("BOB@", 2), ("ai/ot", 1), ("ada", 1), ("nothing", 0), ("model.safe", 0)):
        listed = client.get("/admin/model_ops/download/", {"q": words})
        assert (words, len(listed.context["cl"].result_list)) == (words, found)


def test_table_of_many_rows_is_read_in_portions(
    make_person: Any, make_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows of one moment appear once each; quotes, line ends, formulas and empty values survive in CSV."""
    monkeypatch.setattr(download_log, "AT_ONCE", 3)
    model, ada = make_model("ai/many"), make_person("many")
    paths = ["a.bin", "=1+1", "-x", "@y", "+z", 'say "hi", you', "two\nlines", "ÄÖ王.bin", "\tt", "last.bin"]
    moment = datetime(2026, 11, 30, 12, 0, 0, 7000, tzinfo=UTC)
    Download.objects.bulk_create(
        Download(
            model=model, user=ada, commit="c" * 40, path=path, bytes_asked=5, status=200, started_at=moment
        )
        for path in paths
    )
    portions = list(download_log.as_csv(download_log.of_model(model), people=True))
    assert len(portions) == 1 + 4
    table = list(csv.DictReader(io.StringIO("".join(portions), newline="")))
    harmless = {path: f"'{path}" if path[0] in "=-@+\t" else path for path in paths}
    assert [row["path"] for row in table] == [harmless[path] for path in reversed(paths)]
    assert {(row["started_at"], row["person"], row["bytes_sent"], row["client"]) for row in table} == {
        ("2026-11-30T12:00:00.007+00:00", "many", "", "")
    }
    assert list(download_log.as_csv(Download.objects.none(), people=False))[1:] == []


def test_table_loses_no_row_while_downloads_are_written(
    make_person: Any, make_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """New rows arrive between the statement that finds the end of a batch and the one that reads it."""
    monkeypatch.setattr(download_log, "AT_ONCE", 3)
    model, ada = make_model("ai/busy"), make_person("busy")
    start = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)

    def write(*numbers: int) -> None:
        Download.objects.bulk_create(
            Download(
                model=model, user=ada, commit="c" * 40, path=f"{number}.bin", bytes_asked=5, status=200,
                started_at=start + timedelta(seconds=number),
            )
            for number in numbers
        )  # fmt: skip

    newer = iter([(20, 21), (22,), (23,)])

    def interrupt(execute: Any, sql: str, *arguments: Any) -> Any:
        result = execute(sql, *arguments)
        if "OFFSET 2" in sql and (numbers := next(newer, None)):
            write(*numbers)
        return result

    write(*range(8))
    with connection.execute_wrapper(interrupt):
        lines = "".join(download_log.as_csv(download_log.of_model(model), people=False))
    paths = [row["path"] for row in csv.DictReader(io.StringIO(lines, newline=""))]
    assert next(newer, None) is None
    assert paths == [f"{number}.bin" for number in (21, 20, 7, 6, 5, 4, 3, 2, 1, 0)]


@pytest.mark.django_db(transaction=True)
def test_table_holds_no_connection_between_its_portions(make_model: Any) -> None:
    lines = download_log.as_csv(download_log.of_model(make_model("ai/slow")), people=False)
    assert connection.connection is not None
    next(lines)
    assert connection.connection is None
