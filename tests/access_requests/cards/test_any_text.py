"""Any text in a card is either read or refused with one sentence; nothing else happens."""

import json
from contextlib import suppress
from datetime import timedelta

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from access_requests.cards import CardRefused, GateForm, card_data, read_card

PIECES = [
    "---\n", "---", "...\n", "\n", "\r\n", "\r", "  ", "\t", "- ", "? ", ": ", ":", ", ", "[", "]", "{", "}", "&a ", "*a",
    "!!python/object:x ", "!<", "%YAML 1.2\n", "%TAG ! x\n", "|\n", ">-\n", "|9\n", "'", '"', "\\U0001F600", "\\x", "\\", "#",
    "<<: ", "~", "null", "extra_gated_fields", "extra_gated_prompt: ", "extra_gated_heading:", "extra-gated:",
    "extra_gated_eu_disallowed: ", "Name: text\n", "  geo: ip_location\n", "type: select\n", "    options:\n", "required: no\n",
    "I accept the licence: checkbox\n", "Country: country\n", "label: x", "value: y", "国家", "\ufeff", "\u2028", "\x85", "\0",
    "@", "`", "yes", "```\n", "a", "é", "\U0001f600",
]  # fmt: skip
ANY = st.one_of(
    st.text(),
    st.lists(st.sampled_from(PIECES)).map("".join),
    st.lists(st.sampled_from(PIECES)).map(lambda pieces: "---\n" + "".join(pieces) + "\n---\nbody\n"),
    st.lists(st.sampled_from(PIECES)).map(
        lambda pieces: "---\nextra_gated_fields:\n  " + "".join(pieces) + "\n---\n"
    ),
    st.text().map(lambda text: f"---\nextra_gated_fields:\n  {text}: text\n---\n"),
)


@settings(max_examples=400, deadline=timedelta(seconds=5), suppress_health_check=[HealthCheck.too_slow])
@given(ANY)
def test_any_text_is_read_or_refused(text: str):
    try:
        card = read_card(text)
    except CardRefused as error:
        refused: CardRefused | None = error
    else:
        refused = None
    if refused:
        last_line = text.replace("\r\n", "\n").replace("\r", "\n").count("\n") + 1
        assert refused.sentence.endswith(".")
        assert refused.line is None or 1 <= refused.line <= last_line
        return
    assert GateForm.from_json(json.loads(json.dumps(card.form.to_json()))) == card.form
    assert json.loads(json.dumps(card_data(card.front))) == card_data(card.front)
    assert len(card.form.describe()) >= 1
    json.dumps(card.front).encode()


LONG = [
    "[" * 100_000, "{a: " * 100_000, "- " * 200_000, "? " * 200_000, "a: " + "[x, " * 20 + "y, " * 30_000,
    "x " * 200_000, "'" + "x " * 200_000, '"' + "\\x41" * 100_000, "a: |\n" + " x\n" * 100_000, "!" * 400_000,
    "a:\n" + " " * 400_000, "a" * 400_000 + ": b", "\n" * 400_000 + "a", "#" * 400_000, "---\t\n" * 50_000, ": " * 200_000,
    "? '" + " " * 400_000 + "x'\n: text", "`" * 400_000, "*" * 400_000, "extra_gated_fields:\n  '" + "a " * 200_000 + "': text",
    "extra_gated_fields:\n  ? '" + " \t" * 200_000 + "x'\n  : text", "extra_gated_prompt: " + "[(" * 200_000,
]  # fmt: skip


def test_long_monotonous_text_is_read_or_refused():
    for text in LONG:
        for card in (text, f"---\n{text}\n---\n", f"---\nextra_gated_fields:\n  {text}\n---\n"):
            with suppress(CardRefused):
                read_card(card)
