"""Read `extra_gated_fields`: labels, types and options in the shapes that real cards use."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from .form import FIELD_TYPES, GateField, Option
from .nodes import Items, Node, Pairs, Scalar
from .refusal import CardRefused, said_twice, shown
from .roles import is_opt_in, role_of, says_optional

MAX_FIELDS = 100
MAX_LABEL = 1024
MAX_OPTIONS = 1000
MAX_DESCRIPTION = 10_000

_TRUE, _FALSE = {"true", "yes", "on"}, {"false", "no", "off"}
_FIELD_KEYS = ("type", "options", "required", "description")
_TYPES_LISTED = ", ".join(FIELD_TYPES)


@dataclass(frozen=True)
class _Entry:
    """One label with its value and line, and whether it was moved out of another field's map."""

    label: str
    line: int
    value: Node


def read_fields(node: Node, warnings: list[str]) -> tuple[GateField, ...]:
    """Return the fields of an `extra_gated_fields` value; every correction is added to `warnings`."""
    fields: list[GateField] = []
    lines: dict[str, int] = {}
    roles: set[str] = set()
    for entry in _read_entries(node, warnings):
        if entry.label in lines:
            raise CardRefused(said_twice(f"the label {shown(entry.label)}", lines[entry.label]), entry.line)
        lines[entry.label] = entry.line
        if len(fields) == MAX_FIELDS:
            raise CardRefused(f"the form has more than {MAX_FIELDS} fields; ask for less.", entry.line)
        field = _read_field(f"f{len(fields) + 1}", entry, warnings)
        if field.role in roles and field.role not in {"", "licence"}:
            # The first field keeps the role; a later one becomes an ordinary question.
            field = replace(field, role="", type=field.declared if field.role == "country" else field.type)
        roles.add(field.role)
        fields.append(field)
    return tuple(fields)


def is_field_value(node: Node) -> bool:
    """Return whether a value describes a field: a type name, or a map whose `type` is one."""
    if isinstance(node, Pairs):
        node = next((value for key, value in node.pairs if key.text.strip() == "type"), node)
    return isinstance(node, Scalar) and node.text.strip().lower() in FIELD_TYPES


def read_bool(node: Node, what: str) -> bool:
    """Return a YAML boolean that the loader kept as text; an empty one is false."""
    text = node.text.strip().lower() if isinstance(node, Scalar) else None
    if text in _TRUE:
        return True
    if text in _FALSE or (isinstance(node, Scalar) and node.is_empty):
        return False
    raise CardRefused(f"{what} must be true or false.", node.line)


def read_text(node: Node, what: str, limit: int) -> str:
    """Return a text value without surrounding spaces."""
    if not isinstance(node, Scalar):
        raise CardRefused(f"{what} must be text, not a map or list; put it in quotes.", node.line)
    text = "" if node.is_empty else node.text.strip()
    if len(text) > limit:
        raise CardRefused(f"{what} is longer than {limit:,} characters; shorten it.", node.line)
    return text


def _read_entries(node: Node, warnings: list[str]) -> Iterator[_Entry]:
    """Yield the labels in file order, from a map or a list of maps; misplaced ones are moved out."""
    if isinstance(node, Scalar):
        if node.is_empty:
            return
        raise CardRefused("`extra_gated_fields` must be a map; indent the labels below it.", node.line)
    maps: tuple[Node, ...] = (node,) if isinstance(node, Pairs) else node.nodes
    for item in maps:
        if not isinstance(item, Pairs):
            raise CardRefused(
                "each item of `extra_gated_fields` must be label: type; add the type.", item.line
            )
        for key, value in item.pairs:
            entry = _Entry(_read_label(key), key.line, value)
            own, lifted = _lift_misplaced(entry, warnings)
            yield own
            yield from lifted


def _read_label(key: Scalar) -> str:
    label = re.sub(r"[ \t]*\n\s*", " ", key.text.strip()[: 4 * MAX_LABEL])
    if not label:
        raise CardRefused("a field has no label; write one before the colon.", key.line)
    if len(label) > MAX_LABEL:
        raise CardRefused(f"a label is longer than {MAX_LABEL:,} characters; shorten it.", key.line)
    return label


def _lift_misplaced(entry: _Entry, warnings: list[str]) -> tuple[_Entry, list[_Entry]]:
    """Split off fields such as `geo: ip_location` that wrong indentation has put inside another field's map."""
    if not isinstance(entry.value, Pairs):
        return entry, []
    kept, lifted = [], []
    for key, value in entry.value.pairs:
        name = key.text.strip()
        if name not in _FIELD_KEYS and is_field_value(value):
            lifted.append(_Entry(_read_label(key), key.line, value))
            warnings.append(
                f"Line {key.line}: {shown(name)} stands inside the field {shown(entry.label)}; "
                "it was read as a field of its own."
            )
        else:
            kept.append((key, value))
    return replace(entry, value=Pairs(entry.value.line, tuple(kept))), lifted


