"""The member states of the European Union, for cards that say `extra_gated_eu_disallowed`."""

from __future__ import annotations

from access_requests.cards.form import GateForm

EU_COUNTRIES = frozenset(
    "AT BE BG HR CY CZ DE DK EE ES FI FR GR HU IE IT LT LU LV MT NL PL PT RO SE SI SK".split()
)


def eu_refusal(form: GateForm, country: str) -> str | None:
    """The sentence for a person in the Union when the card shuts it out, else None; `country` is ISO 3166 alpha-2."""
    if form.eu_disallowed and country.upper() in EU_COUNTRIES:
        return "The owner does not offer this model in the European Union, so a request from there cannot be taken."
    return None
