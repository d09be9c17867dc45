"""Model cards: the text of a README.md becomes front matter, body and the form that its gate asks for.

Pure: no Django, no files, no network. `read_card` is the way in; a card that cannot be understood raises
`CardRefused` with the line and the reason, so that a model keeps its last good form.
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
