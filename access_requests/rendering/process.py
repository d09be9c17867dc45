"""Render Markdown from strangers once, when it is saved, at a bounded cost whatever it contains.

Short texts are rendered here: even the worst take a fraction of a second. Everything else goes to a child
process that has limits on CPU time and memory, gets nothing of the portal's environment, and can only print
HTML. A text that reaches a limit is shown as it was written.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from access_requests.rendering.markdown import plain_text, render_inline, render_markdown
from access_requests.storable_text import replace_unstorable

log = logging.getLogger(__name__)

SHORT = 4096  # characters of all texts together; the worst of them take 0.1 s
FEW_CELLS = 2000  # cells of a table: its widest line times its lines, since markdown-it fills up rows
CPU = 5  # seconds for one child, for all texts of one save
WALL = 60.0  # seconds that a child may take on a busy machine; the child limits its own CPU time
ROOT = Path(__file__).resolve().parents[2]
CHILD = (
    "import sys; sys.path.insert(0, sys.argv[1]); from access_requests.rendering.child import main; main()"
)
_children = threading.BoundedSemaphore(2)


@dataclass(frozen=True)
class Piece:
    """One text and how to render it: as a page's `markdown`, as `inline` HTML or as `plain` text."""

    kind: str
    text: str
    base: str = ""
    shift: int = 1


@dataclass(frozen=True)
class Rendered:
    """The HTML of each piece; None for those that reached a limit.

    `later`: no child could run, so try again.
    """

    texts: Sequence[str | None]
    later: bool = False


def render(piece: Piece) -> str:
    """Return a piece's HTML without any limit: only for short texts, and in the child."""
    if piece.kind == "markdown":
        return str(render_markdown(piece.text, base=piece.base, shift=piece.shift))
    return str(render_inline(piece.text)) if piece.kind == "inline" else plain_text(piece.text)


def render_all(pieces: Sequence[Piece], *, cpu: int = CPU) -> Rendered:
    """Return the pieces' HTML; takes little more than `cpu` seconds at most.

    Call it before a transaction begins, and never while a page is rendered.
    """
    if is_cheap(pieces):
        return Rendered([render(piece) for piece in pieces])
    done, later = _render_in_child(pieces, cpu)
    texts = [done[at] if at < len(done) else None for at in range(len(pieces))]
    left = [at for at, piece in enumerate(pieces) if at > len(done) and is_cheap([piece])]
    budget = SHORT
    for at in left:  # short texts after the one that reached the limit
        budget -= len(pieces[at].text)
        if budget >= 0:
            texts[at] = render(pieces[at])
    return Rendered(texts, later)


def is_cheap(pieces: Sequence[Piece]) -> bool:
    """Return whether the pieces can be rendered here: few characters, and no table with many cells."""
    if sum(len(piece.text) for piece in pieces) > SHORT:
        return False
    cells = (
        max(line.count("|") for line in piece.text.split("\n")) * piece.text.count("\n") for piece in pieces
    )
    return sum(cells) <= FEW_CELLS


def as_written(piece: Piece) -> str:
    """Return the safe text of a piece that is not rendered."""
    text = replace_unstorable(piece.text)
    if piece.kind == "markdown":
        return f"<pre>{escape(text)}</pre>"
    words = " ".join(text.split())
    return words if piece.kind == "plain" else escape(words)


def _render_in_child(pieces: Sequence[Piece], cpu: int) -> tuple[list[str | None], bool]:
    """Return what a child printed before it ended, and whether it stopped for a reason other than the texts."""
    asked = json.dumps([[piece.kind, piece.text, piece.base, piece.shift] for piece in pieces])
    if not _children.acquire(timeout=WALL):
        return [], True
    try:
        process = subprocess.run(
            [sys.executable, "-I", "-X", "utf8", "-c", CHILD, str(ROOT), str(cpu)],
            input=asked.encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={},
            cwd="/",
            timeout=WALL,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        log.warning("Markdown was not rendered and will be tried again: %s", type(error).__name__)
        return [], True
    finally:
        _children.release()
    if process.returncode > 0:  # it ended before it reached the texts
        log.warning(
            "Markdown was not rendered and will be tried again: a child ended with %s", process.returncode
        )
        return [], True
    lines = process.stdout.split(b"\n")[:-1]  # whatever follows the last line end is incomplete
    return [json.loads(line) for line in lines], False
