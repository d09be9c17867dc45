"""Finding the front matter: the YAML between a `---` on the very first line and the next one."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .refusal import CardRefused

MAX_CARD_BYTES = 1024 * 1024
MAX_FRONT_CHARACTERS = 512 * 1024

_FENCE = re.compile(r"---[ \t]*")
_CODE_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_GATE_LINE = re.compile(
    r"\s*(?:- )?['\"]?extra_gated_"
    r"(?:fields|prompt|heading|description|button_content|eu_disallowed)['\"]?\s*:"
)


@dataclass(frozen=True)
class SplitCard:
    """A card in two: `front` is None where there is no front matter; it starts on `front_line`."""

    front: str | None
    front_line: int
    body: str
    body_line: int


def clean_text(text: str) -> str:
    """Return the card without byte-order mark and with `\\n` line ends; refuse what no database can hold."""
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


def split_card(text: str) -> SplitCard:
    """Split a cleaned card; a front matter that is never closed counts as none, as on the Hub."""
    lines = text.split("\n")
    if not _FENCE.fullmatch(lines[0]):
        return SplitCard(None, 0, text, 1)
    end = next((number for number, line in enumerate(lines[1:], 1) if _FENCE.fullmatch(line)), None)
    if end is None:
        return SplitCard(None, 0, text, 1)
    front = "\n".join(lines[1:end])
    if len(front) > MAX_FRONT_CHARACTERS:
        raise CardRefused("the front matter is larger than 512 KiB; move long texts into other files.", 1)
    return SplitCard(front, 2, "\n".join(lines[end + 1 :]), end + 2)


def stray_gate_line(text: str, first_line: int) -> int | None:
    """Line of the first `extra_gated_...:` key outside code blocks, where nothing would read it."""
    open_fence = ""
    for number, line in enumerate(text.split("\n"), first_line):
        fence = _CODE_FENCE.match(line)
        if open_fence:
            if fence and fence[1].startswith(open_fence) and not line.strip(" `~"):
                open_fence = ""
        elif fence:
            open_fence = fence[1]
        elif _GATE_LINE.match(line):
            return number
    return None


def why_unread(text: str) -> str:
    """Say in one sentence why a card without readable front matter has none, and what to do."""
    lines = text.split("\n")
    if _FENCE.fullmatch(lines[0]):
        return "the front matter opened on line 1 is never closed, so this key is not read; add a `---` line."
    if any(_FENCE.fullmatch(line) for line in lines):
        return (
            "this key is not read because text or a blank line stands before the first `---`; "
            "make `---` the first line of the card."
        )
    return "this key is not read because the card has no front matter; put it between two `---` lines on top."
