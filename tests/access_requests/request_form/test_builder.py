"""The form that an applicant fills in: what it accepts, what it reports, how it is shown."""

import json

import pytest
from django.forms import Select
from django.template.loader import render_to_string
from django.test.html import parse_html
from hypothesis import given, settings
from hypothesis import strategies as st

from access_requests.cards import GateForm, read_card, with_required
from access_requests.rendering.texts import render_gate
from access_requests.request_form import builder
from access_requests.request_form.answers import eu_refusal
from access_requests.request_form.fields import SelectInput

TULU = """
  First Name: text
  Last Name: text
  Institution: text
  Country (where user is located): text
  Intended Use: text
  Previous Related Publications: text
  I agree to the terms of the license: checkbox
"""
ALL = """
  Name: text
  Email: text
  Date of birth: date_picker
  Country: country
  Job title: {type: select, options: [Student, {label: Other, value: other}]}
  geo: ip_location
  What do you want to find out?: {type: text, description: "A **few** lines"}
  Email me news: checkbox
  I accept the licence: checkbox
"""
GOOD = {
    "f1": "Ada",
    "f2": "Lovelace",
    "f3": "Example University",
    "f4": "GB",
    "f5": "To learn.\r\nAnd to teach.",
    "f6": "https://arxiv.org/abs/2306.04751\n10.1000/xyz123",
    "f7": "on",
}
GOOD_ALL = {
    "f1": "Ada",
    "f2": "ada@example.org",
    "f3": "1999-12-31",
    "f4": "JP",
    "f5": "other",
    "f7": "x",
    "f9": "on",
}


def gate(fields: str, more: str = "") -> GateForm:
    return read_card(f"---\n{more}\nextra_gated_fields:\n{fields.strip(chr(10))}\n---\n").form


def build_request_form(form: GateForm, **options):
    return builder.build_request_form(form, texts=render_gate(form), **options)


def errors(form) -> dict[str, list[str]]:
    return {key: list(messages) for key, messages in form.errors.items()}


def test_tulu_answers_are_json():
    form = build_request_form(gate(TULU), initial={}, data=GOOD)

    assert errors(form) == {}
    assert form.cleaned_answers() == {
        "f1": "Ada",
        "f2": "Lovelace",
        "f3": "Example University",
        "f4": "GB",
        "f5": "To learn.\nAnd to teach.",
        "f6": ["arXiv:2306.04751", "10.1000/xyz123"],
        "f7": True,
    }


def test_every_type_is_answered():
    form = build_request_form(gate(ALL), initial={}, data=GOOD_ALL)

    assert errors(form) == {}
    assert form.cleaned_answers() == {**GOOD_ALL, "f8": False, "f9": True}
    assert list(form.fields) == ["f1", "f2", "f3", "f4", "f5", "f7", "f8", "f9"]


def test_empty_form_says_what_is_missing():
    empty = "This field is required: fill it in."
    assert errors(build_request_form(gate(TULU), initial={}, data={})) == {
        "f1": ["Enter your name. If you have a single name, use either field."],
        "f3": [empty],
        "f4": [empty],
        "f5": [empty],
        "f7": ["You must agree to this before you can submit the request: tick it."],
    }
    assert list(errors(build_request_form(gate(ALL), initial={}, data={}))) == [
        "f1",
        "f2",
        "f3",
        "f4",
        "f5",
        "f7",
        "f9",
    ]