def _read_field(key: str, entry: _Entry, warnings: list[str]) -> GateField:
    parts: dict[str, Node] = {}
    if isinstance(entry.value, Scalar):
        parts["type"] = entry.value
    elif isinstance(entry.value, Items):
        sentence = f"the field {shown(entry.label)} is a list; write `type: select` and `options`."
        raise CardRefused(sentence, entry.line)
    else:
        for part, value in entry.value.pairs:
            name = part.text.strip()
            if name in _FIELD_KEYS:
                parts[name] = value
            else:
                warnings.append(
                    f"Line {part.line}: {shown(name)} of the field {shown(entry.label)} is not known, ignored."
                )
    declared = _read_type(entry, parts, warnings)
    options: tuple[Option, ...] = ()
    if declared == "select":
        options = _read_options(entry, parts.get("options"), warnings)
    elif "options" in parts:
        warnings.append(f"Line {entry.line}: {shown(entry.label)} is {declared}, so its options are ignored.")
    description = parts.get("description")
    role = role_of(entry.label, declared)
    return GateField(
        key=key,
        label=entry.label,
        type="country" if role == "country" and declared == "text" else declared,
        role=role,
        required=_read_required(entry, declared, role, parts.get("required"), warnings),
        description=read_text(description, "a field's `description`", MAX_DESCRIPTION) if description else "",
        options=options,
        declared=declared,
    )


def _read_type(entry: _Entry, parts: dict[str, Node], warnings: list[str]) -> str:
    node = parts.get("type")
    if node is None and "options" in parts:
        warnings.append(
            f"Line {entry.line}: {shown(entry.label)} has options but no type; it was read as select."
        )
        return "select"
    if node is None or (isinstance(node, Scalar) and node.is_empty):
        sentence = f"the field {shown(entry.label)} has no type; write one of {_TYPES_LISTED}."
        raise CardRefused(sentence, entry.line)
    name = node.text.strip().lower() if isinstance(node, Scalar) else ""
    if name not in FIELD_TYPES:
        what = shown(node.text) if isinstance(node, Scalar) else "a map or list"
        sentence = f"the type of the field {shown(entry.label)} is {what}; write one of {_TYPES_LISTED}."
        raise CardRefused(sentence, node.line)
    return name


def _read_required(entry: _Entry, declared: str, role: str, node: Node | None, warnings: list[str]) -> bool:
    """Return whether a field must be answered: as the card says, else as the label implies, else yes."""
    said = (
        read_bool(node, "`required`") if node and not (isinstance(node, Scalar) and node.is_empty) else None
    )
    if declared == "ip_location":
        return False
    if role == "licence":
        if said is False:
            warnings.append(f"Line {entry.line}: the licence agreement is required, whatever the card says.")
        return True
    if said is not None:
        return said
    if role == "publications" or says_optional(entry.label):
        return False
    return not (declared == "checkbox" and is_opt_in(entry.label))


def _read_options(entry: _Entry, node: Node | None, warnings: list[str]) -> tuple[Option, ...]:
    """Return a select's options: texts, or maps of `label` and `value`, either of which may be missing."""
    if not isinstance(node, Items) or not node.nodes:
        sentence = f"the select {shown(entry.label)} needs `options`, a list of texts; add it."
        raise CardRefused(sentence, node.line if node else entry.line)
    if len(node.nodes) > MAX_OPTIONS:
        raise CardRefused(
            f"the select {shown(entry.label)} has more than {MAX_OPTIONS:,} options.", node.line
        )
    options: dict[str, Option] = {}
    for item in node.nodes:
        if isinstance(item, Scalar):
            label = value = item.text.strip()
        elif isinstance(item, Pairs) and {key.text.strip() for key, _ in item.pairs} <= {"label", "value"}:
            parts = {key.text.strip(): read_text(part, "an option", MAX_LABEL) for key, part in item.pairs}
            label = parts.get("label") or parts.get("value", "")
            value = parts.get("value") or label
        else:
            sentence = f"an option of {shown(entry.label)} is neither text nor `label` and `value`; quote it."
            raise CardRefused(sentence, item.line)
        if not label or len(label) > MAX_LABEL or len(value) > MAX_LABEL:
            sentence = f"an option of {shown(entry.label)} must have 1 to {MAX_LABEL:,} characters."
            raise CardRefused(sentence, item.line)
        option = Option(value=value, label=label)
        if options.setdefault(option.value, option) != option:
            sentence = f"the value {shown(option.value)} stands for two options; give each its own."
            raise CardRefused(sentence, item.line)
    if len(options) < len(node.nodes):
        warnings.append(f"Line {node.line}: {shown(entry.label)} has an option twice; it is shown once.")
    return tuple(options.values())
