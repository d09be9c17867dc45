"""The gate form as data: what a card asks for, stored as JSON and carried by each request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

FIELD_TYPES = ("text", "checkbox", "date_picker", "country", "select", "ip_location")

# What the portal knows about a person or a request -> the types of field that a card may use to ask for it.
ROLE_TYPES: dict[str, tuple[str, ...]] = {
    "first_name": ("text",),
    "last_name": ("text",),
    "full_name": ("text",),
    "institution": ("text",),
    "country": ("text", "country", "select"),
    "email": ("text",),
    "intended_use": ("text", "select"),
    "publications": ("text",),
    "licence": ("checkbox",),
}
ROLES = ("", *ROLE_TYPES)


class FormChangeRefused(ValueError):
    """An owner's change to a form makes no sense; the message is a sentence for the owner."""


@dataclass(frozen=True)
class Option:
    """One choice of a select: `value` is stored, `label` is shown."""

    value: str
    label: str


@dataclass(frozen=True)
class GateField:
    """One field: `key` names the input, `declared` is the card's type, `type` the portal's."""

    key: str
    label: str
    type: str
    role: str = ""
    required: bool = True
    description: str = ""
    options: tuple[Option, ...] = ()
    declared: str = ""

    def describe(self) -> str:
        """Return one line saying how the field was read."""
        parts = [self.type if self.type == self.declared else f"{self.type} (the card says {self.declared})"]
        if self.options:
            parts.append(f"{len(self.options)} options")
        if self.type == "ip_location":
            parts.append("recorded by the portal, no input")
        else:
            parts.append("required" if self.required else "optional")
        parts.append(f"read as {self.role}" if self.role else "kept as it is")
        return f"{self.key} “{self.label}”: " + ", ".join(parts)


@dataclass(frozen=True)
class GateForm:
    """Everything the `extra_gated_*` keys say; a form without fields is just a button."""

    heading: str = ""
    description: str = ""
    prompt: str = ""
    button: str = ""
    eu_disallowed: bool = False
    fields: tuple[GateField, ...] = ()

    def field(self, key: str) -> GateField:
        """Return the field with that key; raises FormChangeRefused if there is none."""
        for field in self.fields:
            if field.key == key:
                return field
        known = ", ".join(field.key for field in self.fields) or "none"
        raise FormChangeRefused(f"The form has no field {key!r}; its fields are: {known}.")

    def fields_for(self, role: str) -> tuple[GateField, ...]:
        """Return the fields with this role; only the licence role can have several."""
        return tuple(field for field in self.fields if field.role == role)

    def describe(self) -> list[str]:
        """Return lines that tell an owner how the card was read."""
        lines = [field.describe() for field in self.fields]
        if not lines:
            lines.append("no fields: the button is the whole form")
        if self.fields and not self.fields_for("licence"):
            lines.append("no field was read as the licence agreement")
        if self.eu_disallowed:
            lines.append("requests from the European Union are refused")
        return lines

    def to_json(self) -> dict[str, Any]:
        """Return the form as JSON data, from which `from_json` makes an equal form."""
        data = asdict(self)
        data["fields"] = [{**field, "options": list(field["options"])} for field in data["fields"]]
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> GateForm:
        """Return the form from what `to_json` returned; raises ValueError if the data is not a form."""
        try:
            fields = []
            for stored in data.get("fields", ()):
                options = tuple(Option(**option) for option in stored.get("options", ()))
                field = GateField(**{**stored, "options": options})
                if field.type not in FIELD_TYPES or field.role not in ROLES:
                    raise ValueError(
                        f"The stored form has a field with an unknown type {field.type!r} or role {field.role!r}."
                    )
                fields.append(field)
            form = cls(**{**data, "fields": tuple(fields)})
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError(
                f"The stored form cannot be read ({error}); save the card again to rebuild it."
            ) from None
        if len({field.key for field in fields}) < len(fields):
            raise ValueError("The stored form names two fields alike; read the card again.")
        return form


def with_role(form: GateForm, key: str, role: str) -> GateForm:
    """Return the form with an owner's choice of role for one field; "" removes its role.

    A text field that gets the country role becomes a country field, and a text field again when it loses the
    role. Only the licence role can belong to several fields; any other is taken from the field that had it.
    The licence agreement is always required.
    """
    field = form.field(key)
    if role not in ROLES:
        known = ", ".join(ROLE_TYPES)
        raise FormChangeRefused(f"There is no role {role!r}; choose one of {known}, or none.")
    if role and (field.declared or field.type) not in ROLE_TYPES[role]:
        fitting = " or ".join(ROLE_TYPES[role])
        raise FormChangeRefused(f"A field read as {role} must be {fitting}, and {key} is {field.type}.")
    changed = _assign_role(field, role)
    displaced = set() if role in {"", "licence"} else {other.key for other in form.fields_for(role)}
    fields = (_assign_role(other, "") if other.key in displaced else other for other in form.fields)
    return replace(form, fields=tuple(changed if other.key == key else other for other in fields))


def _assign_role(field: GateField, role: str) -> GateField:
    declared = field.declared or field.type
    kind = "country" if role == "country" and declared == "text" else declared
    return replace(field, role=role, type=kind, required=field.required or role == "licence")


def with_required(form: GateForm, key: str, required: bool) -> GateForm:
    """Return the form with an owner's choice of whether one field is required."""
    field = form.field(key)
    if field.role == "licence" and not required:
        raise FormChangeRefused(
            f"{key} is the licence agreement, which is always required; change its role first."
        )
    if field.type == "ip_location" and required:
        raise FormChangeRefused(f"{key} is recorded by the portal, so nobody can be required to fill it in.")
    changed = replace(field, required=required)
    return replace(form, fields=tuple(changed if other.key == key else other for other in form.fields))


def keep_choices(fresh: GateForm, *, read_before: GateForm, chosen: GateForm) -> GateForm:
    """Return a newly read form with the roles and requirements that the owner chose on the previous form.

    `read_before` is the last card's form as read, `chosen` the same form after the owner's changes. A choice
    goes to the field with the same label and declared type, and is dropped if there is no such field any
    more.
    """
    before = {field.key: field for field in read_before.fields}
    choices = [field for field in chosen.fields if before.get(field.key) != field]
    for choice in choices:
        old = before.get(choice.key)
        for field in fresh.fields:
            if old and (field.label, field.declared) == (choice.label, choice.declared):
                fresh = with_role(fresh, field.key, choice.role) if choice.role != old.role else fresh
                required = choice.required or fresh.field(field.key).role == "licence"
                fresh = (
                    with_required(fresh, field.key, required) if choice.required != old.required else fresh
                )
    return fresh
