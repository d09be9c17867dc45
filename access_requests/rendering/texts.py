"""What pages show of cards and forms: made once when a card is saved, stored, and only read after that."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from django.utils.safestring import SafeString, mark_safe

from access_requests.cards import CardRefused, GateForm
from access_requests.cards.frontmatter import clean_text, split_card
from access_requests.rendering.process import Piece, Rendered, as_written, render_all

RENDERER = (
    2  # raise it when the same text gets different HTML: `render_texts` then renders the stored ones again
)
LONGEST_SUMMARY = 240  # characters
LOOKED_THROUGH = 20_000  # characters of a card's beginning in which a summary is looked for
LONGEST_PARAGRAPH = 1_000  # characters of the paragraph found that are read
LONGEST_CHAT_FORMAT = 20_000
TOO_MUCH = (
    "Rendering the Markdown of {what} takes more time or memory than the portal allows, so it is shown as you wrote "
    "it. Look for long runs of brackets, deep nesting or very large tables, make them smaller, and save it again."
)
CHAT_HEADING = re.compile(
    r"^#{1,6}[^\S\n][^\n]*\b(?:chat|input|prompt|instruction)s?[ \t-]+(?:format|template)\b[^\n]*$",
    re.I | re.M,
)
HEADING_OR_FENCE = re.compile(r"^(?:(?P<heading>#)| {0,3}(?P<fence>`{3,}|~{3,}))[^\n]*$", re.M)


@dataclass(frozen=True)
class CardPage:
    """A card as pages show it. `html` is safe, `problem` is for the owner, `renderer` 0 means "try again"."""

    html: str = ""
    summary: str = ""
    chat_format: str = ""
    problem: str = ""
    renderer: int = RENDERER


@dataclass(frozen=True)
class GateTexts:
    """A form's texts as pages show them; `prompt`, `description`, `labels` and `helps` are safe HTML.

    `renderer` is 0 if nothing could render them, so that they are as written.
    """

    heading: str = ""
    button: str = ""
    prompt: str = ""
    description: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    helps: Mapping[str, str] = field(default_factory=dict)
    words: Mapping[str, str] = field(default_factory=dict)
    problem: str = ""
    renderer: int = RENDERER

    def to_json(self) -> dict[str, Any]:
        """Return the texts as `FormVersion.texts` stores them."""
        return asdict(self)

    @property
    def prompt_html(self) -> SafeString:
        """Return the prompt for a template."""
        return mark_safe(self.prompt)  # noqa: S308 - cleaned by nh3 when it was made

    @property
    def description_html(self) -> SafeString:
        """Return the description for a template."""
        return mark_safe(self.description)  # noqa: S308 - cleaned by nh3 when it was made

    def label(self, key: str) -> SafeString:
        """Return a field's label as HTML."""
        return mark_safe(self.labels.get(key, ""))  # noqa: S308 - cleaned by nh3 when it was made

    def help(self, key: str) -> SafeString:
        """Return a field's description as HTML."""
        return mark_safe(self.helps.get(key, ""))  # noqa: S308 - cleaned by nh3 when it was made


def card_body(card: str) -> str:
    """Return the part of a stored card below its front matter."""
    try:
        return split_card(clean_text(card)).body.lstrip("\n")
    except CardRefused:  # stored by an earlier version that read cards less strictly
        return card


def render_card(*, card: str, repo_id: str) -> CardPage:
    """Return what pages show of a card; its relative links lead to the files of `repo_id`."""
    body = card_body(card)
    pieces = _card_pieces(body, repo_id)
    made = render_all(pieces)
    html, summary = _fill_missing_texts(pieces, made)
    problem = TOO_MUCH.format(what="the card") if made.texts[0] is None and not made.later else ""
    renderer = 0 if made.later else RENDERER
    return CardPage(html, cut(summary), chat_format(body), problem, renderer)


