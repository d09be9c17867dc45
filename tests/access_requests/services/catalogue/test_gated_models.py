"""How a card's form affects the catalogue and the requests."""

from collections.abc import Callable
from typing import Any

import pytest

from access_requests.errors import Invalid
from access_requests.services.catalogue.edit import FieldChoice, change_fields
from access_requests.services.catalogue.gated_models import update_card
from access_requests.services.requests.submit import gate_form, save_draft, start_request

CARD = """---
extra_gated_fields:
  First Name: text
  Last Name: text
  Country: {type: select, options: [Germany, Elsewhere]}
  I do as I am told: checkbox
---
# Ours
"""


@pytest.fixture
def model(make_model: Callable[..., Any]) -> Any:
    return make_model(card=CARD)


def test_new_card_keeps_the_owners_reading_of_its_fields(model: Any) -> None:
    choices = {
        field.key: FieldChoice(role="licence" if field.key == "f4" else field.role, required=field.required)
        for field in gate_form(model).fields
    }
    change_fields(model=model, choices=choices)
    update_card(model=model, card=CARD.replace("  First Name: text\n", ""))

    assert [(field.label, field.role) for field in gate_form(model).fields] == [
        ("Last Name", "last_name"),
        ("Country", "country"),
        ("I do as I am told", "licence"),
    ]


def test_card_that_cannot_be_understood_leaves_the_last_good_form(model: Any) -> None:
    before = gate_form(model)
    with pytest.raises(Invalid, match=r"Line 4 of the card: .*first on line 3"):
        update_card(model=model, card="---\nextra_gated_fields:\n  Name: text\n  Name: checkbox\n---\n")
    model.refresh_from_db()

    assert (gate_form(model), model.card) == (before, CARD)


def test_answers_reach_their_columns_in_the_portals_types(
    model: Any, make_person: Callable[..., Any]
) -> None:
    person = make_person("ada")
    request = start_request(model=model, applicant=person)
    save_draft(request=request, applicant=person, answers={"f2": "Suharto", "f3": "Germany", "f4": False})
    request.refresh_from_db()

    assert (request.first_name, request.last_name, str(request.country)) == ("", "Suharto", "DE")
