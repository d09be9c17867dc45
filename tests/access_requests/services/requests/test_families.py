"""Families of models: grouped by owners, asked for with one form, decided together and each on its own."""

from __future__ import annotations

import html
from collections.abc import Callable
from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from django.test import Client

from access_requests.enums import RequestState
from access_requests.errors import Conflict, Invalid, NotAllowed, RuleError
from access_requests.models import AccessRequest, Event, LicenceAcceptance, ModelFamily
from access_requests.services.catalogue.edit import add_licence, change_settings
from access_requests.services.catalogue.families import end_family, set_family
from access_requests.services.catalogue.gated_models import LicenceText, update_card
from access_requests.services.catalogue.roles import assign_role
from access_requests.services.event_log.verify import verify_log
from access_requests.services.grants import grant_access
from access_requests.services.requests.families import (
    decide_together,
    models_to_add,
    requests_with,
    submit_together,
)
from access_requests.services.requests.submit import start_request
from tests.conftest import TULU_ANSWERS
from tests.threads import all_at_once

pytestmark = pytest.mark.django_db
FORM = "/ai/tulu-7b/request"
TYPED = {
    "f1": "Ada", "f2": "Lovelace", "f3": "Analytical Society", "f4": "GB", "f5": "Study of instruction following.",
    "f6": "10.1000/xyz123", "f7": "on",
}  # fmt: skip


@pytest.fixture
def people(make_person: Callable[..., Any], make_model: Callable[..., Any]) -> Any:
    """Return ada, owner olga, reviewer rita, and a family of three models."""

    class People:
        ada, olga, rita = make_person("ada"), make_person("olga"), make_person("rita")
        small, middle, large = (make_model(f"ai/tulu-{size}") for size in ("7b", "13b", "65b"))
        models = (small, middle, large)

        @classmethod
        def submit(cls, *others: Any, **fields: Any) -> list[AccessRequest]:
            request = start_request(model=cls.small, applicant=cls.ada)
            fields.setdefault("licences_shown", list(cls.small.licence_versions.values_list("pk", flat=True)))
            return submit_together(
                request=request, applicant=cls.ada, others=others, answers=TULU_ANSWERS, **fields
            )

    for model in People.models:
        assign_role(model=model, user=People.olga, role="owner")
        assign_role(model=model, user=People.rita, role="reviewer")
    set_family(model=People.small, name="Tulu", others=[People.middle, People.large], actor=People.olga)
    return People


def members(model: Any) -> set[str]:
    model.refresh_from_db()
    return set(model.family.models.values_list("repo_id", flat=True)) if model.family else set()


# -- grouping ---------------------------------------------------------------------------------------------


def test_an_owner_groups_models(people: Any) -> None:
    assert members(people.large) == {"ai/tulu-7b", "ai/tulu-13b", "ai/tulu-65b"}
    set_family(model=people.middle, name=" Tulu  2 ", others=[people.small], actor=people.olga)
    assert members(people.small) == {"ai/tulu-7b", "ai/tulu-13b"}
    assert people.small.family.name == "Tulu 2"
    assert members(people.large) == set()
    end_family(model=people.small, actor=people.olga)
    end_family(model=people.small, actor=people.olga)
    assert members(people.middle) == set()
    assert not ModelFamily.objects.exists()
    names = Event.objects.filter(kind="model.family_changed", model=people.large).order_by("pk")
    assert [event.data["name"] for event in names] == ["Tulu", None]
    assert verify_log().problems == []


def test_what_cannot_be_a_family(people: Any, make_model: Callable[..., Any]) -> None:
    elsewhere, fourth = make_model("other/model"), make_model("ai/other")
    for model, name, others, actor, error, sentence in (
        (people.small, "", [people.middle], people.olga, Invalid, "Give the family a name"),
        (people.small, "x" * 101, [people.middle], people.olga, Invalid, "at most 100"),
        (people.small, "Tulu", [], people.olga, Invalid, "Choose 1 to 19"),
        (people.small, "Tulu", [people.small], people.olga, Invalid, "Choose 1 to 19"),
        (people.small, "Tulu", [elsewhere], None, Invalid, "other/model is not in ai"),
        (people.small, "Tulu", [fourth], people.olga, NotAllowed, "Only an owner of ai/other"),
        (people.small, "Tulu", [people.middle], people.rita, NotAllowed, "Only an owner"),
        (fourth, "Rest", [people.middle], None, Conflict, "belongs to the family “Tulu”"),
    ):
        with pytest.raises(error, match=sentence):
            set_family(model=model, name=name, others=others, actor=actor)
    with pytest.raises(NotAllowed):
        end_family(model=people.small, actor=people.rita)
    assert len(members(people.small)) == 3