def unrendered_card(*, card: str, repo_id: str) -> CardPage:
    """Return what pages show of a card that is not rendered yet."""
    body = card_body(card)
    page, words = (as_written(piece) for piece in _card_pieces(body, repo_id))
    return CardPage(page if body else "", cut(words), chat_format(body), renderer=0)


def _card_pieces(body: str, repo_id: str) -> list[Piece]:
    return [
        Piece("markdown", body, base=f"/{repo_id}/resolve/main/"),
        Piece("plain", first_paragraph(body)),
    ]


def render_gate(form: GateForm) -> GateTexts:
    """Return what pages show of a form."""
    return _render_gate_with(form, render_all)


def unrendered_gate(form: GateForm) -> GateTexts:
    """Return what pages show of a form that is not rendered yet."""
    return _render_gate_with(form, lambda pieces: Rendered([None] * len(pieces), later=True))


def _render_gate_with(form: GateForm, make: Any) -> GateTexts:
    pieces = [
        Piece("plain", form.heading),
        Piece("plain", form.button),
        *(Piece("inline", one.label) for one in form.fields),
        *(Piece("plain", one.label) for one in form.fields),
        Piece("markdown", form.prompt, shift=2),
        Piece("markdown", form.description, shift=2),
        *(Piece("inline", one.description) for one in form.fields),
    ]
    made: Rendered = make(pieces)
    texts = iter(_fill_missing_texts(pieces, made))
    keys = [one.key for one in form.fields]
    heading, button = next(texts), next(texts)
    labels, words = _take_by_key(texts, keys), _take_by_key(texts, keys)
    prompt, description, helps = next(texts), next(texts), _take_by_key(texts, keys)
    problem = TOO_MUCH.format(what="the form") if None in made.texts and not made.later else ""
    return GateTexts(
        heading=heading, button=button, prompt=prompt if form.prompt else "",
        description=description if form.description else "", labels=labels, helps=helps, words=words, problem=problem,
        renderer=0 if made.later else RENDERER,
    )  # fmt: skip


def _fill_missing_texts(pieces: Sequence[Piece], made: Rendered) -> list[str]:
    return [
        as_written(piece) if text is None else text for piece, text in zip(pieces, made.texts, strict=True)
    ]


def _take_by_key(texts: Iterator[str], keys: Sequence[str]) -> dict[str, str]:
    return {key: next(texts) for key in keys}


def cut(words: str) -> str:
    """Return at most `LONGEST_SUMMARY` characters, cut between words."""
    return words if len(words) <= LONGEST_SUMMARY else words[: LONGEST_SUMMARY - 1].rsplit(" ", 1)[0] + "…"


def first_paragraph(body: str) -> str:
    """Return the beginning of the first paragraph of running text, on one line; "" if there is none."""
    for block in re.split(r"\n[^\S\n]*\n", body[:LOOKED_THROUGH]):
        text = block.strip()
        if text and not re.match(r"#|```|~~~|\||<|!\[|\[!|---|===|[-*+] |\d+\. |>|\$\$", text):
            return " ".join(text[:LONGEST_PARAGRAPH].split())
    return ""


def chat_format(body: str) -> str:
    """Return the first code block under a heading such as "Chat format" or "Input format", or ""."""
    end = 0
    while heading := CHAT_HEADING.search(body, end):
        block, end = _find_first_block(body, heading.end())
        if block:
            return block
    return ""


def _find_first_block(body: str, start: int) -> tuple[str, int]:
    """Return the next code block, or "" and where the heading before it begins."""
    opened: re.Match[str] | None = None
    for found in HEADING_OR_FENCE.finditer(body, start):
        if opened is None and found["heading"]:
            return "", found.start()
        if opened is None:
            opened = found
        elif found["fence"] and found["fence"].startswith(opened["fence"]):
            return body[opened.end() + 1 : found.start()][:LONGEST_CHAT_FORMAT], found.end()
    return "", len(body)
