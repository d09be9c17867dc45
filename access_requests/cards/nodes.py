"""Parse YAML front matter into a small tree of nodes that know their line and keep every scalar as written.

libyaml's parser yields events one by one, and the tree is built here, so that aliases, duplicate keys, deep
nesting and too many values are refused as soon as they appear, before anything walks or prints the data. Tags
are ignored: they never create Python objects. PyYAML's own parser is not used, since it takes 30 times as
long for the same text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from access_requests.storable_text import is_storable

from .refusal import CardRefused, said_twice, shown

if not yaml.__with_libyaml__:
    raise ImportError("PyYAML was built without libyaml: install its wheel, as the lock file does.")

MAX_DEPTH = 24
MAX_NODES = 50_000  # keys, values, lists and maps; the largest tables of results in cards have 20,000
MAX_DIRECTIVES = 10  # lines that start with %; libyaml compares each with all those before it
_CONTROL = re.compile(r"[^\x09\x0a\x0d\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_DIRECTIVE = re.compile(r"^%", re.MULTILINE)
_INDENTATION = re.compile(r"[ \t]*")
TAB = "a tab is used for indentation; use spaces."


@dataclass(frozen=True)
class Scalar:
    """A piece of text; `plain` if written without quotes, so that an empty one means *nothing written*."""

    line: int
    text: str
    plain: bool

    @property
    def is_empty(self) -> bool:
        """Return whether it is empty, or YAML's null written without quotes."""
        return not self.text.strip() or (self.plain and self.text in {"~", "null", "Null", "NULL"})


@dataclass(frozen=True)
class Items:
    """A YAML list."""

    line: int
    nodes: tuple[Node, ...]


@dataclass(frozen=True)
class Pairs:
    """A YAML map, in file order; its keys are scalars without duplicates."""

    line: int
    pairs: tuple[tuple[Scalar, Node], ...]


Node = Scalar | Items | Pairs


def plain_data(node: Node) -> Any:
    """Return the node as strings, lists and dicts, which JSON can hold."""
    if isinstance(node, Scalar):
        return node.text
    if isinstance(node, Items):
        return [plain_data(item) for item in node.nodes]
    return {key.text: plain_data(value) for key, value in node.pairs}


def read_nodes(yaml_text: str, first_line: int, *, most_nodes: int = MAX_NODES) -> Node | None:
    """Parse one YAML document that starts on `first_line` of the card; return None if it is empty.

    Parsing stops at the first thing that is refused, such as one value more than `most_nodes`. Raises
    CardRefused for anything that is not one plain document.
    """
    builder = _Builder(yaml_text, first_line, most_nodes)
    builder.check_characters()
    try:
        return builder.document()
    except yaml.MarkedYAMLError as error:
        raise builder.refusal(error) from None
    except (yaml.reader.ReaderError, ValueError, OverflowError) as error:
        if isinstance(error, CardRefused):
            raise
        line = builder.last_line
        raise CardRefused("an escape or number is beyond what YAML allows; correct it.", line) from None