# -- asking -----------------------------------------------------------------------------------------------


def test_one_form_makes_one_request_for_each_model(people: Any) -> None:
    made = people.submit(people.large, people.middle)
    assert [one.model.repo_id for one in made] == ["ai/tulu-7b", "ai/tulu-13b", "ai/tulu-65b"]
    rows = AccessRequest.objects.filter(applicant=people.ada)
    assert {row.state for row in rows} == {RequestState.SUBMITTED}
    assert len({row.family for row in rows}) == 1
    assert all(row.answers == rows[0].answers for row in rows)
    assert LicenceAcceptance.objects.filter(request__in=rows).count() == 3
    first = AccessRequest.objects.get(model=people.small)
    assert [one.model for one in requests_with(first)] == [people.middle, people.large]
    facts = Event.objects.filter(kind="request.submitted").values_list("facts__family", flat=True)
    assert set(facts) == {str(first.family)}
    assert verify_log().problems == []


def test_one_request_alone_belongs_to_no_family(people: Any) -> None:
    assert len(people.submit()) == 1
    request = AccessRequest.objects.get(applicant=people.ada)
    assert request.family is None
    assert requests_with(request) == []


@pytest.mark.parametrize(
    "why", ["form", "licence", "open", "granted", "not gated", "unlisted", "left", "decided"]
)
def test_models_that_cannot_be_added(people: Any, submit: Any, why: str, make_person: Any) -> None:
    assert models_to_add(people.small, people.ada) == [people.middle, people.large]
    match why:
        case "form":
            update_card(model=people.large, card=people.large.card.replace("Intended Use", "Purpose"))
        case "licence":
            add_licence(model=people.large, licence=LicenceText("licence.txt", "en", "Be better.\n"))
        case "open":
            submit(people.ada, people.large)
        case "granted":
            grant_access(model=people.large, email=people.ada.email, days=3)
        case "not gated":
            change_settings(model=people.large, gate="none", grant_days=30, listed=True)
        case "unlisted":
            change_settings(model=people.large, gate="manual", grant_days=30, listed=False)
        case "left":
            set_family(model=people.small, name="Tulu", others=[people.middle])
        case "decided":
            decide_together(
                requests=[(submit(people.ada, people.large), 1)],
                reviewer=people.rita,
                outcome="rejected",
                reason_code="other",
                words="No.",
            )
    people.small.refresh_from_db()
    if why == "decided":  # a rejected person may ask again
        assert models_to_add(people.small, people.ada) == [people.middle, people.large]
        return
    assert models_to_add(people.small, people.ada) == [people.middle]
    before = AccessRequest.objects.filter(submitted_at__isnull=False).count()
    with pytest.raises(Conflict, match="ai/tulu-65b cannot be added"):
        people.submit(people.large)
    assert AccessRequest.objects.filter(submitted_at__isnull=False).count() == before


def test_a_draft_for_another_model_is_used(people: Any) -> None:
    draft = start_request(model=people.large, applicant=people.ada)
    made = people.submit(people.large)
    assert made[1].pk == draft.pk


def test_nothing_is_submitted_if_one_is_refused(people: Any) -> None:
    with pytest.raises(RuleError):
        people.submit(people.large, agreed=False, licences_shown=[])
    assert not AccessRequest.objects.filter(submitted_at__isnull=False).exists()
    people.submit(people.large)
    with pytest.raises(Conflict, match="submitted already"):
        people.submit(people.middle)


@pytest.mark.django_db(transaction=True)
def test_two_tabs_submit_a_family_once(people: Any) -> None:
    start_request(model=people.small, applicant=people.ada)

    def press(_number: int) -> str:
        try:
            return f"made {len(people.submit(people.middle, people.large))}"
        except RuleError:
            return "refused"

    assert sorted(all_at_once(4, press)) == ["made 3", "refused", "refused", "refused"]
    assert AccessRequest.objects.filter(applicant=people.ada).count() == 3


@pytest.mark.django_db(transaction=True)
def test_forms_of_two_models_of_a_family_at_once(people: Any, make_person: Callable[..., Any]) -> None:
    persons = [make_person(f"p{number}") for number in range(6)]

    def press(number: int) -> int:
        model = people.models[number % 3]
        request = start_request(model=model, applicant=persons[number])
        shown = list(model.licence_versions.values_list("pk", flat=True))
        others = [one for one in people.models if one != model]
        return len(
            submit_together(
                request=request,
                applicant=persons[number],
                others=others,
                answers=TULU_ANSWERS,
                licences_shown=shown,
            )
        )

    assert all_at_once(6, press) == [3] * 6
    assert AccessRequest.objects.count() == 18


# -- deciding ---------------------------------------------------------------------------------------------


