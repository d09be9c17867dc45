"""Which names a repository takes, and which of them a .gitignore leaves out."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache

from access_requests.errors import Invalid

LONGEST = 500  # characters, as the database has room for
MOST_RULES = 1000
MOST_STARS = 8  # of one rule; more would let a rule take seconds
RULE = (
    "a path is written as folder/name, of at most 500 printable characters, without '.', '..' or '.git' as a "
    "part, without a backslash and without a slash at either end"
)


def check_path(path: object) -> str:
    """The path if a file may have it, else `Invalid` with the rule."""
    if not isinstance(path, str) or not _is_usable(path):
        shown = path[:100] if isinstance(path, str) else type(path).__name__
        raise Invalid(f"{shown!r} cannot be a file's name here: {RULE}.", field="path")
    return path


def _is_usable(path: str) -> bool:
    parts = path.split("/")
    return (
        0 < len(path) <= LONGEST
        and all(character.isprintable() for character in path)
        and "\\" not in path
        and all(part not in {"", ".", ".."} and part.casefold() != ".git" for part in parts)
        and all(len(part.encode()) <= 255 for part in parts)
    )


def check_together(paths: Iterable[str]) -> None:
    """Refuses names that cannot lie in one folder on every system: alike but for case, or a file that is a folder."""
    seen: dict[str, str] = {}
    for path in sorted(paths):
        parts = path.split("/")
        for depth in range(1, len(parts)):
            _note(seen, "/".join(parts[:depth]) + "/")
        _note(seen, path)


def _note(seen: dict[str, str], name: str) -> None:
    """`name` ends in a slash for a folder."""
    alike = unicodedata.normalize("NFC", name.rstrip("/")).casefold()
    before = seen.setdefault(alike, name)
    if before != name:
        raise Invalid(
            f"{before!r} and {name!r} cannot be in one repository: they are one name where case does not count, "
            "or one is a file and the other a folder; rename one of them.",
            field="path",
        )


class Ignored:
    """The rules of one .gitignore; the last one that fits a path decides."""

    def __init__(self, text: str) -> None:
        lines = (line.rstrip("\r\n") for line in text.splitlines()[:MOST_RULES])
        self._rules = [rule for line in lines if (rule := _rule(line))]

    def __contains__(self, path: str) -> bool:
        parts = path.split("/")
        above = ["/".join(parts[:depth]) + "/" for depth in range(1, len(parts))]
        return any(self._last_word(name) for name in [*above, path])

    def _last_word(self, name: str) -> bool:
        ignored = False
        for pattern, verdict in self._rules:
            if pattern.fullmatch(name):
                ignored = verdict
        return ignored


@lru_cache(maxsize=1024)
def _rule(line: str) -> tuple[re.Pattern[str], bool] | None:
    """One line as a pattern over `folder/` and `file` names, and whether what fits is left out."""
    line = re.sub(r"(?<!\\) +$", "", line)[:LONGEST]
    if not line or line.startswith("#"):
        return None
    verdict = not line.startswith("!")
    body = line.removeprefix("!").removeprefix("\\")
    folders_only = body.endswith("/")
    body = body.rstrip("/")
    if not body or len(re.findall(r"\*+", body)) > MOST_STARS:
        return None
    anchored = "/" in body
    expression = "" if anchored else "(?:.*/)?"
    expression += _translated(body.removeprefix("/")) + ("/" if folders_only else "/?")
    try:
        return re.compile(expression), verdict
    except re.error:  # a range the wrong way round
        return None


GLOBS = {"**/": "(?:[^/]+/)*", "/**": "/.+", "**": ".*", "*": "[^/]*", "?": "[^/]"}
ESCAPED_DASH = "\\-"
PIECE = re.compile(r"\*\*/|/\*\*$|\*+|\?|\[!?[^]/]+\]|\\.|.")


def _translated(glob: str) -> str:
    out = []
    for found in PIECE.finditer(glob):
        piece = found[0]
        if piece in GLOBS:
            out.append(GLOBS[piece])
        elif piece.startswith("*"):
            out.append("[^/]*")
        elif len(piece) > 2 and piece.startswith("["):
            inside = piece[1:-1].removeprefix("!")
            negated = "^/" if piece[1] == "!" else ""
            out.append(f"[{negated}{re.escape(inside).replace(ESCAPED_DASH, '-')}]")
        else:
            out.append(re.escape(piece[-1] if piece.startswith("\\") else piece))
    return "".join(out)
