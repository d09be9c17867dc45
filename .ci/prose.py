#!/usr/bin/env python3
"""Check the project's prose against `.ci/words.txt`.

On a refused word, exit with status 1 and say what to write. Read every tracked `*.py` (comments, docstrings
and other string literals), `*.md` and template, except migrations. Names are left alone: a literal of one
word without a capital, text in backticks, template tags (but not the text in `translate`), and any word that
is part of a path, an address, a key or an identifier. Standard library only.
"""

import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIST = ROOT / ".ci" / "words.txt"
OPENING = re.compile(r"(?i)^([a-z]*)('''|\"\"\"|'|\")")
FIELDS = re.compile(r"\{[^{}]*\}")  # of an f-string; before Python 3.12 the whole literal is one token
TRANSLATED = r"\{%\s*translate\s+[\"']|\{[{%][^{}]*?\b_\([\"']"  # up to the text, so that the text is checked
TAGS = re.compile(rf"{TRANSLATED}|\{{%.*?%\}}|\{{\{{.*?\}}\}}|\{{#|#\}}", re.DOTALL)
SPOKEN = r"(?:aria-label|title|alt|placeholder|value|content)"  # attributes that are shown or read out
MARKUP = re.compile(rf"<(?:script|style)\b.*?</(?:script|style)>|<[^>]*?\b{SPOKEN}=\"|<[^>]*>", re.DOTALL)
CODE = re.compile(r"```.*?```|``.+?``|`(?:[^`\n]|\n(?!\s*\n))*`", re.DOTALL)
LINKED = re.compile(r"\]\([^)\s]*\)")  # the address of a Markdown link


@dataclass(frozen=True)
class Words:
    """The word list: one pattern for all phrases, their replacements, and the files not covered."""

    pattern: re.Pattern[str]
    instead: dict[str, str]
    quoting: tuple[str, ...]


def read_words(text: str) -> Words:
    """Parse the word list in `text`.

    Allowed phrases are part of the pattern, so that they hide the refused words in them.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    quoting = tuple(line[1:].strip() for line in lines if line.startswith("!"))
    phrases = [line.partition(":") for line in lines if not line.startswith("!")]
    instead = {phrase.lower(): better.strip() for phrase, _, better in phrases}
    longest_first = sorted(instead, key=len, reverse=True)
    choices = "|".join(re.escape(phrase).replace(r"\ ", r"\s+") for phrase in longest_first)
    pattern = re.compile(rf"(?i)(?<![\w./:@$#=&?'\"*-])(?:{choices})(?![\w/=*(@-]|[.:'\"]\w(?<!'s)|'\]|\"\])")
    return Words(pattern, instead, quoting)


def texts(path: str, source: str) -> Iterator[tuple[int, str]]:
    """Yield the parts of a file that people read, each with the line on which it begins."""
    if path.endswith(".py"):
        yield from _python(source)
    elif path.endswith(".md"):
        yield 1, _blank(LINKED, _blank(CODE, source))
    else:
        yield 1, _blank(MARKUP, _blank(TAGS, source))


def _python(source: str) -> Iterator[tuple[int, str]]:
    """Yield comments and literals.

    Neighbouring tokens are not joined, so a phrase split between two literals is missed.
    """
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        kind = tokenize.tok_name[token.type]
        text = _literal(token.string) if kind == "STRING" else token.string
        if kind == "COMMENT" or (kind in ("STRING", "FSTRING_MIDDLE") and (" " in text or text.istitle())):
            yield token.start[0], _blank(CODE, text)


def _literal(written: str) -> str:
    """Return the text between the quotes of a literal, without the replacement fields of an f-string."""
    opening = OPENING.match(written)
    assert opening is not None  # noqa: S101 - the tokenizer found a literal
    text = written[opening.end() : -len(opening[2])]
    return _blank(FIELDS, text) if "f" in opening[1].lower() else text


def _blank(pattern: re.Pattern[str], text: str) -> str:
    """Replace every match by a placeholder that is part of no phrase; keep line ends."""
    return pattern.sub(lambda found: "\ue000" + "\n" * found[0].count("\n"), text)


def faults(path: str, source: str, words: Words) -> Iterator[str]:
    """Yield a line for each refused phrase of a file."""
    for first, text in texts(path, source):
        for found in words.pattern.finditer(text):
            phrase = " ".join(found[0].lower().split())
            if words.instead[phrase]:
                line = first + text.count("\n", 0, found.start())
                better = ", ".join(f'"{one.strip()}"' for one in words.instead[phrase].split(","))
                yield f'{path}:{line}: "{phrase}": write {better}'


def tracked() -> list[str]:
    """Return the tracked files; in a folder that is not a checkout, the files that a checkout would track."""
    kinds = ("**/*.py", "**/*.md", "templates/**/*")
    try:
        listed = subprocess.run(
            ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
        )
        paths = {Path(path) for path in listed.stdout.split("\0") if path}
    except (OSError, subprocess.CalledProcessError):
        paths = {path.relative_to(ROOT) for kind in kinds for path in ROOT.glob(kind)}
        paths = {path for path in paths if not any(part.startswith(".") for part in path.parts)}
    read = (path for path in paths if path.suffix in (".py", ".md") or path.parts[0] == "templates")
    return sorted(str(path) for path in read if "migrations" not in path.parts and (ROOT / path).is_file())


def main() -> int:
    """Print every fault and return the exit status."""
    words = read_words(LIST.read_text("utf-8"))
    found = [
        fault
        for path in tracked()
        if not path.startswith(words.quoting)
        for fault in faults(path, (ROOT / path).read_text("utf-8"), words)
    ]
    print("\n".join(found), end="\n" if found else "")  # noqa: T201
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
