"""Model cards: the text of a README.md becomes front matter, body and the form that its gate asks for.

Pure: no Django, no files, no network. The entry point is `read_card`. A card that cannot be understood raises
`CardRefused` with the line and the reason, and the model keeps its last good form.

bounds       how large a card may be, depending on who sends it
carddata     front matter as the `cardData` of the Hub's JSON
countries    member states of the European Union, for `extra_gated_eu_disallowed`
fields       reads `extra_gated_fields`: labels, types and options
form         the gate form as data, with its field types and roles
frontmatter  finds the YAML between the `---` lines
nodes        parses YAML, within limits, into a small tree of nodes that know their lines
reader       `read_card`: from text to a card
refusal      `CardRefused`, the only error of this package
roles        recognises labels that ask what the portal knows (name, country, licence agreement ...)
"""

from .carddata import card_data
from .form import (
    FIELD_TYPES,
    ROLE_TYPES,
    ROLES,
    FormChangeRefused,
    GateField,
    GateForm,
    Option,
    keep_choices,
    with_required,
    with_role,
)
from .reader import Card, read_card
from .refusal import CardRefused

__all__ = [
    "FIELD_TYPES",
    "ROLES",
    "ROLE_TYPES",
    "Card",
    "CardRefused",
    "FormChangeRefused",
    "GateField",
    "GateForm",
    "Option",
    "card_data",
    "keep_choices",
    "read_card",
    "with_required",
    "with_role",
]
