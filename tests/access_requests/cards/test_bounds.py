"""A card's front matter is read in linear time, and reading stops at the first thing over a limit."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import yaml

from access_requests.cards import CardRefused, read_card
from access_requests.cards.nodes import MAX_DIRECTIVES, _Builder
from access_requests.cards.roles import role_of

LENGTH = 500_000
MANY = "a: [" + "1," * 200_000 + "1]"


class Counted(_Builder):
    """A builder that counts the events that it takes from the parser."""

    seen = 0

    def count(self, event: yaml.Event) -> None:
        self.seen += 1
        super().count(event)


@pytest.mark.parametrize(
    ("front", "most"),
    [
        (MANY, 1001),
        ("\n".join(f"- {n}" for n in range(100_000)), 1001),
        ("\n".join(f"k{n}: 1" for n in range(50_000)), 1001),
        ("a: " + "[" * LENGTH, 26),
        ("a: " + "{a: " * (LENGTH // 4), 50),
        ("- " * (LENGTH // 2), 25),
        ("? " * (LENGTH // 2), 2),
        ("\n".join(f"k{n}: &a{n} 1" for n in range(30_000)), 2),
        ("a: &a [" + "*a," * 100_000 + "1]", 2),
        ("a: 1\n" * 100_000, 4),
    ],
)
def test_parsing_ends_where_something_is_too_much(front: str, most: int) -> None:
    """However long the text, only a few values beyond the limit are taken from the parser."""
    builder = Counted(front, 2, 1000)
    with pytest.raises(CardRefused):
        builder.document()
    assert builder.seen <= most


def shapes() -> Iterator[tuple[str, str]]:
    half = LENGTH // 2
    yield "long plain text", "a: " + "x" * LENGTH
    yield "words", "a: " + "x " * half
    yield "lines", "a: " + "x\n " * (LENGTH // 3)
    yield "comment", "#" * LENGTH
    yield "comments", "#\n" * half
    yield "tabs", "a: " + "\t" * LENGTH
    yield "block", "a: |\n" + "  x\n" * (LENGTH // 4)
    yield "escapes", 'a: "' + "\\x41" * (LENGTH // 4) + '"'
    yield "quotes", "a: '" + "''" * half + "'"
    yield "numbers", "a: [1_0_0, 190:20:30, 0x" + "f" * 100_000 + ", " + "9" * 100_000 + ", 2024-01-01]"
    yield "blank lines", "a: x" + "\n" * LENGTH


@pytest.mark.parametrize("front", [pytest.param(text, id=name) for name, text in shapes()])
def test_long_front_matter_is_read_as_text(front: str) -> None:
    assert set(read_card(f"---\n{front}\n---\n").front) <= {"a"}


@pytest.mark.parametrize(
    ("front", "sentence"),
    [
        (MANY, "more than 50,000 keys and values; move tables"),
        ("%TAG !a! tag:x\n" * (MAX_DIRECTIVES + 1), "too many lines start with `%`"),
        ("x" * LENGTH + ": 1", "a colon"),
        ('a: "' + "x" * LENGTH, "a quotation mark opened here is never closed"),
        ("a:\n\t- b: c\n\td", "a tab is used for indentation"),
        ("%YAML 1.1" + "1" * LENGTH, "not valid YAML"),
        ("x" * 600_000, "larger than 512 KiB"),
    ],
)
def test_too_much_is_one_sentence(front: str, sentence: str) -> None:
    with pytest.raises(CardRefused, match=sentence):
        read_card(f"---\n{front}\n---\n")


def test_bounds_of_a_caller_may_be_smaller() -> None:
    card = "---\na: [1, 2, 3]\n---\n"
    assert read_card(card, most_nodes=6).front == {"a": ["1", "2", "3"]}
    with pytest.raises(CardRefused, match="more than 5 keys and values"):
        read_card(card, most_nodes=5)
    with pytest.raises(CardRefused, match="larger than 0 KiB"):
        read_card(card, most_front=11)


def test_key_below_a_long_body_is_found() -> None:
    body = "\n" * 400_000 + "```\nextra_gated_prompt: shown as an example\n```\n"
    assert read_card(f"---\na: 1\n---\n{body}").front == {"a": "1"}
    with pytest.raises(CardRefused) as refused:
        read_card(f"---\na: 1\n---\n{body}extra_gated_prompt: x\n")
    assert refused.value.line == 400_007


@pytest.mark.parametrize(
    "label", ["ﷺ" * 1000, "[" * 1000, "(" * 1000, "a" * 1000, "agree a-" * 125, "a " * 500]
)
def test_label_that_looks_like_nothing_has_no_role(label: str) -> None:
    """One character may become 18 when normalised, so the label is cut before the patterns are applied."""
    assert (role_of(label, "text"), role_of(label, "checkbox")) == ("", "")