@pytest.mark.parametrize(
    "names", [("Suharto", ""), ("", "Suharto"), ("李", "小龍"), ("Ng", "O"), ("José-María ʻOkina", "d'Ü 3rd")]
)
def test_names_are_taken_in_any_script_and_single(names: tuple[str, str]):
    form = build_request_form(gate(TULU), initial={}, data={**GOOD, "f1": names[0], "f2": names[1]})

    assert errors(form) == {}
    assert (form.cleaned_answers()["f1"], form.cleaned_answers()["f2"]) == names


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("f1", "A\0da", "This contains a character that cannot be stored: type the text again."),
        ("f1", "A\ud800", "This contains a character that cannot be stored: type the text again."),
        ("f1", "x" * 201, "This has 201 characters, but at most 200 are allowed: shorten it."),
        ("f7", "x" * 1001, "This has 1001 characters, but at most 10000 are allowed: shorten it."),
        ("f7", "x" * 10_001, "This has 10001 characters, but at most 10000 are allowed: shorten it."),
        ("f2", "ada", "This is not an email address: write it like name@example.org."),
        ("f2", "a@b.c, d@e.f", "This is not an email address: write it like name@example.org."),
        (
            "f3",
            "31.12.1999",
            "This is not a valid date: write it as YYYY-MM-DD, such as 2024-01-31.",
        ),
        (
            "f3",
            "1999-02-30",
            "This is not a valid date: write it as YYYY-MM-DD, such as 2024-01-31.",
        ),
        ("f3", "1999\0", "This is not a valid date: write it as YYYY-MM-DD, such as 2024-01-31."),
        ("f4", "XX", "This country is not in the list: choose one from it."),
        ("f4", "Japan", "This country is not in the list: choose one from it."),
        ("f5", "Other", "This is not one of the options: choose one."),
        ("f5", "\0", "This is not one of the options: choose one."),
    ],
)
def test_bad_answer_is_told_in_one_sentence(key: str, value: str, sentence: str):
    form = build_request_form(gate(ALL), initial={}, data={**GOOD_ALL, key: value})

    assert errors(form) == ({key: [sentence]} if sentence[9:13] != "1001" else {})
    assert json.dumps(form.cleaned_answers())


def test_each_bad_publication_is_named():
    form = build_request_form(gate(TULU), initial={}, data={**GOOD, "f6": "a book\n10.1000/x\nanother"})

    assert [sentence[:20] for sentence in errors(form)["f6"]] == [
        "Line 1, “a book”, is",
        "Line 3, “another”, i",
    ]
    assert "f6" not in form.cleaned_answers()


@pytest.mark.parametrize(("written", "kept"), [("none", []), ("N/A", [])])
def test_no_publications_are_an_answer(written: str, kept: list[str]):
    required = with_required(gate(TULU), "f6", True)
    form = build_request_form(required, initial={}, data={**GOOD, "f6": written})

    assert form.cleaned_answers()["f6"] == kept
    assert build_request_form(required, initial=form.cleaned_answers())["f6"].value() == "none"


def test_publications_left_empty_are_no_answer():
    form = build_request_form(gate(TULU), initial={}, data={**GOOD, "f6": "  "})

    assert errors(form) == {}
    assert "f6" not in form.cleaned_answers()
    required = build_request_form(with_required(gate(TULU), "f6", True), initial={}, data={**GOOD, "f6": ""})
    assert errors(required) == {"f6": ["This field is required: list your publications, or write none."]}


def test_line_end_in_a_name_becomes_a_blank():
    form = build_request_form(gate(TULU), initial={}, data={**GOOD, "f1": "Ada\r\nBcc: x@example.org"})

    assert form.cleaned_answers()["f1"] == "Ada Bcc: x@example.org"


def test_draft_is_saved_with_nothing_or_anything_in_it():
    assert errors(build_request_form(gate(ALL), initial={}, data={}, draft=True)) == {}
    half = {"f1": "A", "f2": "ada@", "f3": "1999-", "f4": "XX", "f5": "none of these", "f7": "?"}
    form = build_request_form(gate(ALL), initial={}, data=half, draft=True)

    assert errors(form) == {}
    assert form.cleaned_answers() == {**half, "f4": "", "f5": "", "f8": False, "f9": False}


def test_draft_keeps_unchecked_publications_and_shows_them_again():
    draft = build_request_form(gate(TULU), initial={}, data={"f6": "a book\r\n\r\n10.1000/x"}, draft=True)

    assert draft.cleaned_answers()["f6"] == ["a book", "10.1000/x"]
    again = build_request_form(gate(TULU), initial=draft.cleaned_answers())
    assert again["f6"].value() == "a book\n10.1000/x"


def test_draft_keeps_the_rest_when_one_answer_cannot_be_stored():
    form = build_request_form(gate(TULU), initial={}, data={**GOOD, "f1": "\0"}, draft=True)

    assert list(errors(form)) == ["f1"]
    assert list(form.cleaned_answers()) == ["f2", "f3", "f4", "f5", "f6", "f7"]


