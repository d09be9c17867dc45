"""Every list of the admin needs as many queries for many rows as for one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from access_requests.enums import Outcome
from access_requests.models import GatedModel
from access_requests.services.catalogue.roles import assign_role
from access_requests.services.grants import grant_access
from access_requests.services.requests.decide import record_decision
from access_requests.services.tokens import issue_token
from model_ops.enums import Method, SourceKind
from model_ops.models import WeightSource
from model_ops.services.recoveries.weights import PreparedWeights, attach_weights

pytestmark = pytest.mark.django_db

LISTS = [
    "access_requests/accessrequest",
    "access_requests/gatedmodel",
    "access_requests/grant",
    "access_requests/event",
    "model_ops/recovery",
    "model_ops/revision",
    "accounts/user",
]


@pytest.fixture
def one_more(
    make_person: Callable[..., Any], make_model: Callable[..., Any], submit: Callable[..., Any]
) -> Any:
    """Return `one_more(n, ada)`, which adds the nth model with a revision, requests, grants and tokens."""

    def make(number: int, ada: Any) -> None:
        model, olga = make_model(f"ai/model-{number}"), make_person(f"olga-{number}")
        source = WeightSource.objects.create(
            kind=SourceKind.FOLDER, spec=f"/models/{number}", fingerprint="f"
        )
        prepared = PreparedWeights({"method": Method.COPY, "files": source}, {"text": "All as it is."})
        attach_weights(model=model, prepared=prepared)
        assign_role(model=model, user=olga, role="owner")
        request = submit(ada, model)
        submit(make_person(f"waiting-{number}"), model)
        record_decision(request=request, reviewer=olga, outcome=Outcome.APPROVED)
        issue_token(grant=request.grants.get(), user=ada, name="laptop")
        grant_access(model=model, email=f"guest-{number}@example.org", days=3)

    return make


@pytest.mark.parametrize("name", LISTS)
def test_list_of_many_takes_as_many_queries_as_of_few(
    name: str, make_person: Callable[..., Any], one_more: Callable[..., None], settings: Any
) -> None:
    settings.GATEHOUSE_DEMO = True  # no second factor is required
    ada, client = make_person("ada"), Client()
    boss = make_person("boss", is_superuser=True)
    client.force_login(boss, backend="django.contrib.auth.backends.ModelBackend")

    def queries() -> int:
        with CaptureQueriesContext(
            connection,
        ) as asked:
            assert client.get(f"/admin/{name}/").status_code == 200
        return len(asked)

    for number in range(2):
        one_more(number, ada)
    queries()  # read once per process
    few = queries()
    for number in range(2, 6):
        one_more(number, ada)
    assert queries() == few


def test_reviewer_of_several_models_opens_every_list(
    make_person: Callable[..., Any], one_more: Callable[..., None], settings: Any
) -> None:
    settings.GATEHOUSE_DEMO = True
    ada, client = make_person("ada"), Client()
    rita = make_person("rita")
    for number in range(3):
        one_more(number, ada)
        assign_role(model=GatedModel.objects.get(repo_id=f"ai/model-{number}"), user=rita, role="reviewer")
    client.force_login(rita, backend="django.contrib.auth.backends.ModelBackend")
    start = client.get("/admin/")
    lists = {row["admin_url"] for app in start.context["app_list"] for row in app["models"]}
    answers = {path: client.get(path, {"q": "ada"}).status_code for path in lists}
    assert len(lists) > 8
    assert answers == dict.fromkeys(lists, 200)
