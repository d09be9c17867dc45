"""What pages take from a model card beside its rendered text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from access_requests.cards.frontmatter import clean_text, split_card
from access_requests.markdown import plain_text
from access_requests.models import GatedModel

LONGEST_SUMMARY = 240  # characters
CHAT_HEADING = re.compile(r"#{1,6}\s.*\b(chat|input|prompt|instruction)s?[\s-]+(format|template)\b", re.I)
FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")


def card_body(model: GatedModel) -> str:
    """The card below its front matter; stored cards were understood when they were taken."""
    return split_card(clean_text(model.card)).body.lstrip("\n")


def summary(body: str) -> str:
    """The first paragraph of running text, as plain words on one line."""
    for block in re.split(r"\n\s*\n", body[:20_000]):
        text = block.strip()
        if text and not re.match(r"#|```|~~~|\||<|!\[|\[!|---|===|[-*+] |\d+\. |>|\$\$", text):
            words = plain_text(" ".join(text.split()))
            return (
                words
                if len(words) <= LONGEST_SUMMARY
                else words[: LONGEST_SUMMARY - 1].rsplit(" ", 1)[0] + "…"
            )
    return ""


def chat_format(body: str) -> str:
    """The first code block under a heading such as "Chat format" or "Input format"; "" when there is none."""
    lines = iter(body.split("\n"))
    for line in lines:
        while line is not None and CHAT_HEADING.match(line):
            block, line = _first_block(lines)
            if block:
                return block
    return ""


def _first_block(lines: Iterator[str]) -> tuple[str, str | None]:
    """The next code block, or "" and the heading that came before it."""
    fence, kept = "", []
    for line in lines:
        found = FENCE.match(line)
        if not fence and line.startswith("#"):
            return "", line
        if found and not fence:
            fence = found[1]
        elif fence and found and found[1].startswith(fence):
            return "\n".join(kept) + "\n", None
        elif fence:
            kept.append(line)
    return "", None


def facts(model: GatedModel) -> list[tuple[str, str]]:
    """Label and value for what the front matter says of licence, base, task and languages."""
    data = model.card_data if isinstance(model.card_data, dict) else {}
    licence = _words(data.get("license"))
    if licence.lower() in {"", "other"}:
        licence = _words(data.get("license_name")) or licence
    rows = [
        ("Licence", licence),
        ("Base model", _words(data.get("base_model"))),
        ("Task", _words(data.get("pipeline_tag"))),
        ("Language", _words(data.get("language"))),
    ]
    return [(label, value) for label, value in rows if value]


def _words(value: Any) -> str:
    items = value if isinstance(value, list) else [value]
    return ", ".join(str(item) for item in items if isinstance(item, str | int) and str(item).strip())[:200]
