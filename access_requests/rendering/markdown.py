"""Render Markdown of cards and forms as safe HTML: markdown-it renders it, nh3 cleans the result.

Cards are written by others. The result has no script, style, form, frame or event handler, links carry
`nofollow noopener`, and pictures must use https or a path; the page's content policy decides whether remote
pictures are loaded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from urllib.parse import urljoin

import nh3
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe
from markdown_it import MarkdownIt
from markdown_it.rules_core import StateCore
from markdown_it.token import Token

from access_requests.storable_text import replace_unstorable

LONGEST_RENDERED = 256 * 1024  # characters; rendering takes up to 50 µs for each

_INLINE_TAGS = {"a", "b", "br", "code", "del", "em", "i", "kbd", "s", "strong", "sub", "sup"}
_BLOCK_TAGS = (
    _INLINE_TAGS
    | {
        "blockquote",
        "dd",
        "details",
        "dl",
        "dt",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "hr",
        "img",
        "li",
        "ol",
        "p",
    }
    | {"pre", "summary", "table", "tbody", "td", "tfoot", "th", "thead", "tr", "ul"}
)
_ATTRIBUTES = {
    "a": {"href", "title"},
    "img": {"src", "alt", "title", "width", "height"},
    "ol": {"start"},
    "td": {"align", "colspan", "rowspan"},
    "th": {"align", "colspan", "rowspan"},
}
_DROPPED_WHOLE = {
    "script",
    "style",
    "iframe",
    "object",
    "template",
    "noscript",
    "title",
    "textarea",
    "select",
}
_BARE_LINK = re.compile(r"(?i)https?://[^\s<>\"'`/][^\s<>\"'`]*")
_CLOSES = {")": "(", "]": "[", "}": "{"}  # closing bracket -> the one that opens it
_HEADING = re.compile(r"<(/?)h([1-6])>")


@lru_cache(maxsize=32)
def render_markdown(text: str, *, base: str = "", shift: int = 1) -> SafeString:
    """Return a text's HTML, with its headings `shift` levels lower, so that the page keeps its only h1.

    Relative links and pictures are resolved against `base`, such as `/namespace/name/resolve/main/`. A text
    too long to render within a request is shown as it was written.
    """
    if len(text) > LONGEST_RENDERED:
        return format_html("<pre>{}</pre>", replace_unstorable(text))
    html = _clean_html(_markdown_parser().render(replace_unstorable(text)), _BLOCK_TAGS, base)
    html = _HEADING.sub(lambda match: f"<{match[1]}h{min(6, int(match[2]) + shift)}>", html)
    return mark_safe(html)  # noqa: S308 - nh3 has cleaned it


@lru_cache(maxsize=512)
def render_inline(text: str) -> SafeString:
    """Return one line's HTML for a label or description: only emphasis, code and links."""
    html = _clean_html(_markdown_parser().renderInline(replace_unstorable(text)), _INLINE_TAGS, "")
    return mark_safe(html)  # noqa: S308 - nh3 has cleaned it


def plain_text(text: str) -> str:
    """Return a label without Markdown, for places that cannot show HTML."""
    tokens = _markdown_parser().parseInline(replace_unstorable(text))
    words = (
        child.content
        for token in tokens
        for child in token.children or ()
        if child.type in {"text", "code_inline"}
    )
    return " ".join("".join(words).split()) or text


@lru_cache(maxsize=1)
def _markdown_parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    parser.core.ruler.after("inline", "bare_links", _link_bare_addresses)
    parser.core.ruler.after("inline", "cell_alignment", _align_cells)
    return parser


def _clean_html(html: str, tags: set[str], base: str) -> str:
    def keep(element: str, attribute: str, value: str) -> str | None:
        if element == "img" and attribute == "src":
            address = _resolve_address(base, value)
            has_scheme = re.match(r"[a-zA-Z][a-zA-Z0-9+.-]*:", address)
            is_https_or_path = address.startswith("https://") or not has_scheme
            return address if is_https_or_path and not address.startswith("//") else None
        if element == "a" and attribute == "href" and base and not value.startswith("#"):
            return _resolve_address(base, value)
        return value

    return nh3.clean(
        html,
        tags=tags,
        clean_content_tags=_DROPPED_WHOLE,
        attributes={tag: names for tag, names in _ATTRIBUTES.items() if tag in tags},
        attribute_filter=keep,
        url_schemes={"http", "https", "mailto"},
        link_rel="nofollow noopener",
    )


def _resolve_address(base: str, address: str) -> str:
    try:
        return urljoin(base, address) if base else address
    except ValueError:  # an address such as http://[ that no client can follow
        return "#"


def _align_cells(state: StateCore) -> None:
    """Turn the alignment of table cells from a style, which the content policy forbids, into an attribute."""
    for token in state.tokens:
        if token.type in {"th_open", "td_open"} and (style := token.attrs.pop("style", None)):
            token.attrs["align"] = str(style).removeprefix("text-align:")


def _link_bare_addresses(state: StateCore) -> None:
    """Turn http(s) addresses in running text into links: some cards' whole prompt is one."""
    for block in state.tokens:
        if block.type == "inline" and block.children and "://" in block.content:
            block.children = list(_link_addresses_in(block.children))


def _link_addresses_in(children: list[Token]) -> Iterator[Token]:
    depth = 0
    for token in children:
        is_html_link = token.type == "html_inline" and re.match(r"</?a[\s>]", token.content, re.I)
        if token.type == "link_open" or (is_html_link and not token.content.startswith("</")):
            depth += 1
        elif token.type == "link_close" or is_html_link:
            depth = max(0, depth - 1)
        if token.type != "text" or depth:
            yield token
            continue
        end = 0
        for match in _BARE_LINK.finditer(token.content):
            if not (address := _without_punctuation(match[0])):
                continue
            yield _text_token(token.content[end : match.start()], token.level)
            yield Token("link_open", "a", 1, attrs={"href": address}, level=token.level)
            yield _text_token(address, token.level + 1)
            yield Token("link_close", "a", -1, level=token.level)
            end = match.start() + len(address)
        yield _text_token(token.content[end:], token.level)


def _without_punctuation(address: str) -> str:
    """Return an address without the punctuation that ends the sentence around it; "" if no host is left.

    A closing bracket belongs to the address if it opens there, as in
    `https://en.wikipedia.org/wiki/Base_(chemistry)`. This is the rule of GitHub Flavored Markdown, 6.9, for
    all three kinds of brackets.
    """
    unopened = {close: address.count(close) - address.count(opens) for close, opens in _CLOSES.items()}
    end = len(address)
    while end and (address[end - 1] in ".,;:!?*_" or unopened.get(address[end - 1], 0) > 0):
        if address[end - 1] in unopened:
            unopened[address[end - 1]] -= 1
        end -= 1
    return address[:end] if end > address.index("//") + 2 else ""


def _text_token(content: str, level: int) -> Token:
    return Token("text", "", 0, content=content, level=level)