def test_each_is_decided_on_its_own(people: Any) -> None:
    change_settings(model=people.middle, gate="manual", grant_days=30, listed=True, approvals=2)
    assign_role(model=people.large, user=people.rita, role="")
    made = people.submit(people.middle, people.large)
    found = decide_together(
        requests=[(one, 1) for one in made], reviewer=people.rita, outcome="approved", words="Welcome."
    )
    assert [type(one.made).__name__ for one in found] == ["Decision", "Vote", "NoneType"]
    assert found[2].refusal == "You are not a reviewer of ai/tulu-65b: ask its owner."
    states = dict(AccessRequest.objects.values_list("model__repo_id", "state"))
    assert states == {"ai/tulu-7b": "approved", "ai/tulu-13b": "in_review", "ai/tulu-65b": "submitted"}


def test_a_request_that_was_changed_is_not_decided_with_the_others(people: Any) -> None:
    made = people.submit(people.middle)
    found = decide_together(requests=[(made[0], 1), (made[1], 0)], reviewer=people.rita, outcome="approved")
    assert [bool(one.refusal) for one in found] == [False, True]
    assert "has changed the request" in found[1].refusal


# -- pages ------------------------------------------------------------------------------------------------


def page(response: Any) -> str:
    return html.unescape(response.content.decode())


def signed_in(person: Any) -> Client:
    Authenticator.objects.get_or_create(user=person, type=Authenticator.Type.TOTP, defaults={"data": {}})
    client = Client()
    client.force_login(person)
    return client


def test_the_form_offers_the_family_and_keeps_what_was_ticked(people: Any) -> None:
    client = signed_in(people.ada)
    shown = page(client.get(FORM))
    assert "Ask for other models of “Tulu” as well" in shown
    assert shown.count('name="also"') == 2
    form = people.small.form_id
    licence = people.small.licence_versions.get().pk
    sent = {**TYPED, "form": form, "licence": licence, "action": "submit", "also": [people.large.pk]}
    refused = page(client.post(FORM, {**sent, "f5": ""}))
    assert f'value="{people.large.pk}" checked' in refused
    assert f'value="{people.middle.pk}">' in refused
    done = page(client.post(FORM, sent, follow=True))
    assert "with one for 1 more model" in done
    assert AccessRequest.objects.filter(submitted_at__isnull=False).count() == 2
    assert 'name="also"' not in page(client.get(FORM))


def test_a_reviewer_decides_the_family_on_one_page(people: Any) -> None:
    made = people.submit(people.middle, people.large)
    client, first = signed_in(people.rita), made[0]
    address = f"/admin/access_requests/accessrequest/{first.pk}"
    shown = page(client.get(f"{address}/change/"))
    assert "Asked for with the same form" in shown
    assert f'value="{made[1].pk}:1"' in shown
    also = [f"{made[1].pk}:1", f"{made[2].pk}:9", "nonsense", f"{10**30}:1", f"{first.pk}:1"]
    done = page(
        client.post(
            f"{address}/decide/", {"outcome": "approved", "submission": "1", "also": also}, follow=True
        )
    )
    assert "for ai/tulu-13b is decided in the same way." in done
    assert f"#{made[2].pk} ai/tulu-65b: " in done
    states = dict(AccessRequest.objects.values_list("model__repo_id", "state"))
    assert states == {"ai/tulu-7b": "approved", "ai/tulu-13b": "approved", "ai/tulu-65b": "submitted"}


def test_a_refused_decision_decides_no_other(people: Any) -> None:
    made = people.submit(people.middle)
    client = signed_in(people.rita)
    address = f"/admin/access_requests/accessrequest/{made[0].pk}/decide/"
    client.post(address, {"outcome": "rejected", "submission": "1", "also": [f"{made[1].pk}:1"]})
    assert set(AccessRequest.objects.values_list("state", flat=True)) == {"submitted"}


def test_an_owner_edits_the_family_in_the_admin(people: Any, make_model: Callable[..., Any]) -> None:
    make_model("ai/foreign")
    client = signed_in(people.olga)
    address = f"/admin/access_requests/gatedmodel/{people.small.pk}/family/"
    shown = page(client.get(address))
    assert "ai/tulu-13b" in shown
    assert "ai/foreign" not in shown
    assert "Choose at least one other model." in page(client.post(address, {"name": "Tulu"}))
    client.post(address, {"name": "Tulu", "others": [people.middle.pk]})
    assert members(people.small) == {"ai/tulu-7b", "ai/tulu-13b"}
    client.post(address, {"end": "1"})
    assert members(people.small) == set()
    for person in (people.rita, people.ada):
        signed_in(person).post(address, {"name": "Mine", "others": [people.middle.pk]})
    assert members(people.small) == set()
