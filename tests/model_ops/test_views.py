"""Progress and panels: what different people see of a model's weights."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.http import HttpRequest
from django.utils import timezone

from access_requests.services.catalogue.roles import assign_role
from model_ops.enums import RecoveryState
from model_ops.models import Recovery
from model_ops.panels import access_panel, case_panel, model_panel
from model_ops.queries import current_recovery
from model_ops.services.recoveries.run import run_recovery
from model_ops.services.recoveries.weights import cancel_recovery, want_recovery


@pytest.fixture
def model(add_files_model: Callable[..., Any]) -> Any:
    return add_files_model("ai/x")


def running(model: Any) -> Recovery:
    """A running recovery at 42 % whose lease has just expired."""
    recovery = current_recovery(model)
    assert recovery is not None
    Recovery.objects.filter(pk=recovery.pk).update(
        state=RecoveryState.RUNNING, stage="recovering", bytes_done=420, bytes_total=1000, wanted_at=timezone.now(),
        lease_owner="x", lease_until=timezone.now(),
    )  # fmt: skip
    return recovery


def finish(model: Any) -> None:
    recovery = current_recovery(model)
    assert recovery is not None
    want_recovery(recovery=recovery)
    run_recovery(recovery_id=recovery.pk)


def request_of(user: Any) -> HttpRequest:
    request = HttpRequest()
    request.user = user
    return request


def test_progress_is_for_those_who_may_read(
    model: Any, grant: Callable[..., Any], make_person: Callable[..., Any], client: Any
) -> None:
    running(model)
    address = "/ai/x/access/progress"
    assert client.get(address).status_code == 404
    client.force_login(make_person("stranger"))
    assert client.get(address).status_code == 404
    client.force_login(grant(model, "ada").user)

    answer = client.get(address)

    assert answer.status_code == 200
    assert "42 %" in answer.text
    assert f'hx-get="{address}"' in answer.text
    assert "HX-Refresh" not in answer.headers
    assert client.get("/ai/none/access/progress").status_code == 404


def test_progress_shows_bytes_speed_and_time_left(model: Any, grant: Callable[..., Any], client: Any) -> None:
    client.force_login(grant(model, "ada").user)
    recovery = running(model)
    began = timezone.now() - timedelta(seconds=100)
    fields = {"bytes_done": 4_200_000_000, "bytes_total": 10_000_000_000, "stage_started_at": began}
    Recovery.objects.filter(pk=recovery.pk).update(**fields)

    shown = client.get("/ai/x/access/progress").text

    speed = re.search(r"42 %, 4\.20 GB of 10\.00 GB, (\d\d\.\d) MB/s, 2 min \d+ s left\s*</p>", shown)
    assert speed is not None
    slowest = 4200 / (timezone.now() - began).total_seconds()  # the page was rendered between then and now
    assert round(slowest, 1) <= float(speed[1]) <= 42.0
    Recovery.objects.filter(pk=recovery.pk).update(bytes_done=10_000_000_000, stage="publishing")
    assert re.search(r"99 %, 10\.00 GB of 10\.00 GB\s*</p>", client.get("/ai/x/access/progress").text)


def test_progress_at_the_end_loads_the_page_anew(model: Any, grant: Callable[..., Any], client: Any) -> None:
    client.force_login(grant(model, "ada").user)
    finish(model)

    answer = client.get("/ai/x/access/progress")

    assert answer.headers["HX-Refresh"] == "true"
    assert "hx-get" not in answer.text


def test_progress_of_a_cancelled_recovery_is_one_sentence(
    model: Any, grant: Callable[..., Any], client: Any
) -> None:
    client.force_login(grant(model, "ada").user)
    cancel_recovery(recovery=running(model))

    answer = client.get("/ai/x/access/progress")

    assert "The recovery of these weights was cancelled. You will get an email" in answer.text
    assert "hx-get" not in answer.text


def test_plan_and_error_are_for_those_who_decide(
    model: Any, make_person: Callable[..., Any], grant: Callable[..., Any]
) -> None:
    owner, reader = make_person("owner"), grant(model, "ada").user
    assign_role(model=model, user=owner, role="owner")
    recovery = current_recovery(model)
    assert recovery is not None
    Recovery.objects.filter(pk=recovery.pk).update(state=RecoveryState.FAILED, error="The disk is full.")

    for_owner = model_panel(model, request_of(owner)) + access_panel(model, request_of(owner))
    for_reader = model_panel(model, request_of(reader)) + access_panel(model, request_of(reader))

    assert "The disk is full." in for_owner
    assert recovery.files.spec in for_owner
    assert "The disk is full." not in for_reader
    assert recovery.files.spec not in for_reader
    assert "could not be recovered" in for_reader


def test_case_panel_shows_what_approving_sets_going(
    model: Any, make_person: Callable[..., Any], submit: Callable[..., Any]
) -> None:
    from access_requests.services.requests.submit import start_request

    reviewer = make_person("reviewer")
    assign_role(model=model, user=reviewer, role="reviewer")
    request = start_request(model=model, applicant=make_person("ada"))

    shown = case_panel(request, request_of(reviewer))

    assert "4 files are published as they are" in shown
    assert "recovered when the first person gets access" in shown


def test_published_model_shows_size_and_revision(model: Any, make_person: Callable[..., Any]) -> None:
    finish(model)

    shown = model_panel(model, request_of(make_person("ada")))

    assert "Revision" in shown
    assert "Plan" not in shown
