"""Check file names of a repository, and apply a .gitignore to them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from access_requests.errors import Invalid

LONGEST = 500  # characters, the limit of the database column
MOST_RULES = 1000
MOST_WORK = 50_000_000  # characters read by all rules together: one or two seconds at worst
RULE = (
    "a path is written as folder/name, of at most 500 printable characters, without '.', '..' or '.git' as a "
    "part, without a backslash and without a slash at either end"
)


def check_path(path: object) -> str:
    """Return the path if a file may have it. Raises `Invalid` with the rule."""
    if not (
        isinstance(path, str)
        and 0 < len(path) <= LONGEST
        and all(character.isprintable() for character in path)
        and "\\" not in path
        and all(part not in {"", ".", ".."} and part.casefold() != ".git" for part in path.split("/"))
        and all(len(part.encode()) <= 255 for part in path.split("/"))
    ):
        shown = path[:100] if isinstance(path, str) else type(path).__name__
        raise Invalid(f"{shown!r} cannot be a file's name here: {RULE}.", field="path")
    return path


def check_together(paths: Iterable[str]) -> None:
    """Refuse names that cannot be in one folder on every system: equal except for case, or both file and folder."""
    seen: dict[str, str] = {}
    for path in sorted(paths):
        parts = path.split("/")
        for depth in range(1, len(parts)):
            _note_name(seen, "/".join(parts[:depth]) + "/")
        _note_name(seen, path)


def _note_name(seen: dict[str, str], name: str) -> None:
    """Record a name; it ends in a slash for a folder."""
    alike = unicodedata.normalize("NFC", name.rstrip("/")).casefold()
    before = seen.setdefault(alike, name)
    if before != name:
        raise Invalid(
            f"{before!r} and {name!r} cannot be in one repository: they are one name where case does not count, "
            "or one is a file and the other a folder; rename one of them.",
            field="path",
        )


class Ignored:
    """The rules of one .gitignore; the last rule that matches a path decides."""

    def __init__(self, text: str) -> None:
        lines = (line.rstrip("\r") for line in text.split("\n", MOST_RULES)[:MOST_RULES])
        self._rules = [rule for line in lines if (rule := _parse_rule(line))]
        self._known: dict[str, bool] = {}
        self._left = MOST_WORK

    def __contains__(self, path: str) -> bool:
        parts = path.split("/")
        above = ["/".join(parts[:depth]) + "/" for depth in range(1, len(parts))]
        for name in [*above, path]:
            if name not in self._known:  # folders are checked again for each file in them
                self._left -= len(name) * len(self._rules)
                if self._left < 0:
                    raise Invalid(
                        f"{len(self._rules)} rules of .gitignore are too many for these names: shorten it."
                    )
                base = name[name.rstrip("/").rfind("/") + 1 :]
                fits = [rule.ignores for rule in self._rules if rule.fits(name, base)]
                self._known[name] = bool(fits) and fits[-1]
            if self._known[name]:
                return True
        return False


@dataclass(frozen=True)
class Rule:
    """A pattern for full names, or for their last parts if it is not `anchored`; a folder's name ends in a slash."""

    pattern: re.Pattern[str]
    ignores: bool
    anchored: bool

    def fits(self, name: str, base: str) -> bool:
        return self.pattern.fullmatch(name if self.anchored else base) is not None


@lru_cache(maxsize=1024)
def _parse_rule(line: str) -> Rule | None:
    bare = line.rstrip(" ")
    body = f"{bare} " if bare.endswith("\\") and bare != line else bare  # an escaped space at the end stays
    if not 0 < len(body) <= LONGEST or body.startswith("#"):
        return None
    ignores = not body.startswith("!")
    body = body.removeprefix("!")
    folders_only = body.endswith("/")
    body = body.rstrip("/")
    if not body:
        return None
    expression = _rule_expression(body.removeprefix("/").split("/")) + ("/" if folders_only else "/?")
    try:
        return Rule(re.compile(expression), ignores, anchored="/" in body)
    except re.error:  # a reversed range
        return None


PIECE = re.compile(r"\*+|\?|\[!?[^]/]+\]|\\.|.")
RANGE_OR_ONE = re.compile(r"(.)-(.)|(.)")


def _rule_expression(parts: Sequence[str]) -> str:
    """Return a rule as one regular expression that runs in time proportional to its length and the name's.

    The text between two stars, or two `**/`, has a fixed length. So its first match is as good as a later one, and an
    atomic group stops the search from trying later ones.
    """
    runs: list[list[str]] = [[]]
    for part in parts:
        if part == "**" and len(parts) > 1:
            runs.append([])
        else:
            runs[-1].append(_part_expression(part))
    first, *others = ("/".join(run) for run in runs)
    if not others:
        return first
    *between, last = others
    found = "".join(f"(?>(?:[^/]+/)*?{run}/)" for run in between if run)
    return (f"{first}/" if first else "") + found + (f"(?:[^/]+/)*{last}" if last else ".+")


def _part_expression(glob: str) -> str:
    chunks = [""]
    for found in PIECE.finditer(glob):
        piece = found[0]
        if piece.startswith("*"):
            chunks.append("")
        elif piece == "?":
            chunks[-1] += "[^/]"
        elif len(piece) > 2:
            inside = RANGE_OR_ONE.sub(_range_or_one, piece[1:-1].removeprefix("!"))
            chunks[-1] += f"[^/{inside}]" if piece[1] == "!" else f"[{inside}]"
        else:
            chunks[-1] += re.escape(piece[-1])
    first, *others = chunks
    if not others:
        return first
    *between, last = others
    return first + "".join(f"(?>[^/]*?{chunk})" for chunk in between) + f"[^/]*{last}"


def _range_or_one(found: re.Match[str]) -> str:
    return re.escape(found[3]) if found[3] else f"{re.escape(found[1])}-{re.escape(found[2])}"