class _Builder:
    """Builds the tree from parser events and finds the card's line for each."""

    def __init__(self, yaml_text: str, first_line: int, most_nodes: int) -> None:
        self.text = yaml_text
        self.most_nodes = most_nodes
        self.nodes = 0
        self.first_line = first_line
        self.last_line = first_line
        self.counted_to = 0

    def line_at(self, index: int) -> int:
        """Return a character's line in the card, counting newlines like an editor, not YAML's line breaks."""
        if index >= self.counted_to:
            self.last_line += self.text.count("\n", self.counted_to, index)
            self.counted_to = index
            return self.last_line
        return self.last_line - self.text.count("\n", index, self.counted_to)

    def check_characters(self) -> None:
        """Refuse control characters and too many directives before the parser sees them."""
        if found := _CONTROL.search(self.text):
            sentence = f"it holds the control character U+{ord(found[0]):04X}; remove it."
            raise CardRefused(sentence, self.line_at(found.start()))
        for number, found in enumerate(_DIRECTIVE.finditer(self.text), 1):
            if number > MAX_DIRECTIVES:
                sentence = "too many lines start with `%`; a card needs no YAML directives, remove them."
                raise CardRefused(sentence, self.line_at(found.start()))

    def refusal(self, error: yaml.MarkedYAMLError) -> CardRefused:
        """Return PyYAML's problem as a refusal; an open construct is reported at the line that opened it."""
        problem, context = error.problem or "", error.context or ""
        opened, sentence = next(row[2:] for row in _PROBLEMS if row[0] in problem and row[1] in context)
        mark = (error.context_mark if opened else None) or error.problem_mark or error.context_mark
        if mark and not opened and self.is_indented_by_tab(mark.index):
            sentence = TAB
        return CardRefused(sentence.format(problem=problem), self.line_at(mark.index) if mark else None)

    def is_indented_by_tab(self, index: int) -> bool:
        """Return whether the line of a character has a tab in its indentation."""
        start = self.text.rfind("\n", 0, index) + 1
        found = _INDENTATION.match(self.text, start)
        return found is not None and "\t" in found[0]

    def document(self) -> Node | None:
        """Build the tree of the only document in the text."""
        events = self.events()
        root: Node | None = None
        documents = 0
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    sentence = "a second YAML document starts here; keep one between the two `---` lines."
                    raise CardRefused(sentence, self.line_of(event))
            elif isinstance(event, yaml.NodeEvent):
                root = self.node(event, events, depth=1)
        if isinstance(root, Scalar) and root.is_empty:
            return None
        return root

    def events(self) -> Iterator[yaml.Event]:
        """Yield parser events, refusing anchors and aliases, since a few can expand to millions of items."""
        for event in yaml.parse(self.text, Loader=yaml.CBaseLoader):
            if isinstance(event, yaml.NodeEvent) and event.anchor is not None:
                sign, kind = ("*", "alias") if isinstance(event, yaml.AliasEvent) else ("&", "anchor")
                raise CardRefused(
                    f"{shown(sign + event.anchor)} is a YAML {kind}, which is not accepted; "
                    f"write the text out, or put it in quotes if it should start with `{sign}`.",
                    self.line_of(event),
                )
            if isinstance(event, yaml.NodeEvent):
                self.count(event)
            yield event

    def count(self, event: yaml.Event) -> None:
        """Refuse the first node over the limit; nothing after it is parsed."""
        self.nodes += 1
        if self.nodes > self.most_nodes:
            sentence = (
                f"the front matter has more than {self.most_nodes:,} keys and values; move tables, such as "
                "results, into other files."
            )
            raise CardRefused(sentence, self.line_of(event))

    def line_of(self, event: yaml.Event) -> int:
        """Return the card's line on which an event starts."""
        return self.line_at(event.start_mark.index) if event.start_mark else self.last_line

    def node(self, event: yaml.Event, events: Iterator[yaml.Event], depth: int) -> Node:
        """Build the node that starts with `event`, reading its contents from `events`."""
        line = self.line_of(event)
        if depth > MAX_DEPTH:
            raise CardRefused(f"it is nested more than {MAX_DEPTH} levels deep; flatten it.", line)
        if isinstance(event, yaml.ScalarEvent):
            return self.scalar(event)
        if isinstance(event, yaml.SequenceStartEvent):
            return Items(line, tuple(self.items(events, depth)))
        return Pairs(line, tuple(self.pairs(events, depth)))

    def scalar(self, event: yaml.ScalarEvent) -> Scalar:
        """Keep a scalar as written; refuse an escape for a character that no text can hold."""
        line = self.line_of(event)
        if not is_storable(event.value):
            raise CardRefused("an escape here stands for a character that no text can hold; remove it.", line)
        return Scalar(line, event.value, plain=not event.style)

    def items(self, events: Iterator[yaml.Event], depth: int) -> Iterator[Node]:
        """Yield a list's items."""
        for event in events:
            if isinstance(event, yaml.SequenceEndEvent):
                return
            yield self.node(event, events, depth + 1)

    def pairs(self, events: Iterator[yaml.Event], depth: int) -> Iterator[tuple[Scalar, Node]]:
        """Yield a map's keys and values; refuse a key that is not text or that occurred before."""
        seen: dict[str, int] = {}
        for event in events:
            if isinstance(event, yaml.MappingEndEvent):
                return
            if not isinstance(event, yaml.ScalarEvent):
                sentence = "a label must be text; fill in the template's `{...}` or put the label in quotes."
                raise CardRefused(sentence, self.line_of(event))
            key = self.scalar(event)
            name = key.text.strip()
            if name in seen:
                raise CardRefused(said_twice(shown(name), seen[name]), key.line)
            seen[name] = key.line
            yield key, self.node(next(events), events, depth + 1)


# (in PyYAML's problem, in its context, use the construct's opening line, sentence); the last always fits.
_PROBLEMS = (
    ("tab character", "", False, TAB),
    (
        "that cannot start any token",
        "",
        False,
        "text here starts with a sign that YAML reserves (such as @, ` or %); put it in quotes.",
    ),
    (
        "mapping values are not allowed",
        "",
        False,
        "a colon and a blank stand inside text without quotes, or the indentation is off; quote the text.",
    ),
    ("end of stream", "quoted scalar", True, "a quotation mark opened here is never closed; close it."),
    (
        "could not find expected ':'",
        "",
        True,
        "a colon after the label is missing, or the label is over 1,024 characters (put `? ` before it).",
    ),
    ("", "scanning an alias", True, "text that starts with `*` must be in quotes."),
    ("", "scanning an anchor", True, "text that starts with `&` must be in quotes."),
    (
        "",
        "block mapping",
        False,
        "the indentation does not fit the lines above, or a quote or dash is out of place; align it.",
    ),
    ("", "block collection", False, "the indentation does not fit the list above; align it."),
    ("", "", False, "it is not valid YAML ({problem}); correct it."),
)
