"""Turn the front matter into the `cardData` of the Hub's model info: plain values get their JSON types back."""

from __future__ import annotations

import math
import re
from typing import Any

_INTEGER = re.compile(r"-?(?:0|[1-9]\d{0,14})")
_FLOAT = re.compile(r"-?\d{1,15}\.\d{1,17}(?:[eE][-+]?\d{1,3})?")

# Always text on the Hub, whatever it looks like: the tag "2024" and the language "no" stay strings.
_TEXT_KEYS = frozenset(
    {
        "base_model",
        "base_model_relation",
        "datasets",
        "language",
        "library_name",
        "license",
        "license_link",
        "license_name",
        "metrics",
        "model_name",
        "new_version",
        "pipeline_tag",
        "revision",
        "tags",
        "thumbnail",
    }
)
_NESTED_TEXT_KEYS = frozenset({"config", "name", "revision", "split", "type"})


def card_data(front: dict[str, Any]) -> dict[str, Any]:
    """Return the front matter with booleans, numbers and nulls as JSON types; the gate's keys stay text."""
    data = {}
    for key, value in front.items():
        name = key.strip()
        is_gate_text = (
            name.replace("-", "_").startswith("extra_gated") and name != "extra_gated_eu_disallowed"
        )
        data[key] = value if is_gate_text or name in _TEXT_KEYS else _convert_value(value)
    return data


def _convert_value(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: value[key] if key in _NESTED_TEXT_KEYS else _convert_value(value[key]) for key in value}
    if isinstance(value, list):
        return [_convert_value(item) for item in value]
    if value in {"true", "True", "TRUE"}:
        return True
    if value in {"false", "False", "FALSE"}:
        return False
    if value in {"", "~", "null", "Null", "NULL"}:
        return None
    if _INTEGER.fullmatch(value):
        return int(value)
    if _FLOAT.fullmatch(value) and math.isfinite(float(value)):
        return float(value)
    return value
