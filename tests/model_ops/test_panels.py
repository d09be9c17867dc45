"""Answers to the test prompt are shown to those who decide and to nobody else."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from access_requests.models import GatedModel
from access_requests.services.catalogue.roles import assign_role
from model_ops.enums import RecoveryState, SmokeState
from model_ops.models import Recovery, SmokeRun
from tests.conftest import TULU_CARD

ADMIN = "/admin/model_ops/recovery"
ANSWER = {
    "prompt": "What is the capital of France?",
    "answer": "<script>alert(1)</script> & Paris.",
    "tokens": 1,
    "seconds": 2.5,
    "device": "cpu",
    "dtype": "bfloat16",
    "finite": True,
    "template": "Tulu's format",
    "hints": [],
}


@pytest.fixture
def recovery(add_pair_model: Callable[..., Any], settings: Any) -> Recovery:
    """A finished recovery of `ai/x` whose weights have answered the test prompt."""
    settings.GATEHOUSE_DEMO, settings.GATEHOUSE_SMOKE = True, True  # no second factor for staff
    add_pair_model("ai/x", card=TULU_CARD)
    Recovery.objects.update(state=RecoveryState.READY, finished_at=timezone.now())
    recovery = Recovery.objects.get()
    SmokeRun.objects.create(
        recovery=recovery,
        state=SmokeState.ANSWERED,
        wanted_at=timezone.now(),
        finished_at=timezone.now(),
        answer=ANSWER,
    )
    return recovery


@pytest.fixture
def person(recovery: Recovery, make_person: Callable[..., Any]) -> Callable[[str], Any]:
    """`person("owner")`, `person("reviewer")`: create one; `person("elsewhere")` owns another model."""

    def make(role: str) -> Any:
        found, model = make_person(role), GatedModel.objects.get(repo_id="ai/x")
        if role == "elsewhere":
            role, model = "owner", GatedModel.objects.create(repo_id="ai/other", card="")
        assign_role(model=model, user=found, role=role)
        return found

    return make


@pytest.mark.parametrize(("role", "sees", "asks"), [("owner", True, True), ("reviewer", True, False), ("elsewhere", False, False)])  # fmt: skip
def test_answer_is_read_by_those_who_decide_and_asked_for_by_owners(
    recovery: Recovery, person: Callable[[str], Any], client: Any, role: str, sees: bool, asks: bool
) -> None:
    client.force_login(person(role))
    address = f"{ADMIN}/{recovery.pk}"

    page = client.get(f"{address}/change/")
    read = client.get(f"{address}/ask/")
    asked = client.post(f"{address}/ask/")

    assert page.status_code == (200 if sees else 302)
    assert ("&lt;script&gt;alert(1)&lt;/script&gt; &amp; Paris." in page.text) is sees
    assert "<script>alert(1)" not in page.text
    assert ("1 token in 2.5 s on cpu in bfloat16" in page.text) is sees
    assert (f"{address}/ask/" in page.text) is asks
    assert read.status_code == 405
    assert asked.status_code == (302 if asks else 404)
    assert SmokeRun.objects.get().state == (SmokeState.WAITING if asks else SmokeState.ANSWERED)


def test_asking_while_an_answer_is_on_its_way_is_one_sentence(
    recovery: Recovery, person: Callable[[str], Any], client: Any
) -> None:
    SmokeRun.objects.update(state=SmokeState.RUNNING, ends_by=timezone.now() + timedelta(minutes=1))
    client.force_login(person("owner"))
    page = client.post(f"{ADMIN}/{recovery.pk}/ask/", follow=True)
    assert f"The weights of recovery {recovery.pk} are already being tested." in page.text


@pytest.mark.parametrize(
    ("fields", "shown"),
    [
        ({"state": "waiting", "answer": {}}, "A worker runs the test prompt as soon as it is free."),
        ({"state": "running", "answer": {}, "ends_by": timedelta(hours=1)}, "The test prompt is running."),
        ({"state": "running", "answer": {}, "ends_by": -timedelta(hours=1)}, "The worker ended before the weights answered."),
        ({"state": "failed", "error": "The <logits> were not finite."}, "The &lt;logits&gt; were not finite."),
        ({"state": "refused", "answer": {}, "error": "No memory."}, "No memory."),
        ({"answer": ANSWER | {"answer": "", "hints": ["It is <empty>."]}}, "It is &lt;empty&gt;."),
    ],
)  # fmt: skip
def test_every_state_is_said_on_the_recoverys_page(
    recovery: Recovery, person: Callable[[str], Any], client: Any, fields: dict[str, Any], shown: str
) -> None:
    if "ends_by" in fields:
        fields = fields | {"ends_by": timezone.now() + fields["ends_by"]}
    SmokeRun.objects.update(**fields)
    client.force_login(person("reviewer"))
    assert shown in client.get(f"{ADMIN}/{recovery.pk}/change/").text


def test_case_page_shows_the_answer_and_the_applicant_sees_nothing_of_it(
    recovery: Recovery,
    person: Callable[[str], Any],
    make_person: Callable[..., Any],
    submit: Callable[..., Any],
    grant: Callable[..., Any],
    client: Any,
) -> None:
    ada, model = make_person("ada"), GatedModel.objects.get(repo_id="ai/x")
    request = submit(ada, model)
    granted = grant(model, "grace").user
    client.force_login(person("reviewer"))
    case = client.get(f"/admin/access_requests/accessrequest/{request.pk}/change/")
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; Paris." in case.text
    for somebody in (ada, granted):
        client.force_login(somebody)
        for address in ("/ai/x", "/ai/x/access", "/ai/x/access/progress"):
            assert "alert(1)" not in client.get(address).text
