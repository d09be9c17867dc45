"""`./dev.py bench slow-input`: the CPU time that the worst known input of each kind costs now.

Cards are parsed where they are sent; Markdown is rendered on saving, in the process that saves and in a
child.
"""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator
from contextlib import suppress

from access_requests.cards import CardRefused, read_card
from access_requests.cards.bounds import ANONYMOUS, SIGNED_IN, CardBounds
from access_requests.cards.roles import is_opt_in, role_of
from access_requests.rendering.process import SHORT, Piece, render_all
from access_requests.strict_json import NotJson, read_json
from tests.bench.errors import BenchError

CARD = 2**19  # characters, the longest front matter that an owner can save
MARKDOWN = 2**18  # characters; anything longer is not read as Markdown
JSON = 2**20  # bytes, the size of a small body
LABEL = 1024


def main(arguments: list[str]) -> int:
    """Print the worst input of each kind with its CPU seconds; return the exit status."""
    if arguments:
        raise BenchError("bench slow-input takes no options.")
    for who, bounds in {"without a token": ANONYMOUS, "with a token, and owners": SIGNED_IN}.items():
        _worst(f"a card's front matter, {who}", _cards(bounds))
    _worst("a card's label", _labels())
    _worst("JSON of 1 MiB", _documents())
    _markdown(SHORT)
    _markdown(MARKDOWN)
    return 0


def _worst(what: str, costs: Iterator[tuple[str, float]]) -> None:
    name, seconds = max(costs, key=lambda cost: cost[1])
    print(f"{what}: {seconds:.3f} s of CPU at worst ({name})", flush=True)


def _cost(do: Callable[[], object]) -> float:
    before = resource.getrusage(resource.RUSAGE_SELF)
    with suppress(CardRefused, NotJson):
        do()
    after = resource.getrusage(resource.RUSAGE_SELF)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _cards(bounds: CardBounds) -> Iterator[tuple[str, float]]:
    size = min(bounds.front, CARD) - 100
    for name, unit in {
        "a list": "1,", "a nested list": "[", "words": "x ", "comments": "#\n", "escapes": "\\x41", "quotes": '"",',
    }.items():  # fmt: skip
        opened = 'a: "' if name == "escapes" else "a: x " if name in {"words", "comments"} else "a: ["
        yield name, _cost(lambda opened=opened, unit=unit: _read(opened + unit * (size // len(unit)), bounds))
    for name, line in {"lines": "- {}\n", "keys": "k{}: 1\n", "directives": "%TAG !a{}! tag:x\n", "anchors": "k{0}: &a{0} 1\n"}.items():  # fmt: skip
        text = "".join(line.format(n) for n in range(size // 10))[:size]
        yield name, _cost(lambda text=text: _read(text, bounds))
    labels = "".join(f"  {f'{n} ' + 'ﷺ' * 1000}: checkbox\n" for n in range(min(100, size // 1010)))
    yield "labels", _cost(lambda: _read(f"extra_gated_fields:\n{labels}", bounds))


def _read(front: str, bounds: CardBounds) -> object:
    return read_card(f"---\n{front}\n---\n", most_front=bounds.front, most_nodes=bounds.nodes)


def _labels() -> Iterator[tuple[str, float]]:
    for unit in ("ﷺ", "a", "[", "(", "agree ", "agree a-", "planned ", "同意", "first name ", "terms "):
        label = (unit * LABEL)[:LABEL]
        role_of(label, "checkbox")
        yield (
            unit.strip(),
            _cost(lambda label=label: (role_of(label, "text"), role_of(label, "checkbox"), is_opt_in(label))),
        )


def _documents() -> Iterator[tuple[str, float]]:
    for name, text in {
        "open lists": "[" * JSON, "closed lists": "[" * (JSON // 2) + "]" * (JSON // 2), "pairs": "[" + "[]," * (JSON // 3) + "1]",
        "numbers": "[" + "1," * (JSON // 2 - 2) + "1]", "escapes": '"' + "\\u0041" * (JSON // 6 - 2) + '"', "a number": "9" * JSON,
        "quotes": '"' * JSON, "strings": "[" + '"",' * (JSON // 3 - 2) + "1]",
    }.items():  # fmt: skip
        yield name, _cost(lambda text=text: read_json(text, largest=JSON + 100))


def _markdown(size: int) -> None:
    """Print the worst cost of one save, in the process that saves and in its child."""
    here, child = [], []
    for name, text in _shapes(size):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        here.append((name, _cost(lambda text=text: render_all([Piece("markdown", text)]))))
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        child.append((name, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime))
    _worst(f"Markdown of {size:,} characters, where it is saved", iter(here))
    _worst(f"Markdown of {size:,} characters, in a child", iter(child))


def _shapes(size: int) -> Iterator[tuple[str, str]]:
    for unit in (
        "![", "[", "a\n=\n", "- a\n", "[a\n", "[a](", "[a][", "*a_ ", "<a ", "<!--", "<div>\n\n", "<details>", "<a><div>",
        "`", "> ", ">", "&", "<http://a> ", "http://a ", "http://[", "http://a.", "://", "x\n", "a|b\n-|-\n", "    a\n", "1. a\n\n", "[a]: b\n", "**a", "\\",
    ):  # fmt: skip
        yield unit.replace("\n", "⏎"), (unit * (size // len(unit) + 1))[:size]
    width = size // 8
    yield (
        "a wide table",
        ("|" + "a|" * width + "\n|" + "-|" * width + "\n" + "a\n" * (size // 4))[:size],
    )
    yield "backticks", "".join("`" * n + "a" for n in range(1, int((2 * size) ** 0.5)))[:size]
    yield "quotes in quotes", "".join(">" * n + "\n" for n in range(1, int((2 * size) ** 0.5)))[:size]
    yield "one reference", (f"[a]: /{'x' * (size // 2)}\n\n" + "[a] " * size)[:size]
