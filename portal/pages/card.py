"""Facts that pages show next to a model card's text."""

from __future__ import annotations

from typing import Any

from django.utils.translation import gettext as _

from access_requests.models import GatedModel


def facts(model: GatedModel) -> list[tuple[str, str]]:
    """Return label and value for the licence, base, task and languages in the front matter."""
    data = model.card_data if isinstance(model.card_data, dict) else {}
    licence = _join_values(data.get("license"))
    if licence.lower() in {"", "other"}:
        licence = _join_values(data.get("license_name")) or licence
    rows = [
        (_("Licence"), licence),
        (_("Base model"), _join_values(data.get("base_model"))),
        (_("Task"), _join_values(data.get("pipeline_tag"))),
        (_("Language"), _join_values(data.get("language"))),
    ]
    return [(label, value) for label, value in rows if value]


def _join_values(value: Any) -> str:
    items = value if isinstance(value, list) else [value]
    return ", ".join(str(item) for item in items if isinstance(item, str | int) and str(item).strip())[:200]
