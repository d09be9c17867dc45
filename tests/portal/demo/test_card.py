"""The demo's card, with its figures filled in, is read as the portal reads any card."""

import re
from pathlib import Path
from string import Template

from access_requests.cards.reader import read_card
from tests.tiny_models import TULU_LABELS

CARD = Path(__file__).parents[3] / "portal" / "demo" / "card"
PLACEHOLDERS = {
    "package_version", "steps", "chats", "held_out_chats", "base_loss", "tuned_loss", "base_loss_held_out",
    "tuned_loss_held_out", "tensors", "changed_tensors", "values", "changed_values", "added_values",
    "kept_values", "lost_values",
}  # fmt: skip


def test_card_form_has_the_tulu_fields() -> None:
    form = read_card((CARD / "README.md").read_text("utf-8")).form
    assert [field.label for field in form.fields] == TULU_LABELS
    assert [field.declared for field in form.fields] == ["text"] * 6 + ["checkbox"]
    assert [field.role for field in form.fields] == [
        "first_name",
        "last_name",
        "institution",
        "country",
        "intended_use",
        "publications",
        "licence",
    ]
    assert form.heading == "Ask for the demonstration weights"
    assert form.button == "Ask for access"
    assert form.prompt.startswith("These weights are released as a difference to a base model.")
    assert form.description


def test_card_is_understood_without_warning() -> None:
    assert read_card((CARD / "README.md").read_text("utf-8")).warnings == []


def test_card_figures_are_all_measured_ones() -> None:
    card = Template((CARD / "README.md").read_text("utf-8"))
    assert set(card.get_identifiers()) == PLACEHOLDERS
    filled = card.substitute(dict.fromkeys(PLACEHOLDERS, "1"))
    assert "$" not in filled


def test_card_shows_the_tulu_chat_format() -> None:
    body = read_card((CARD / "README.md").read_text("utf-8")).body
    assert "<|user|>\nYour message here!\n<|assistant|>\n\n```" in body


def test_card_names_licence_files_that_exist() -> None:
    text = (CARD / "README.md").read_text("utf-8")
    named = set(re.findall(r"`(\w+_license\.txt)`", text))
    assert named == {"demo_license.txt", "smollm2_license.txt"}
    assert (CARD / "demo_license.txt").read_text("utf-8").startswith("Gatehouse demo terms")
