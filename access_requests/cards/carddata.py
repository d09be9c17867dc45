"""The front matter as the `cardData` of the Hub's model info: plain values get their JSON types back."""

from __future__ import annotations

import math
import re
from typing import Any

_INTEGER = re.compile(r"-?(?:0|[1-9]\d{0,14})")
_FLOAT = re.compile(r"-?\d{1,15}\.\d{1,17}(?:[eE][-+]?\d{1,3})?")

# Always text on the Hub, whatever it looks like: a tag "2024" or the language "no" stays a string.
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
    return {key: _typed_entry(key, value) for key, value in front.items()}


def _typed_entry(key: str, value: Any) -> Any:
    if key.strip() == "extra_gated_eu_disallowed":
        return _typed(value)
    if key.strip() in _TEXT_KEYS or key.strip().replace("-", "_").startswith("extra_gated"):
        return value
    return _typed(value)


def _typed(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: value[key] if key in _NESTED_TEXT_KEYS else _typed(value[key]) for key in value}
    if isinstance(value, list):
        return [_typed(item) for item in value]
    return _typed_text(value)


def _typed_text(text: str) -> Any:
    if text in {"true", "True", "TRUE"}:
        return True
    if text in {"false", "False", "FALSE"}:
        return False
    if text in {"", "~", "null", "Null", "NULL"}:
        return None
    if _INTEGER.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text) and math.isfinite(float(text)):
        return float(text)
    return text
