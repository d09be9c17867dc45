#!/usr/bin/env python3
"""Check that the visible text of every template is marked for translation; exit with status 1 if not.

Read every file under `templates/` and refuse letters outside of `translate` and `blocktranslate`: in text, in
attributes that are shown or read out, and in the argument of `default`. Code, comments and names are left
alone. In a text email an indented line is code. `pluralize` is refused as well: other languages have other
plurals (use `blocktranslate count`).
"""

import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

from django.template.base import Lexer, TokenType

ROOT = Path(__file__).resolve().parent.parent
LETTER = re.compile(r"[^\W\d_]")
NAMES = re.compile(r"\b(?:Gatehouse|UTC|SHA-256|ORCID iD)\b")
SPOKEN = {"title", "alt", "placeholder", "aria-label", "data-label", "data-copy-label"}
BUTTONS = {"submit", "button", "reset"}  # types of an <input> that shows its value
CODE = {"code", "pre", "kbd", "script", "style"}
CLOSED_BY = {"blocktranslate": "endblocktranslate", "comment": "endcomment", "block width": "endblock"}
VALUE = "\ue000"  # replaces `{{ ... }}`; not a letter
NO_PROSE = re.compile(rf"(?m)^(?: {{4}}.*|Subject:)|{VALUE}/\S*")  # in an email: code, its header, addresses
FILTERS = re.compile(r"""\|(?:pluralize\b|(?:default|default_if_none|yesno):(["'])[^"']*?[^\W\d_].*?\1)""")


def faults(path: str, source: str) -> Iterator[str]:
    """Yield a line for each text in a template that is not marked."""
    rest, in_filters = _unmarked(source)
    found = _Html(rest).found if path.endswith(".html") else _lines(rest)
    for line, text in sorted([*found, *in_filters]):
        yield f"{path}:{line}: {' '.join(text.split())!r}: mark it with translate or blocktranslate"


def _unmarked(source: str) -> tuple[str, list[tuple[int, str]]]:
    """Return the template without tags and marked texts, on the same lines, and its filters' texts."""
    kept, in_filters, until = "", [], ""
    for token in Lexer(source).tokenize():
        kept += "\n" * (token.lineno - 1 - kept.count("\n"))
        if token.token_type in (TokenType.VAR, TokenType.BLOCK):
            in_filters += [(token.lineno, found[0]) for found in FILTERS.finditer(token.contents)]
        if until:
            until = "" if token.contents.split()[:1] == [until] else until
        elif token.token_type == TokenType.TEXT:
            kept += token.contents
        elif token.token_type == TokenType.VAR:
            kept += VALUE
        elif token.token_type == TokenType.BLOCK:
            words = token.contents.split()
            until = CLOSED_BY.get(words[0], CLOSED_BY.get(" ".join(words[:2]), ""))
    return kept, in_filters


def _lines(text: str) -> list[tuple[int, str]]:
    """Return the lines of a text email that contain letters, with their numbers."""
    text = NO_PROSE.sub("", text)
    return [(number, line) for number, line in enumerate(text.split("\n"), 1) if _is_read(line)]


def _is_read(text: str) -> bool:
    return LETTER.search(NAMES.sub("", text)) is not None


class _Html(HTMLParser):
    """A parser that collects the texts and attributes of a page that contain letters, with line numbers."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[int, str]] = []
        self._code = 0
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._code += tag in CODE
        shown = SPOKEN | {"value"} if tag == "input" and dict(attrs).get("type") in BUTTONS else SPOKEN
        for name, value in attrs:
            if name in shown and value and _is_read(value):
                self.found.append((self.getpos()[0], value))

    def handle_endtag(self, tag: str) -> None:
        self._code -= tag in CODE

    def handle_data(self, data: str) -> None:
        if not self._code and _is_read(data):
            before = data[: len(data) - len(data.lstrip())]
            self.found.append((self.getpos()[0] + before.count("\n"), data))


def main() -> int:
    """Print every fault and return the exit status."""
    paths = sorted(path for path in (ROOT / "templates").rglob("*") if path.is_file())
    found = [
        fault for path in paths for fault in faults(str(path.relative_to(ROOT)), path.read_text("utf-8"))
    ]
    print("\n".join(found), end="\n" if found else "")  # noqa: T201
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
