from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from access_requests.access.access import access_of, live_grant
from access_requests.enums import AccessCode, Gate
from access_requests.errors import Conflict, Invalid
from access_requests.models import (
    Event,
    GatedModel,
    LicenceAcceptance,
    LicenceVersion,
    OutgoingMail,
)
from access_requests.services.catalogue.demand_licence import accept_licences, demand_licence
from access_requests.services.catalogue.edit import add_licence, retire_licence
from access_requests.services.catalogue.gated_models import LicenceText, replace_licences
from access_requests.services.catalogue.roles import assign_role
from access_requests.services.event_log.append import verify_chain
from access_requests.services.grants import grant_access, revoke_access
from tests.threads import all_at_once

NEW = LicenceText("licence.txt", "en", "Be better.\n")


@pytest.fixture
def people(make_person: Callable[..., Any], make_model: Callable[..., Any]) -> Any:
    class People:
        ada, sam, olga = make_person("ada"), make_person("sam"), make_person("olga")
        model: GatedModel = make_model()

    for person in (People.ada, People.sam, People.olga):
        grant_access(model=People.model, email=person.email, days=30)
    assign_role(model=People.model, user=People.olga, role="owner")
    OutgoingMail.objects.all().delete()
    return People


def code(people: Any, person: Any) -> AccessCode:
    return access_of(person, people.model).code


def current(people: Any) -> LicenceVersion:
    return people.model.licence_versions.get(retired_at=None)


@pytest.mark.django_db
def test_demanded_text_stops_holders_until_they_accept_and_mails_them(people: Any) -> None:
    added = add_licence(model=people.model, licence=NEW, must_accept=True, actor=people.olga)
    assert (added.fresh, added.asked) == (True, 2)
    assert code(people, people.ada) == code(people, people.sam) == AccessCode.LICENCE_OWED
    assert code(people, people.olga) == AccessCode.GRANTED
    assert set(OutgoingMail.objects.values_list("to", flat=True)) == {people.ada.email, people.sam.email}
    text = OutgoingMail.objects.get(to=people.ada.email).text
    assert f"{people.model.address()}/access" in text
    assert added.licence.sha256 in text
    made = accept_licences(model=people.model, user=people.ada, shown=[added.licence.pk])
    assert [(a.request, a.licence, a.sha256) for a in made] == [(None, added.licence, added.licence.sha256)]
    assert (code(people, people.ada), code(people, people.sam)) == (
        AccessCode.GRANTED,
        AccessCode.LICENCE_OWED,
    )
    event = Event.objects.get(kind="licence.accepted")
    assert (event.actor, event.grant, event.data) == (
        people.ada,
        live_grant(people.ada, people.model),
        {"licences": [added.licence.sha256], "binding": [added.licence.sha256]},
    )
    assert Event.objects.get(kind="licence.demanded").data["sha256"] == added.licence.sha256
    assert verify_chain().ok


@pytest.mark.django_db
def test_text_that_is_not_demanded_stops_nobody(people: Any) -> None:
    assert add_licence(model=people.model, licence=NEW).asked == 0
    assert code(people, people.ada) == AccessCode.GRANTED
    assert not OutgoingMail.objects.exists()


@pytest.mark.django_db
def test_demand_of_a_text_that_stands_already_adds_no_version(people: Any) -> None:
    before = current(people)
    same = LicenceText(before.name, before.language, before.text)
    added = add_licence(model=people.model, licence=same, must_accept=True)
    assert (added.licence, added.fresh) == (before, False)
    again = add_licence(model=people.model, licence=same, must_accept=True)
    assert (again.asked, Event.objects.filter(kind="licence.demanded").count()) == (0, 1)


