"""Known facts about a person are filled into the form and saved from it."""

import pytest

from access_requests.cards import read_card
from access_requests.request_form.answers import country_code, known_values, missing_fields, profile_initial

TULU = read_card(
    "---\nextra_gated_fields:\n  First Name: text\n  Last Name: text\n  Institution: text\n"
    "  Country (where user is located): text\n  Intended Use: text\n  Previous Related Publications: text\n"
    "  I agree to the terms of the license: checkbox\n---\n"
).form
PROFILE = {
    "first_name": "Ada",
    "last_name": "Lovelace",
    "institution": "Example University",
    "country": "GB",
    "email": "ada@example.org",
}


def form_of(fields: str):
    return read_card(f"---\nextra_gated_fields:\n{fields}\n---\n").form


@pytest.mark.parametrize(
    ("written", "code"),
    [("DE", "DE"), ("de", "DE"), ("DEU", "DE"), ("Germany", "DE"), ("UK", "GB"), ("Atlantis", ""), ("", ""), (None, "")],
)  # fmt: skip
def test_country_is_known_by_code_and_name(written: object, code: str):
    assert country_code(written) == code


def test_profile_fills_the_tulu_form():
    assert profile_initial(TULU, PROFILE) == {
        "f1": "Ada",
        "f2": "Lovelace",
        "f3": "Example University",
        "f4": "GB",
    }


def test_profile_fills_a_full_name_and_an_email():
    form = form_of("  Name: text\n  Email: text\n  Website: text")

    assert profile_initial(form, PROFILE) == {"f1": "Ada Lovelace", "f2": "ada@example.org"}
    assert profile_initial(form, {"first_name": "Suharto"}) == {"f1": "Suharto"}
    assert profile_initial(form, {}) == {}


def test_profile_fills_a_country_that_is_a_select():
    form = form_of("  Country: {type: select, options: [France, {label: United Kingdom, value: uk}]}")

    assert profile_initial(form, PROFILE) == {"f1": "uk"}
    assert profile_initial(form, {"country": "JP"}) == {}


def test_known_values_have_the_portals_types():
    answers = {
        "f1": "Ada",
        "f2": "Lovelace",
        "f3": "x" * 400,
        "f4": "GB",
        "f5": "to learn",
        "f6": ["arXiv:2306.04751"],
        "f7": True,
    }
    assert known_values(TULU, answers) == {
        "first_name": "Ada",
        "last_name": "Lovelace",
        "full_name": "Ada Lovelace",
        "institution": "x" * 300,
        "country": "GB",
        "intended_use": "to learn",
        "publications": ["arXiv:2306.04751"],
        "licence": True,
    }


def test_known_values_of_no_answers_are_empty():
    assert known_values(TULU, {}) == {
        "first_name": "",
        "last_name": "",
        "full_name": "",
        "institution": "",
        "country": "",
        "intended_use": "",
        "publications": [],
        "licence": False,
    }
    assert known_values(form_of("  Website: text"), {"f1": "x"}) == {}


def test_known_values_read_selects():
    form = form_of(
        "  Country: {type: select, options: [{label: Germany, value: d}, Elsewhere]}\n"
        "  Use case: {type: select, options: [{label: Notes of meetings, value: m}]}"
    )

    assert known_values(form, {"f1": "d", "f2": "m"}) == {
        "country": "DE",
        "intended_use": "Notes of meetings",
    }
    assert known_values(form, {"f1": "Elsewhere", "f2": "?"}) == {"country": "", "intended_use": ""}


def test_licence_is_known_when_every_agreement_is_ticked():
    form = form_of("  I accept the licence: checkbox\n  I accept the terms of use: checkbox")

    assert known_values(form, {"f1": True, "f2": True}) == {"licence": True}
    assert known_values(form, {"f1": False, "f2": True}) == {"licence": False}
    assert known_values(form, {"f1": True, "f2": False}) == {"licence": False}


def test_missing_are_the_required_fields_without_an_answer():
    assert [field.key for field in missing_fields(TULU, {})] == ["f1", "f2", "f3", "f4", "f5", "f7"]
    assert [field.key for field in missing_fields(TULU, {"f2": "Suharto", "f7": False})] == [
        "f3",
        "f4",
        "f5",
        "f7",
    ]


def test_no_publications_said_as_such_are_an_answer():
    form = form_of("  Publications: {type: text, required: true}\n  geo: ip_location")

    assert [field.key for field in missing_fields(form, {})] == ["f1"]
    assert missing_fields(form, {"f1": []}) == []
