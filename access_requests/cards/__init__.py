"""Model cards: the text of a README.md becomes front matter, body and the form that its gate asks for.

Pure: no Django, no files, no network. `read_card` is the way in; a card that cannot be understood raises
`CardRefused` with the line and the reason, so that a model keeps its last good form.

bounds       how large a card may be, by who sends it
carddata     front matter as the `cardData` of the Hub's JSON
countries    member states of the European Union, for `extra_gated_eu_disallowed`
fields       reading `extra_gated_fields`: labels, types and options
form         the gate form as data, its field types and roles
frontmatter  finding the YAML between the `---` lines
nodes        YAML as a small tree of nodes that keep their lines, with limits
reader       `read_card`: from text to a card
refusal      `CardRefused`, the one error of this package
roles        which label means what the portal already knows (name, country, licence agreement ...)
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