@pytest.mark.django_db
def test_those_who_accepted_the_text_with_their_request_owe_nothing(
    people: Any, make_person: Any, submit: Any
) -> None:
    GatedModel.objects.update(gate=Gate.AUTO)
    people.model.refresh_from_db()
    lena = make_person("lena")
    submit(lena, people.model)
    demand_licence(licence=current(people))
    assert code(people, lena) == AccessCode.GRANTED
    add_licence(model=people.model, licence=NEW, must_accept=True)
    assert code(people, lena) == AccessCode.LICENCE_OWED


@pytest.mark.django_db
def test_debt_passes_to_the_next_version_and_acceptance_of_either_pays_it(people: Any) -> None:
    demanded = add_licence(model=people.model, licence=NEW, must_accept=True).licence
    accept_licences(model=people.model, user=people.ada, shown=[demanded.pk])
    replace_licences(model=people.model, licences=[LicenceText("licence.txt", "en", "Be better!\n")])
    assert (code(people, people.ada), code(people, people.sam)) == (
        AccessCode.GRANTED,
        AccessCode.LICENCE_OWED,
    )
    with pytest.raises(Conflict, match="changed while you were reading it"):
        accept_licences(model=people.model, user=people.sam, shown=[demanded.pk])
    accept_licences(model=people.model, user=people.sam, shown=[current(people).pk])
    assert code(people, people.sam) == AccessCode.GRANTED


@pytest.mark.django_db
def test_retired_text_is_owed_no_more(people: Any) -> None:
    licence = add_licence(model=people.model, licence=NEW, must_accept=True).licence
    retire_licence(model=people.model, licence=licence)
    assert code(people, people.ada) == AccessCode.GRANTED
    with pytest.raises(Conflict, match="was retired"):
        demand_licence(licence=licence)


@pytest.mark.django_db
def test_acceptance_needs_agreement_a_grant_and_stays_when_given_twice(people: Any, make_person: Any) -> None:
    licence = add_licence(model=people.model, licence=NEW, must_accept=True).licence
    with pytest.raises(Invalid, match="Tick"):
        accept_licences(model=people.model, user=people.ada, shown=[licence.pk], agreed=False)
    for _ in range(2):
        accept_licences(model=people.model, user=people.ada, shown=[licence.pk])
    assert LicenceAcceptance.objects.filter(user=people.ada).count() == 1
    revoke_access(model=people.model, user=people.sam)
    for nobody in (people.sam, make_person("eve")):
        with pytest.raises(Conflict, match="nothing to agree to"):
            accept_licences(model=people.model, user=nobody, shown=[licence.pk])


@pytest.mark.django_db
def test_another_persons_acceptance_pays_nothing(people: Any) -> None:
    licence = add_licence(model=people.model, licence=NEW, must_accept=True).licence
    accept_licences(model=people.model, user=people.ada, shown=[licence.pk])
    assert code(people, people.sam) == AccessCode.LICENCE_OWED


@pytest.mark.django_db
def test_old_texts_of_one_name_do_not_pay_for_another(people: Any) -> None:
    terms = LicenceText("terms.txt", "en", "More.\n")
    first = add_licence(model=people.model, licence=NEW, must_accept=True).licence
    second = add_licence(model=people.model, licence=terms, must_accept=True).licence
    with pytest.raises(Conflict, match="changed while you were reading it"):
        accept_licences(model=people.model, user=people.ada, shown=[first.pk])
    assert len(accept_licences(model=people.model, user=people.ada, shown=[first.pk, second.pk])) == 2
    assert code(people, people.ada) == AccessCode.GRANTED


@pytest.mark.django_db(transaction=True)
def test_accepted_in_many_tabs_at_once_is_stored_once(people: Any) -> None:
    licence = add_licence(model=people.model, licence=NEW, must_accept=True).licence
    counts = all_at_once(
        4, lambda _: len(accept_licences(model=people.model, user=people.ada, shown=[licence.pk]))
    )
    assert sorted(counts) == [0, 0, 0, 1]
    assert Event.objects.filter(kind="licence.accepted").count() == 1
