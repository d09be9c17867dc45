"""Addresses that no page of the admin links to: made-up filters, ids and values, for each of its lists."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib import admin
from django.test import Client
from django.urls import reverse

from access_requests.models import Machine, OutgoingMail

# In an ordinary test, a statement that the database refuses would abort the test's only transaction.
pytestmark = pytest.mark.django_db(transaction=True)
LISTS = sorted(model._meta.label_lower for model in admin.site._registry)
QUERIES = [
    "pk__regex=(", "id__iregex=%5B", "x__y__z=1", "id=9999999999999999999999", "pk__in=1,x", "id__isnull=maybe", "id__bogus=1",
    "o=abc", "o=1.-2.99", "p=-1", "p=999999999999999999999", "q=%00", "q=" + "a" * 3000, "e=1", "e=1&x=1", "_facets=True", "_popup=1",
    "_to_field=password", "all=", "at__year=abc", "at__month=99", "started_at__gte=nonsense", "standing=nonsense", "state=%00",
    "user__password__startswith=a", "model__id__exact=abc", "created_at__range=1", "_changelist_filters=%ED%A0%80",
]  # fmt: skip
IDS = ["abc", "9999999999999999999999", "_00", "_5F", "%00", "-1", "1.5", "a" * 3000, "%ED%A0%80", "NaN"]


def text(response: Any) -> str:
    return " ".join(response.content.decode().split())


def test_lists_answer_any_query_with_rows_or_a_sentence(desk: Any) -> None:
    for turn, label in enumerate(LISTS):
        for query in QUERIES[turn % 5 :: 5]:
            response = desk.root_browser.get(f"/admin/{label.replace('.', '/')}/?{query}")
            assert response.status_code in {200, 400}, (label, query)
            if response.status_code == 400:
                assert "We could not read this request" in text(response), (label, query)
            assert "wrong with your database" not in text(response), (label, query)


def test_page_of_an_id_that_is_none_leads_away(desk: Any) -> None:
    pages = ["change", "history", "delete"]
    for turn, label in enumerate(LISTS):
        for number, page in zip(IDS[turn % 3 :: 3], pages, strict=False):
            response = desk.root_browser.get(f"/admin/{label.replace('.', '/')}/{number}/{page}/")
            assert response.status_code in {302, 400, 403, 404}, (label, number, page)


@pytest.mark.parametrize("query", ["repo_id__regex=(", "repo_id__unaccent="])
def test_filter_that_is_none_says_what_to_do(desk: Any, query: str) -> None:
    response = desk.root_browser.get(f"/admin/access_requests/gatedmodel/?{query}")
    assert response.status_code == 400
    assert "names a filter, a number or a text that this page cannot use" in text(response)
    assert "choose the filters there" in text(response)


@pytest.mark.parametrize(
    "query", ["nonsense=1", "model__id__exact=abc", "path__regex=(", "state__year=1"]
)  # fmt: skip
def test_table_of_downloads_with_a_filter_that_is_none_is_a_sentence(desk: Any, query: str) -> None:
    for browser in (desk.root_browser, desk.rita_browser):
        response = browser.get(f"{reverse('admin:model_ops_download_csv')}?{query}")
        if response.status_code == 200:  # a regular expression is compiled only if there is a row to match
            assert b"".join(response.streaming_content)
        else:
            assert response.status_code == 400


def test_rows_of_no_model_are_nobodys_but_a_superusers(desk: Any) -> None:
    machine = Machine.objects.create(user=desk.ada, name="laptop", ends_at="2100-01-01T00:00:00Z")
    mail = OutgoingMail.objects.create(key="k", to="ada@example.org", subject="A secret subject", text="x")
    for row in (machine, mail):
        for page in ("change", "history", "delete"):
            address = reverse(f"admin:access_requests_{row._meta.model_name}_{page}", args=[row.pk])
            for name in ("olga", "rita", "sam"):
                browser: Client = getattr(desk, f"{name}_browser")
                response = browser.get(address)
                assert response.status_code in {302, 403, 404}, (name, address)
                assert "secret subject" not in text(response)
        address = reverse(f"admin:access_requests_{row._meta.model_name}_change", args=[row.pk])
        assert desk.root_browser.get(address).status_code == 200


@pytest.mark.parametrize("kind", ["multipart/form-data", "application/x-www-form-urlencoded; charset=utf-16"])
def test_broken_body_to_an_address_that_leads_nowhere_is_not_found(kind: str) -> None:
    """The error page once read the body to find a CSRF token, and failed on it."""
    client = Client(enforce_csrf_checks=True)
    client.cookies["gatehouse_csrf"] = "a" * 32
    for address in ("/admin/nothing", "/nothing", "/%00"):
        assert client.generic("POST", address, b"x", content_type=kind).status_code in {302, 400, 404}, (
            address
        )
