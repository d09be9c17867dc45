"""The catalogue and the admin's pages of models need as many queries for a thousand rows as for ten."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from access_requests.access.catalogue import visible_models
from access_requests.admin.base import COUNTED
from access_requests.models import AccessRequest, GatedModel, Grant, ModelRole
from access_requests.services.catalogue.roles import assign_role
from portal.pages.catalogue import PER_PAGE

pytestmark = pytest.mark.django_db

LOGIN = {"backend": "django.contrib.auth.backends.ModelBackend"}
VISITORS = ["nobody", "ada", "rita", "boss"]
PAGES = ["/", "/?q=model", "/?q=mo", "/?page=2"]


@pytest.fixture
def tulu(make_model: Callable[..., Any]) -> GatedModel:
    return make_model("ai/tulu")


@pytest.fixture
def visitor(make_person: Callable[..., Any], tulu: GatedModel, settings: Any) -> Callable[[str], Client]:
    """Return `visitor("rita")`: the client of no one, a person, a reviewer of every model or a superuser."""
    settings.GATEHOUSE_DEMO = True  # no second factor is required
    for name in VISITORS[1:]:
        make_person(name, is_superuser=name == "boss")

    def enter(name: str) -> Client:
        client = Client()
        if name != "nobody":
            client.force_login(get_user_model().objects.get(username=name), **LOGIN)
        return client

    return enter


def add(tulu: GatedModel, first: int, last: int) -> None:
    """Add models without a rendered card, reviewed by rita, and new people's requests and grants for tulu."""
    models = GatedModel.objects.bulk_create(
        GatedModel(repo_id=f"more/model-{number}", card="A model", listed=number % 3 > 0)
        for number in range(first, last)
    )
    rita, user, now = get_user_model().objects.get(username="rita"), get_user_model(), timezone.now()
    ModelRole.objects.bulk_create(ModelRole(model=model, user=rita, role="reviewer") for model in models)
    people = user.objects.bulk_create(
        user(username=f"p{number}", email=f"p{number}@example.org") for number in range(first, last)
    )
    AccessRequest.objects.bulk_create(
        AccessRequest(
            model=tulu,
            applicant=person,
            form=tulu.form,
            state="submitted",
            submitted_at=now,
            first_submitted_at=now,
        )
        for person in people
    )
    Grant.objects.bulk_create(
        Grant(model=tulu, user=person, source="operator", ends_at=now + timedelta(days=9))
        for person in people
    )


def queries(client: Client, page: str) -> int:
    with CaptureQueriesContext(connection) as asked:
        assert client.get(page).status_code == 200
    return len(asked)


@pytest.mark.parametrize("name", VISITORS)
def test_catalogue_of_a_thousand_models_takes_as_many_queries_as_of_few(
    tulu: GatedModel, visitor: Callable[[str], Client], name: str
) -> None:
    client = visitor(name)
    add(tulu, 0, 3 * PER_PAGE)
    few = [queries(client, page) for page in PAGES]
    add(tulu, 3 * PER_PAGE, 1000)
    assert [queries(client, page) for page in PAGES] == few


@pytest.mark.parametrize("name", ["rita", "boss"])
@pytest.mark.parametrize("which", ["", "{}/change/"])
def test_gated_models_in_the_admin_take_as_many_queries_for_a_thousand_rows_as_for_ten(
    tulu: GatedModel, visitor: Callable[[str], Client], name: str, which: str
) -> None:
    client = visitor(name)
    assign_role(model=tulu, user=get_user_model().objects.get(username="rita"), role="reviewer")
    page = f"/admin/access_requests/gatedmodel/{which.format(tulu.pk)}"
    add(tulu, 0, 10)
    queries(client, page)  # read once per process
    few = queries(client, page)
    add(tulu, 10, 1000)
    assert queries(client, page) == few


def test_counts_of_a_model_end_where_they_are_shown(
    tulu: GatedModel, visitor: Callable[[str], Client]
) -> None:
    client = visitor("boss")
    add(tulu, 0, COUNTED)
    page = "/admin/access_requests/gatedmodel/?q=tulu"
    assert f">{COUNTED}</a>" in client.get(page).text
    add(tulu, COUNTED, COUNTED + 2)
    assert client.get(page).text.count(f"more than {COUNTED:,}") == 2


def test_each_visitor_sees_the_models_they_may_know_of_once(
    tulu: GatedModel, visitor: Callable[[str], Client], make_person: Callable[..., Any]
) -> None:
    add(tulu, 0, 9)
    hidden = GatedModel.objects.filter(listed=False).order_by("pk")[0]
    visitor("ada")
    ada, rita, boss = (get_user_model().objects.get(username=name) for name in VISITORS[1:])
    listed = GatedModel.objects.filter(listed=True).count()
    assert visible_models(None).count() == visible_models(ada).count() == listed
    assert visible_models(rita).count() == visible_models(boss).count() == GatedModel.objects.count()
    now = timezone.now()
    times = {"submitted_at": now, "first_submitted_at": now, "closed_at": now}
    for _ in range(2):
        AccessRequest.objects.create(model=hidden, applicant=ada, form=tulu.form, state="rejected", **times)
    Grant.objects.create(
        model=hidden, user=ada, source="operator", ends_at=timezone.now() + timedelta(days=1)
    )
    found = list(visible_models(ada))
    assert (len(found), hidden in found) == (listed + 1, True)
    assert list(visible_models(ada).filter(pk=hidden.pk)) == [hidden]


def test_short_words_are_found_in_names_and_summaries_and_long_ones_in_cards(
    make_model: Callable[..., Any], visitor: Callable[[str], Client]
) -> None:
    card = (
        "---\nlicense: mit\nextra_gated_fields:\n  Name: text\n---\n\n# 法律\n\n法律模型 for courts.\n\n"
        + "Much more. " * 90
    )
    make_model("law/court", card=f"{card}\n\nThe last word is zebra.\n")
    page = visitor("ada").get
    for words in ("法律", "co", "ZEBRA", "court zebra"):
        assert "law/court" in page("/", {"q": words}).text, words
    for words in ("zq", "zebras"):
        assert "law/court" not in page("/", {"q": words}).text, words