def test_stored_answers_are_shown_again():
    answers = build_request_form(gate(ALL), initial={}, data=GOOD_ALL).cleaned_answers()
    again = build_request_form(gate(ALL), initial=answers)

    assert {key: again[key].value() for key in answers} == answers


def test_country_once_written_as_text_is_shown_as_a_choice():
    assert build_request_form(gate(TULU), initial={"f4": "Germany"})["f4"].value() == "DE"


def test_person_in_the_union_is_refused_where_the_card_says_so():
    form = gate(TULU, "extra_gated_eu_disallowed: true")
    sentence = eu_refusal(form, "FR")

    assert errors(build_request_form(form, initial={}, data={**GOOD, "f4": "FR"})) == {"f4": [sentence]}
    assert errors(build_request_form(form, initial={}, data={**GOOD, "f4": "FR"}, draft=True)) == {}
    assert errors(build_request_form(form, initial={}, data=GOOD)) == {}


def test_form_without_fields_is_answered_by_its_button():
    form = build_request_form(GateForm(button="I agree"), initial={}, data={})

    assert form.is_valid()
    assert form.cleaned_answers() == {}


def page(form) -> str:
    return render_to_string("access_requests/_form_fields.html", {"form": form})


def test_page_ties_label_help_error_and_input():
    html = page(build_request_form(gate(ALL), initial={}, data={}))

    assert '<a href="#id_f7">What do you want to find out?</a>: This field is required' in html
    assert '<label for="id_f7">' in html
    assert 'id="id_f7_helptext">A <strong>few</strong> lines</div>' in html
    assert 'id="id_f7_error"' in html
    assert 'aria-describedby="id_f7_helptext id_f7_error"' in html
    assert html.count('aria-required="true"') == 7
    assert html.count('<span class="optional">optional</span>') == 1
    assert "<bdi>geo</bdi>" in html
    assert 'name="geo"' not in html


def test_page_tells_the_browser_what_each_role_is():
    html = page(build_request_form(gate(TULU), initial={}))

    for name in ("given-name", "family-name", "organization", "country"):
        assert f'autocomplete="{name}"' in html
    assert 'class="error-summary"' not in html
    assert '<textarea name="f5"' in html
    assert "If you have a single name" in html
    assert 'type="date"' in page(build_request_form(gate(ALL), initial={"f3": "2024-01-31"}))
    assert 'value="2024-01-31"' in page(build_request_form(gate(ALL), initial={"f3": "2024-01-31"}))


def test_page_escapes_what_owner_and_applicant_wrote():
    fields = (
        "  'I **agree** to <script>alert(1)</script> [this](javascript:x)': checkbox\n"
        "  Job: {type: select, options: ['<script>alert(2)</script>'], description: '<script>alert(3)</script>'}\n"
        "  '\"><script>alert(4)</script>': text"
    )
    html = page(
        build_request_form(
            gate(fields), initial={}, data={"f3": '"><script>alert(5)</script>', "f2": "<script>"}
        )
    )

    assert "<script" not in html
    assert "<strong>agree</strong>" in html
    assert 'href="javascript:' not in html


@settings(deadline=None, max_examples=150)
@given(st.dictionaries(st.sampled_from([f"f{n}" for n in range(1, 10)]), st.text()), st.booleans())
def test_any_post_is_answered(data: dict[str, str], draft: bool):
    form = build_request_form(gate(ALL), initial={}, data=data, draft=draft)

    json.dumps(form.cleaned_answers()).encode()
    assert all(sentence.endswith(".") for messages in errors(form).values() for sentence in messages)


@pytest.mark.parametrize("value", ["", "a", "<b>", 'c"', None, "nothing of these"])
def test_options_are_those_of_djangos_own_widget(value: str | None) -> None:
    choices = [("", "Choose one"), ("a", "A & B"), ("<b>", "<script>"), ('c"', 'C"')]
    attributes = {"id": "id_x", "required": True, "disabled": False, "class": '"><script>'}
    ours = SelectInput(choices=choices, draft=False).widget.render("x", value, attributes)
    assert parse_html(ours) == parse_html(Select(choices=choices).render("x", value, attributes))
