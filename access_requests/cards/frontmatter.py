"""Find the front matter: the YAML between a `---` on the very first line and the next one."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .refusal import CardRefused

MAX_CARD_BYTES = 1024 * 1024
MAX_FRONT_CHARACTERS = 512 * 1024

_OPENED = re.compile(r"---[ \t]*(?:\n|\Z)")
_FENCE = re.compile(r"^---[ \t]*$", re.MULTILINE)
_GATE_KEY = "extra_gated_"
# A code fence with the rest of its line, or a line with one of the gate's keys.
_FENCE_OR_GATE = re.compile(
    r"^(?: {0,3}(?P<fence>`{3,}|~{3,})(?P<rest>[^\n]*)"
    r"|[^\S\n]*(?:- )?['\"]?extra_gated_"
    r"(?:fields|prompt|heading|description|button_content|eu_disallowed)['\"]?[^\S\n]*:)",
    re.MULTILINE,
)


@dataclass(frozen=True)
class SplitCard:
    """A card in two parts: `front` is None if there is no front matter; it starts on `front_line`."""

    front: str | None
    front_line: int
    body: str
    body_line: int


def clean_text(text: str) -> str:
    """Return the card without BOM and with `\\n` line ends; refuse characters that the database cannot store."""
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    for sign, what in (("\0", "a NUL character"), (r"[\ud800-\udfff]", "a half of a character pair")):
        if found := re.search(sign, text):
            line = text.count("\n", 0, found.start()) + 1
            raise CardRefused(f"it holds {what}, so it is not a text file in UTF-8; save it as UTF-8.", line)
    if len(text.encode()) > MAX_CARD_BYTES:
        raise CardRefused(
            "it is larger than 1 MiB; move long texts, such as a licence, into files beside it."
        )
    return text


def split_card(text: str, *, most_front: int = MAX_FRONT_CHARACTERS) -> SplitCard:
    """Split a cleaned card. Front matter that is never closed counts as none, as on the Hub.

    Front matter of more than `most_front` characters is refused.
    """
    opened = _OPENED.match(text)
    closed = _FENCE.search(text, opened.end()) if opened else None
    if opened is None or closed is None:
        return SplitCard(None, 0, text, 1)
    front = text[opened.end() : max(opened.end(), closed.start() - 1)]
    if len(front) > most_front:
        sentence = (
            f"the front matter is larger than {most_front // 1024} KiB; move long texts into other files."
        )
        raise CardRefused(sentence, 1)
    return SplitCard(front, 2, text[closed.end() + 1 :], text.count("\n", 0, closed.start()) + 2)


def stray_gate_line(text: str, first_line: int) -> int | None:
    """Return the line of the first `extra_gated_...:` key outside code blocks, where nothing would read it."""
    if _GATE_KEY not in text:
        return None
    open_fence = ""
    for found in _FENCE_OR_GATE.finditer(text):
        fence = found["fence"]
        if open_fence:
            if fence and fence.startswith(open_fence) and not found["rest"].strip(" `~"):
                open_fence = ""
        elif fence:
            open_fence = fence
        else:
            return first_line + text.count("\n", 0, found.start())
    return None


def why_unread(text: str) -> str:
    """Return one sentence on why a card has no readable front matter, and what to do."""
    if _OPENED.match(text):
        return "the front matter opened on line 1 is never closed, so this key is not read; add a `---` line."
    if _FENCE.search(text):
        return (
            "this key is not read because text or a blank line stands before the first `---`; "
            "make `---` the first line of the card."
        )
    return "this key is not read because the card has no front matter; put it between two `---` lines on top."
