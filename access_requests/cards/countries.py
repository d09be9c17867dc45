"""The member states of the European Union, for cards that say `extra_gated_eu_disallowed`."""

from __future__ import annotations

from .form import GateForm

EU_COUNTRIES = frozenset(
    {"AT", "BE", "BG", "HR", "CY", "CZ", "DE", "DK", "EE", "ES", "FI", "FR", "GR", "HU", "IE", "IT", "LT"}
    | {"LU", "LV", "MT", "NL", "PL", "PT", "RO", "SE", "SI", "SK"}
)
# Parts of a member state that belong to the Union and have their own ISO code (TFEU, article 355).
EU_TERRITORIES = frozenset({"AX", "GF", "GP", "MF", "MQ", "RE", "YT"})


def is_shut_out(form: GateForm, country: str) -> bool:
    """Return whether the card refuses requests from this country of the European Union (ISO alpha-2)."""
    return form.eu_disallowed and country.upper() in EU_COUNTRIES | EU_TERRITORIES
