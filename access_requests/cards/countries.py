"""The member states of the European Union, for cards that say `extra_gated_eu_disallowed`."""

from __future__ import annotations

from .form import GateForm

EU_COUNTRIES = frozenset(
    {"AT", "BE", "BG", "HR", "CY", "CZ", "DE", "DK", "EE", "ES", "FI", "FR", "GR", "HU", "IE", "IT", "LT"}
    | {"LU", "LV", "MT", "NL", "PL", "PT", "RO", "SE", "SI", "SK"}
)
# Parts of a member state that belong to the Union and have an ISO code of their own (TFEU, article 355).
EU_TERRITORIES = frozenset({"AX", "GF", "GP", "MF", "MQ", "RE", "YT"})


def eu_refusal(form: GateForm, country: str) -> str | None:
    """Return the sentence for a person in the Union if the card shuts it out; `country` is ISO alpha-2."""
    if not form.eu_disallowed or country.upper() not in EU_COUNTRIES | EU_TERRITORIES:
        return None
    return (
        "The owner does not offer this model in the European Union, so requests from there are refused; "
        "ask the owner if you work elsewhere."
    )
