"""Answers to a card's form and what they tell the portal; without models, so forms and services share it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.utils.translation import gettext as _
from django_countries import countries

from access_requests.cards import GateField, GateForm
from access_requests.cards.countries import is_shut_out

# The longest text for each role that has a column.
ROLE_LIMITS = {"first_name": 200, "last_name": 200, "full_name": 200, "institution": 300, "email": 254}
KNOWN_ROLES = ("first_name", "last_name", "institution", "country", "intended_use", "publications")
_COMMON_CODES = {"UK": "GB", "EL": "GR"}


def country_code(text: object) -> str:
    """Return the ISO 3166 alpha-2 code for a code or an English country name; "" if it is neither."""
    written = str(getattr(text, "code", text) or "").strip()
    code = _COMMON_CODES.get(written.upper(), written.upper())
    return str(countries.alpha2(code) or countries.by_name(written) or "")


def eu_refusal(form: GateForm, country: str) -> str | None:
    """Return the sentence for a person in the EU if the card excludes the EU; `country` is ISO alpha-2."""
    if not is_shut_out(form, country):
        return None
    return _(
        "The owner does not offer this model in the European Union, so requests from there are refused; "
        "ask the owner if you work elsewhere."
    )


def has_single_name_rule(form: GateForm) -> bool:
    """Return whether the form asks for first and last name separately, and one of them is enough."""
    return bool(form.fields_for("first_name") and form.fields_for("last_name"))


def is_answered(answers: Mapping[str, Any], key: str) -> bool:
    """Return whether there is an answer; [] is one, and means that there are no publications."""
    return answers.get(key) not in (None, "", False)


def missing_fields(form: GateForm, answers: Mapping[str, Any]) -> list[GateField]:
    """Return the required fields without an answer; either first or last name is enough."""
    missing = [
        field
        for field in form.fields
        if field.required and field.type != "ip_location" and not is_answered(answers, field.key)
    ]
    if has_single_name_rule(form):
        names = [*form.fields_for("first_name"), *form.fields_for("last_name")]
        if any(is_answered(answers, field.key) for field in names):
            missing = [field for field in missing if field not in names]
    return missing


def known_values(form: GateForm, answers: Mapping[str, Any]) -> dict[str, Any]:
    """Return role -> value, in the portal's types, for the answers that the portal can search.

    Texts are cut to their column, the country is an ISO code or "", publications are a list, and the licence
    is true if every agreement is ticked. `full_name` is joined if the form asks for the names separately.
    """
    known: dict[str, Any] = {}
    for field in form.fields:
        value = answers.get(field.key)
        if field.role == "licence":
            known["licence"] = known.get("licence", True) and value is True
        elif field.role == "publications":
            known["publications"] = [str(item) for item in value] if isinstance(value, list) else []
        elif field.role:
            text = str(value or "")
            if field.type == "select":
                text = next((option.label for option in field.options if option.value == text), "")
            cut = text[: ROLE_LIMITS.get(field.role)]
            known[field.role] = country_code(text) if field.role == "country" else cut
    if has_single_name_rule(form):
        known.setdefault(
            "full_name", f"{known['first_name']} {known['last_name']}".strip()[: ROLE_LIMITS["full_name"]]
        )
    return known


def known_columns(form: GateForm, answers: Mapping[str, Any], profile: Mapping[str, str]) -> dict[str, Any]:
    """Return role -> value for the columns of a request: from the answers, or else, if the form did not ask, the profile."""
    known = known_values(form, answers)
    columns = dict[str, Any]()
    for role in KNOWN_ROLES:
        value = known.get(role)
        if value is None:
            value = profile.get(role)
        columns[role] = value or ([] if role == "publications" else "")
    if known.get("full_name") and not (known.get("first_name") or known.get("last_name")):
        columns |= {"first_name": known["full_name"], "last_name": ""}
    return columns


def profile_initial(form: GateForm, profile: Mapping[str, Any]) -> dict[str, Any]:
    """Return key -> answer for the fields whose role is in the profile, and nothing for the others."""
    known = {
        role: profile.get(role) for role in ("first_name", "last_name", "full_name", "institution", "email")
    }
    known["country"] = country_code(profile.get("country"))
    if not known["full_name"]:
        known["full_name"] = " ".join(str(known[role]) for role in ("first_name", "last_name") if known[role])
    values = dict[str, Any]()
    for field in form.fields:
        value = str(known.get(field.role) or "")
        if field.type == "select" and value:
            # A select gets its option for the same country.
            same = (
                option.value
                for option in field.options
                if field.role == "country"
                and value in {country_code(option.value), country_code(option.label)}
            )
            value = next(same, "")
        if value:
            values[field.key] = value
    return values


_TICKED = {"true": True, "on": True, "yes": True, "1": True, "": False, "false": False, "off": False, "no": False, "0": False}  # fmt: skip


def by_label(form: GateForm, answers: Mapping[str, Any], address: str = "") -> dict[str, Any]:
    """Return label -> answer as programs exchange them; `address` is what the portal recorded for an `ip_location`.

    Text is text, and so are publications (one per line, or "none"); a checkbox is true or false, a country
    its code, a select the option's value. `as_posted` accepts the same.
    """
    told = {field.label: answers[field.key] for field in form.fields if field.key in answers}
    told = {label: "\n".join(a) or "none" if isinstance(a, list) else a for label, a in told.items()}
    recorded = {field.label: address for field in form.fields if field.type == "ip_location" and address}
    return told | recorded


def as_posted(
    form: GateForm, given: Mapping[str, Any]
) -> tuple[dict[str, str], list[str], list[tuple[GateField, str]]]:
    """Return answers to labels by key, as a browser posts them; unknown labels; fields with a bad answer."""
    fields = {field.label.strip(): field for field in form.fields}
    posted: dict[str, str] = {}
    unknown, wrong = [], []
    for label, answer in given.items():
        field = fields.get(label.strip())
        if field is None:
            unknown.append(label)
        elif field.type != "ip_location" and answer is not None:
            try:
                posted[field.key] = _post_answer(field, answer)
            except ValueError as error:
                wrong.append((field, str(error)))
    return {key: text for key, text in posted.items() if text}, unknown, wrong


def _post_answer(field: GateField, answer: Any) -> str:
    """Return one answer as a browser posts it; raises ValueError if its type is wrong."""
    if field.type == "checkbox":
        ticked = answer if isinstance(answer, bool) else _TICKED.get(str(answer).strip().lower())
        if ticked is None:
            raise ValueError("This is a checkbox: answer true or false.")
        return "on" if ticked else ""
    if isinstance(answer, list) and all(isinstance(line, str) for line in answer):
        text = "\n".join(answer)
    elif isinstance(answer, bool) or not isinstance(answer, str | int | float):
        raise ValueError("This must be answered with text.")
    else:
        text = str(answer)
    if field.type == "country":
        return country_code(text) or text
    if field.type == "select" and text not in {option.value for option in field.options}:
        return next((option.value for option in field.options if option.label == text), text)
    return text
