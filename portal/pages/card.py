"""What pages show beside a model card's text."""

from __future__ import annotations

from typing import Any

from access_requests.models import GatedModel


def facts(model: GatedModel) -> list[tuple[str, str]]:
    """Label and value for what the front matter says of licence, base, task and languages."""
    data = model.card_data if isinstance(model.card_data, dict) else {}
    licence = _words(data.get("license"))
    if licence.lower() in {"", "other"}:
        licence = _words(data.get("license_name")) or licence
    rows = [
        ("Licence", licence),
        ("Base model", _words(data.get("base_model"))),
        ("Task", _words(data.get("pipeline_tag"))),
        ("Language", _words(data.get("language"))),
    ]
    return [(label, value) for label, value in rows if value]


def _words(value: Any) -> str:
    items = value if isinstance(value, list) else [value]
    return ", ".join(str(item) for item in items if isinstance(item, str | int) and str(item).strip())[:200]
