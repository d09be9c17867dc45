"""The form as data, and an owner's changes to it."""

import json

import pytest

from access_requests.cards import (
    FormChangeRefused,
    GateForm,
    keep_choices,
    read_card,
    with_required,
    with_role,
)

CARD = """---
extra_gated_heading: Ask
extra_gated_fields:
  First Name: text
  Country: text
  Origin: text
  Job: {type: select, options: [{label: A, value: a}, B]}
  I do as I am told: checkbox
  I accept the licence: checkbox
  geo: ip_location
---
"""


def form() -> GateForm:
    return read_card(CARD).form


def roles(changed: GateForm) -> list[tuple[str, str]]:
    return [(field.role, field.type) for field in changed.fields]


def test_form_survives_json():
    assert GateForm.from_json(json.loads(json.dumps(form().to_json()))) == form()
    assert GateForm.from_json({}) == GateForm()


@pytest.mark.parametrize(
    "data",
    [
        {"fields": [{"key": "f1"}]},
        {"fields": [{"key": "f1", "label": "A", "type": "file"}]},
        {"fields": [{"key": "f1", "label": "A", "type": "text", "role": "king"}]},
        {"fields": [{"key": "f1", "label": "A", "type": "text"}] * 2},
        {"fields": [7]},
        {"colour": "red"},
        [],
    ],
)
def test_json_that_is_no_form_is_refused(data):
    with pytest.raises(ValueError, match="stored form"):
        GateForm.from_json(data)


def test_plan_says_how_each_field_was_read():
    assert form().describe() == [
        "f1 “First Name”: text, required, read as first_name",
        "f2 “Country”: country (the card says text), required, read as country",
        "f3 “Origin”: text, required, kept as it is",
        "f4 “Job”: select, 2 options, required, kept as it is",
        "f5 “I do as I am told”: checkbox, required, kept as it is",
        "f6 “I accept the licence”: checkbox, required, read as licence",
        "f7 “geo”: ip_location, recorded by the portal, no input, kept as it is",
    ]


def test_plan_of_a_form_without_fields_says_so():
    described = read_card("---\nextra_gated_eu_disallowed: true\n---\n").form.describe()

    assert described == [
        "no fields: the button is the whole form",
        "requests from the European Union are refused",
    ]


def test_role_of_one_holder_moves():
    changed = with_role(form(), "f3", "country")

    assert roles(changed)[1:3] == [("", "text"), ("country", "country")]
    assert roles(with_role(changed, "f3", ""))[1:3] == [("", "text"), ("", "text")]


def test_licence_can_be_several_and_becomes_required():
    changed = with_role(with_required(form(), "f5", False), "f5", "licence")

    assert [field.key for field in changed.fields_for("licence")] == ["f5", "f6"]
    assert changed.field("f5").required


def test_owner_may_make_a_field_optional():
    assert not with_required(form(), "f3", False).field("f3").required
    assert form().field("f3").required


@pytest.mark.parametrize(
    ("key", "role"), [("f1", "king"), ("f5", "email"), ("f3", "licence"), ("f4", "first_name"), ("f9", "email"), ("f7", "country")]
)  # fmt: skip
def test_role_that_does_not_fit_is_refused(key: str, role: str):
    with pytest.raises(FormChangeRefused):
        with_role(form(), key, role)


@pytest.mark.parametrize(("key", "required"), [("f6", False), ("f7", True), ("f9", True)])
def test_requirement_that_makes_no_sense_is_refused(key: str, required: bool):
    with pytest.raises(FormChangeRefused):
        with_required(form(), key, required)


def test_choices_of_the_owner_outlive_a_new_card():
    chosen = with_required(with_role(form(), "f5", "licence"), "f3", False)
    fresh = read_card(CARD.replace("  First Name: text\n", "")).form

    kept = keep_choices(fresh, read_before=form(), chosen=chosen)

    assert [(field.label, field.role, field.required) for field in kept.fields] == [
        ("Country", "country", True),
        ("Origin", "", False),
        ("Job", "", True),
        ("I do as I am told", "licence", True),
        ("I accept the licence", "licence", True),
        ("geo", "", False),
    ]


def test_choice_for_a_field_that_changed_type_is_dropped():
    chosen = with_role(form(), "f5", "licence")
    fresh = read_card(CARD.replace("told: checkbox", "told: text")).form

    assert keep_choices(fresh, read_before=form(), chosen=chosen) == fresh
