"""The form that an applicant fills in, built from a stored `GateForm`.

Inputs are named by the fields' keys (`f1`, `f2`, …), never by labels. Names may be in any script; a person
with one name fills in either field. A draft accepts whatever was typed, except text that cannot be stored.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from django import forms
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import Truncator
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django_countries import countries

from access_requests.cards import GateField, GateForm
from access_requests.rendering.texts import GateTexts
from access_requests.request_form.answers import (
    ROLE_LIMITS,
    country_code,
    eu_refusal,
    has_single_name_rule,
)
from access_requests.request_form.fields import (
    CountryInput,
    DateInput,
    DraftInput,
    EmailInput,
    LineInput,
    PublicationsInput,
    SelectInput,
    TextInput,
    TickInput,
)

LONG_LABEL = 60
AUTOCOMPLETE = {
    "first_name": "given-name",
    "last_name": "family-name",
    "full_name": "name",
    "institution": "organization",
    "country": "country",
    "email": "email",
}
SINGLE_NAME = gettext_lazy(
    "If you have a single name, enter it in one of the two fields and leave the other empty."
)
NO_NAME = gettext_lazy("Enter your name. If you have a single name, use either field.")


@dataclass(frozen=True)
class FormRow:
    """What a template needs to show one field."""

    bound: forms.BoundField
    label: SafeString
    required: bool
    is_check: bool


class RequestForm(forms.Form):
    """The answers of one request; `cleaned_answers` are what is stored."""

    # The page's own summary lists all missing answers at once; a browser would stop at the first.
    use_required_attribute = False

    def __init__(self, gate: GateForm, *, texts: GateTexts, draft: bool = False, **options: Any) -> None:
        self.gate = gate
        self.texts = texts
        self.draft = draft
        super().__init__(**options)
        for field in gate.fields:
            if field.type != "ip_location":
                self.fields[field.key] = _make_input(field, gate, texts, draft)

    def clean(self) -> dict[str, Any]:
        """Check rules across fields: one of two names, and the card's rule about the European Union."""
        cleaned = super().clean() or self.cleaned_data
        if self.draft:
            return cleaned
        if has_single_name_rule(self.gate):
            # Ask for a name unless one of the two is there or was already refused.
            names = [*self.gate.fields_for("first_name"), *self.gate.fields_for("last_name")]
            keys = [field.key for field in names if field.required]
            if keys and not any(field.key in self.errors or cleaned.get(field.key) for field in names):
                self.add_error(keys[0], NO_NAME)
        for field in self.gate.fields_for("country"):
            if refusal := eu_refusal(self.gate, country_code(cleaned.get(field.key))):
                self.add_error(field.key, refusal)
        return cleaned

    def cleaned_answers(self) -> dict[str, Any]:
        """Return key -> answer as JSON data; fields with an error are left out, so a draft keeps the others."""
        self.errors  # noqa: B018 - reading it runs the checks
        answers = {
            key: value.isoformat() if isinstance(value, date) else value
            for key, value in self.cleaned_data.items()
        }
        return {key: value for key, value in answers.items() if value is not None}

    def rows(self) -> Iterator[FormRow]:
        """Yield the fields in the card's order, with labels as safe HTML."""
        for field in self.gate.fields:
            if field.key in self.fields:
                label = self.texts.label(field.key)
                yield FormRow(self[field.key], label, field.required, field.type == "checkbox")

    def recorded(self) -> list[str]:
        """Return the labels of what the portal records by itself, so that the page can inform the person."""
        return [
            self.texts.words.get(field.key, "") for field in self.gate.fields if field.type == "ip_location"
        ]


def build_request_form(
    form: GateForm,
    *,
    texts: GateTexts,
    initial: Mapping[str, Any] | None = None,
    data: Mapping[str, Any] | None = None,
    draft: bool = False,
) -> RequestForm:
    """Return the form for these fields, with their stored `texts` (`services.catalogue.rendered_texts.gate_texts_of`).

    `initial` are answers as stored, `data` is what was posted.

    With `draft` nothing counts as missing or invalid, so that an unfinished form can always be saved.
    """
    answers, shown = initial or {}, dict[str, Any]()
    for field in form.fields:
        if field.key not in answers:
            continue
        answer = answers[field.key]
        if field.type == "checkbox":
            shown[field.key] = answer is True
        elif isinstance(answer, list):
            shown[field.key] = "\n".join(str(item) for item in answer) or "none"
        elif field.type == "country":
            shown[field.key] = country_code(answer)
        else:
            shown[field.key] = "" if answer is None else str(answer)
    return RequestForm(form, texts=texts, draft=draft, initial=shown, data=data)


def _make_input(field: GateField, gate: GateForm, texts: GateTexts, draft: bool) -> forms.Field:
    """Return the Django field for one field of the card, with label, description and autocomplete."""
    spared = has_single_name_rule(gate) and field.role in {"first_name", "last_name"}
    made = _input_of_type(field, draft)
    made.required = field.required and not draft and not spared
    made.label = Truncator(texts.words.get(field.key, "")).chars(80)
    hint = SINGLE_NAME if spared and field.role == "last_name" else ""
    told = texts.help(field.key)
    made.help_text = format_html("{} {}", told, hint) if told and hint else told or hint
    made.widget.is_required = made.required
    if field.required and not spared:
        made.widget.attrs["aria-required"] = "true"
    if autocomplete := AUTOCOMPLETE.get(field.role):
        made.widget.attrs["autocomplete"] = autocomplete
    return made


def _input_of_type(field: GateField, draft: bool) -> forms.Field:
    if field.type == "checkbox":
        return TickInput()
    if field.type == "country":
        return CountryInput(choices=[("", _("Choose a country")), *countries], draft=draft)
    if field.type == "select":
        options = [(option.value, option.label) for option in field.options]
        return SelectInput(choices=[("", _("Choose one")), *options], draft=draft)
    if field.type == "date_picker":
        return DraftInput(DateInput.widget) if draft else DateInput()
    if field.role == "publications":
        return PublicationsInput(draft=draft)
    if field.role == "email":
        return EmailInput(max_length=ROLE_LIMITS["email"], draft=draft)
    label = field.label.rstrip()
    is_long_question = not field.role and (len(label) > LONG_LABEL or label[-1:] in "?？")
    if field.role == "intended_use" or is_long_question:
        return TextInput()
    return LineInput(max_length=ROLE_LIMITS.get(field.role, LineInput.longest))
