"""Licences in several languages: which text binds, which one is shown, what is accepted and owed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import IntegrityError, transaction

from access_requests.access.access import access_of
from access_requests.access.standing import owed_licences
from access_requests.enums import AccessCode
from access_requests.errors import Conflict, Invalid
from access_requests.models import Event, LicenceAcceptance, LicenceVersion
from access_requests.services.catalogue.demand_licence import accept_licences, demand_licence
from access_requests.services.catalogue.edit import add_licence, retire_licence
from access_requests.services.catalogue.gated_models import LicenceText, replace_licences
from access_requests.services.catalogue.languages import (
    accepted_licences,
    bind_language,
    current_licences,
    licences_for_reader,
)
from access_requests.services.catalogue.roles import assign_role
from access_requests.services.event_log.verify import licence_problems
from access_requests.services.requests.decide import record_decision
from access_requests.services.requests.submit import start_request, submit_request
from tests.conftest import TULU_ANSWERS

pytestmark = pytest.mark.django_db
ENGLISH = LicenceText("LICENSE.txt", "en", "Be good.\n")
GERMAN = LicenceText("LICENSE.txt", "de", "Seid gut.\n")
CHINESE = LicenceText("LICENSE.txt", "zh-Hant", "善良。\n")
RULES = LicenceText("RULES.txt", "de", "Regeln.\n")


@pytest.fixture
def people(make_person: Callable[..., Any], make_model: Callable[..., Any]) -> Any:
    """Return ada, reviewer rita, and a model with LICENSE.txt in three languages and RULES.txt in German."""

    class People:
        ada, rita = make_person("ada"), make_person("rita")
        model = make_model(licences=[GERMAN, ENGLISH, CHINESE, RULES])

        @classmethod
        def text(cls, language: str, name: str = "LICENSE.txt") -> LicenceVersion:
            return cls.model.licence_versions.get(name=name, language=language, retired_at=None)

        @classmethod
        def submit(cls, *languages: str, request: Any = None, answers: Any = TULU_ANSWERS) -> Any:
            shown = [cls.text(language).pk for language in languages] + [cls.text("de", "RULES.txt").pk]
            return submit_request(
                request=request or start_request(model=cls.model, applicant=cls.ada),
                applicant=cls.ada,
                answers=answers,
                licences_shown=shown,
            )

    assign_role(model=People.model, user=People.rita, role="reviewer")
    return People


def binding(model: Any) -> dict[str, str]:
    current = model.licence_versions.filter(retired_at=None, binding=True)
    return dict(current.values_list("name", "language"))


def test_english_binds_unless_something_else_is_said(people: Any, make_model: Callable[..., Any]) -> None:
    assert binding(people.model) == {"LICENSE.txt": "en", "RULES.txt": "de"}
    first = make_model("ai/first", licences=[GERMAN, CHINESE])
    assert binding(first) == {"LICENSE.txt": "de"}
    said = LicenceText("LICENSE.txt", "zh-Hant", "善良。\n", binding=True)
    assert binding(make_model("ai/said", licences=[ENGLISH, said])) == {"LICENSE.txt": "zh-Hant"}
    with pytest.raises(Invalid, match="choose one language"):
        make_model("ai/both", licences=[said, LicenceText("LICENSE.txt", "en", "x", binding=True)])


def test_the_binding_language_stays(people: Any) -> None:
    bind_language(model=people.model, licence=people.text("de"))
    assert binding(people.model)["LICENSE.txt"] == "de"
    add_licence(model=people.model, licence=LicenceText("LICENSE.txt", "en", "Be better.\n"))
    add_licence(model=people.model, licence=LicenceText("LICENSE.txt", "fr", "Soyez bons.\n"))
    assert binding(people.model)["LICENSE.txt"] == "de"
    add_licence(model=people.model, licence=LicenceText("LICENSE.txt", "de", "Seid besser.\n"))
    assert binding(people.model)["LICENSE.txt"] == "de"


def test_another_language_is_made_binding(people: Any) -> None:
    english, german, chinese = (people.text(language) for language in ("en", "de", "zh-Hant"))
    assert not bind_language(model=people.model, licence=english)
    assert bind_language(model=people.model, licence=german)
    english.refresh_from_db()
    german.refresh_from_db()
    assert (english.binding, german.binding) == (True, False)  # what was accepted stays as it was
    assert english.retired_at is not None
    assert german.retired_at is not None
    assert people.text("zh-Hant") == chinese
    assert binding(people.model)["LICENSE.txt"] == "de"
    with pytest.raises(Conflict, match="already been retired"):
        bind_language(model=people.model, licence=german)


def test_the_binding_text_is_retired_last(people: Any) -> None:
    with pytest.raises(Conflict, match="make another language binding first"):
        retire_licence(model=people.model, licence=people.text("en"))
    retire_licence(model=people.model, licence=people.text("de"))
    retire_licence(model=people.model, licence=people.text("zh-Hant"))
    retire_licence(model=people.model, licence=people.text("en"))
    assert [one.name for one in current_licences(people.model)] == ["RULES.txt"]


@pytest.mark.parametrize(
    ("header", "shown"),
    [
        ("", ["en", "de"]),
        ("de", ["de", "de"]),
        ("de-AT,de;q=0.9", ["de", "de"]),
        ("fr, zh;q=0.8, de;q=0.5", ["zh-Hant", "de"]),
        ("zh-Hant-TW", ["zh-Hant", "de"]),
        ("zh-Hans", ["en", "de"]),
        ("fr", ["en", "de"]),
        ("*", ["en", "de"]),
        ("en;q=0, de", ["de", "de"]),
        ("d", ["en", "de"]),
        ("de\0;;q=x," * 1000, ["en", "de"]),
        ("nonsense \u00e9", ["en", "de"]),
    ],
)
def test_each_licence_is_shown_once_in_the_readers_language(
    people: Any, header: str, shown: list[str]
) -> None:
    found = licences_for_reader(people.model, header)
    assert [one.text.language for one in found] == shown
    assert [one.binding.language for one in found] == ["en", "de"]
    assert all(one.text not in one.others for one in found)


def test_an_acceptance_has_both_digests(people: Any) -> None:
    request = people.submit("de")
    english, german, rules = people.text("en"), people.text("de"), people.text("de", "RULES.txt")
    rows = LicenceAcceptance.objects.filter(request=request).order_by("licence__name")
    assert [(one.licence, one.language, one.sha256, one.binding, one.binding_sha256) for one in rows] == [
        (german, "de", german.sha256, english, english.sha256),
        (rules, "de", rules.sha256, rules, rules.sha256),
    ]
    facts = Event.objects.get(kind="request.submitted").facts
    assert set(facts["licences"]) == {german.sha256, rules.sha256}
    assert set(facts["binding"]) == {english.sha256, rules.sha256}
    assert licence_problems() == []


def test_a_licence_is_accepted_once_for_each_binding_text(people: Any) -> None:
    request = people.submit("de")
    add_licence(model=people.model, licence=LicenceText("LICENSE.txt", "zh-Hant", "善良！\n"))
    people.submit("zh-Hant", request=request, answers={**TULU_ANSWERS, "f5": "Only to reproduce MMLU."})
    assert LicenceAcceptance.objects.filter(request=request).count() == 2
    add_licence(model=people.model, licence=LicenceText("LICENSE.txt", "en", "Be better.\n"))
    people.submit("de", request=request, answers={**TULU_ANSWERS, "f5": "Only to reproduce BBH."})
    accepted = LicenceAcceptance.objects.filter(request=request, licence__name="LICENSE.txt").order_by("pk")
    assert [(one.language, one.binding.text) for one in accepted] == [
        ("de", "Be good.\n"),
        ("de", "Be better.\n"),
    ]


def test_a_licence_that_was_not_shown_is_not_accepted(people: Any) -> None:
    old = people.text("de").pk
    add_licence(model=people.model, licence=LicenceText("LICENSE.txt", "de", "Seid besser.\n"))
    licences = current_licences(people.model)
    for shown in ([], [old, people.text("de", "RULES.txt").pk], [people.text("en").pk]):
        with pytest.raises(Conflict, match="The licence changed"):
            accepted_licences(licences, shown)


def test_only_the_binding_text_is_owed(people: Any) -> None:
    request = people.submit("de")
    record_decision(request=request, reviewer=people.rita, outcome="approved")
    grant = people.ada.grants.get()
    with pytest.raises(Conflict, match="is a translation"):
        demand_licence(licence=people.text("de"))
    with pytest.raises(Conflict, match="is a translation"):
        add_licence(
            model=people.model, licence=LicenceText("LICENSE.txt", "fr", "Soyez bons.\n"), must_accept=True
        )
    added = add_licence(
        model=people.model, licence=LicenceText("LICENSE.txt", "en", "Be better.\n"), must_accept=True
    )
    assert added.asked == 1
    assert access_of(people.ada, people.model).code == AccessCode.LICENCE_OWED
    assert owed_licences(grant) == [people.text("en")]
    accept_licences(model=people.model, user=people.ada, shown=[people.text("de").pk])
    assert access_of(people.ada, people.model).code == AccessCode.GRANTED
    late = LicenceAcceptance.objects.get(request=None)
    assert (late.language, late.binding) == ("de", people.text("en"))

    # New translations are owed by nobody, and neither is the same text in another binding language.
    add_licence(model=people.model, licence=LicenceText("LICENSE.txt", "de", "Seid noch besser.\n"))
    bind_language(model=people.model, licence=people.text("de"))
    assert access_of(people.ada, people.model).code == AccessCode.GRANTED
    assert demand_licence(licence=people.text("de")) == 1
    assert access_of(people.ada, people.model).code == AccessCode.LICENCE_OWED


def test_the_database_allows_one_binding_text(people: Any) -> None:
    english = people.text("en")
    with pytest.raises(IntegrityError, match="one_binding_language_per_licence"), transaction.atomic():
        LicenceVersion.objects.create(
            model=people.model, name="LICENSE.txt", language="fr", text="x", sha256=english.sha256
        )


def test_a_changed_binding_text_is_found(people: Any, as_owner: Any) -> None:
    people.submit("de")
    assert licence_problems() == []
    as_owner.execute("SET session_replication_role = replica")
    table = "access_requests_licenceacceptance"
    for change in (
        "binding_sha256 = repeat('0', 64)",
        f"binding_id = {people.text('de').pk}",
    ):
        as_owner.execute(f"UPDATE {table} SET {change} WHERE licence_id = {people.text('de').pk}")
        assert len(licence_problems()) == 1, change
        as_owner.execute(
            f"UPDATE {table} SET binding_id = {people.text('en').pk}, binding_sha256 = %s "
            f"WHERE licence_id = {people.text('de').pk}",
            [people.text("en").sha256],
        )
        assert licence_problems() == []
    as_owner.execute("SET session_replication_role = origin")


def test_binding_cannot_be_changed_in_a_version(people: Any, as_owner: Any) -> None:
    with pytest.raises(Exception, match="immutable"):
        as_owner.execute(
            f"UPDATE access_requests_licenceversion SET binding = false WHERE id = {people.text('en').pk}"
        )


def test_all_texts_replaced_keep_the_binding_language(people: Any) -> None:
    bind_language(model=people.model, licence=people.text("zh-Hant"))
    replace_licences(model=people.model, licences=[ENGLISH, CHINESE, RULES])
    assert binding(people.model) == {"LICENSE.txt": "zh-Hant", "RULES.txt": "de"}
    replace_licences(model=people.model, licences=[ENGLISH, RULES])
    assert binding(people.model) == {"LICENSE.txt": "en", "RULES.txt": "de"}
