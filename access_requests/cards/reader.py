"""Read the text of a README.md as a card: front matter as plain data, body, and gate form."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from .fields import is_field_value, read_bool, read_fields, read_text
from .form import GateForm
from .frontmatter import (
    MAX_FRONT_CHARACTERS,
    clean_text,
    split_card,
    stray_gate_line,
    why_unread,
)
from .nodes import MAX_NODES, Node, Pairs, Scalar, plain_data, read_nodes
from .refusal import CardRefused, shown

# Key -> the longest text allowed; a prompt is often a whole licence.
_TEXT_KEYS = {
    "extra_gated_heading": 2_000,
    "extra_gated_description": 20_000,
    "extra_gated_prompt": 400_000,
    "extra_gated_button_content": 500,
}
_OTHER_KEYS = ("extra_gated_fields", "extra_gated_eu_disallowed")
_MODELSCOPE_KEY = "extra-gated"
_MODELSCOPE_PARTS = {"description", "link", "name"}  # of a text that is given as a map; its parts are joined


@dataclass(frozen=True)
class Card:
    """A card that was understood; `front` holds strings, lists and dicts only."""

    front: dict[str, Any]
    body: str
    form: GateForm
    warnings: list[str] = field(default_factory=list)


def read_card(text: str, *, most_front: int = MAX_FRONT_CHARACTERS, most_nodes: int = MAX_NODES) -> Card:
    """Read a model card; raises CardRefused, with line and reason, if it cannot be understood.

    The time this takes grows with the text's length, which is bounded: front matter with more than
    `most_front` characters or `most_nodes` keys and values is refused, the latter at the first one over the
    limit.

    A card without front matter has no form, as on the Hub, but is refused if it has `extra_gated_...` keys,
    which would be lost silently. Unusual input that was understood anyway is reported in `warnings`.
    """
    split = split_card(clean_text(text), most_front=most_front)
    warnings: list[str] = []
    line = stray_gate_line(split.body, split.body_line)
    if split.front is None:
        if line:
            raise CardRefused(why_unread(split.body), line)
        warnings.append(
            "The card has no front matter (`---` on its first line), so it has no form of its own."
        )
        return Card({}, split.body.lstrip("\n"), GateForm(), warnings)
    root = read_nodes(split.front, split.front_line, most_nodes=most_nodes)
    if root is not None and not isinstance(root, Pairs):
        raise CardRefused("the front matter must be `key: value` lines; correct it.", root.line)
    pairs = _by_name(root) if root else {}
    gate = _gate_pairs(pairs, warnings)
    if line and not gate:
        sentence = "an `extra_gated_` key stands below the front matter, where nothing reads it; move it up."
        raise CardRefused(sentence, line)
    if line:
        warnings.append(f"Line {line}: an `extra_gated_` key stands below the front matter and is not read.")
    front = plain_data(root) if root else {}
    if not isinstance(front, dict):
        raise TypeError("a map of nodes gives a dict")
    return Card(front, split.body.lstrip("\n"), _read_form(gate, pairs, warnings), warnings)


def _by_name(root: Pairs) -> dict[str, tuple[Scalar, Node]]:
    return {key.text.strip(): (key, value) for key, value in root.pairs}


def _gate_pairs(pairs: dict[str, tuple[Scalar, Node]], warnings: list[str]) -> dict[str, Node]:
    """Return the gate's keys and values; warn about unknown ones and about ModelScope's nested spelling."""
    gate = {name: value for name, (_, value) in pairs.items() if name in _TEXT_KEYS or name in _OTHER_KEYS}
    nested = pairs.get(_MODELSCOPE_KEY)
    if nested and isinstance(nested[1], Pairs) and not gate:
        warnings.append(f"Line {nested[0].line}: the form was read from ModelScope's `extra-gated`.")
        return _gate_pairs(
            {**_by_name(nested[1]), _MODELSCOPE_KEY: (nested[0], Scalar(0, "", True))}, warnings
        )
    for name, (key, _) in pairs.items():
        if name not in gate and name.replace("-", "_").startswith("extra_gated_"):
            warnings.append(f"Line {key.line}: {shown(name)} is no key of a gated card; it is ignored.")
    return gate


def _read_form(gate: dict[str, Node], pairs: dict[str, tuple[Scalar, Node]], warnings: list[str]) -> GateForm:
    texts: dict[str, str] = {}
    for name, limit in _TEXT_KEYS.items():
        node = gate.get(name)
        if isinstance(node, Pairs) and {key.text.strip() for key, _ in node.pairs} <= _MODELSCOPE_PARTS:
            parts = (read_text(value, f"`{name}`", limit) for _, value in node.pairs)
            texts[name] = "\n\n".join(part for part in parts if part)
        elif node is not None:
            texts[name] = read_text(node, f"`{name}`", limit)
    eu, fields = gate.get("extra_gated_eu_disallowed"), gate.get("extra_gated_fields")
    eu_disallowed = read_bool(eu, "`extra_gated_eu_disallowed`") if eu else False
    if fields and "extra_gated_fields" in pairs:
        names = list(pairs)
        for name in names[names.index("extra_gated_fields") + 1 :][:1]:
            key, value = pairs[name]
            if name not in _TEXT_KEYS and is_field_value(value):  # a field that lost its indentation
                sentence = (
                    f"the field {shown(name)} is not indented, so it does not belong to `extra_gated_fields`; "
                    "put two blanks before it and the fields after it."
                )
                raise CardRefused(sentence, key.line)
    return GateForm(
        heading=texts.get("extra_gated_heading", ""),
        description=texts.get("extra_gated_description", ""),
        prompt=texts.get("extra_gated_prompt", ""),
        button=" ".join(texts.get("extra_gated_button_content", "").split()),
        eu_disallowed=eu_disallowed,
        fields=read_fields(fields, warnings) if fields else (),
    )
