"""Read publications as applicants type them: DOIs, arXiv ids or links, one per line, checked for form only."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

MAX_PUBLICATIONS = 100
MAX_LINK = 2_000
MAX_PROBLEMS = 10

_DOI = re.compile(r"(?:doi:\s*|https?://(?:dx\.)?doi\.org/)?(10\.\d{4,9}(?:\.\d+)*/[^\s\"<>]+)", re.I)
_ARXIV = re.compile(
    r"(?:arxiv:\s*|https?://(?:www\.|export\.)?arxiv\.org/(?:abs|pdf|html)/)?"
    r"(\d\d(?:0[1-9]|1[0-2])\.\d{4,5}|[a-z-]+(?:\.[a-z]{2})?/\d\d(?:0[1-9]|1[0-2])\d{3})(v\d{1,3})?(?:\.pdf)?",
    re.I,
)
_BULLET = re.compile(r"(?:[-*•–]|\(?\d{1,3}[.)]|\[\d{1,3}\])\s+")
_NONE = frozenset(
    {
        "none",
        "none yet",
        "no",
        "n/a",
        "na",
        "nil",
        "nothing",
        "not applicable",
        "no publications",
        "-",
        "–",
        "—",
    }
    | {"keine", "aucune", "ninguna", "nessuna", "无", "無", "没有", "なし", "없음"}
)


def says_none(text: str) -> bool:
    """Return whether the whole text says that there are no publications."""
    return text.strip().casefold().rstrip(".。!") in _NONE


def parse_publications(text: str) -> tuple[list[str], list[str]]:
    """Return the publications in a uniform spelling, without repeats, and a sentence for each bad line.

    A DOI is returned as `10.…/…`, an arXiv id as `arXiv:…`, a link as it was written. "none" and the like
    give an empty list.
    """
    if says_none(text):
        return [], []
    found: dict[str, None] = {}
    problems: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        entries = _publications_in_line(line)
        if entries is not None:
            found.update(dict.fromkeys(entries))
            continue
        shown = " ".join(line.split())
        shown = f"{shown[:79]}…" if len(shown) > 80 else shown
        sentence = _(
            "Line %(number)d, “%(line)s”, is no DOI, arXiv id or link: "
            "write it like 10.1000/xyz123, arXiv:2306.04751 or https://example.org/paper."
        )
        problems.append(sentence % {"number": number, "line": shown})
    if len(found) > MAX_PUBLICATIONS:
        problems.append(
            _(
                "There are %(count)d publications, but at most %(most)d are allowed: keep the most important ones."
            )
            % {"count": len(found), "most": MAX_PUBLICATIONS}
        )
    if len(problems) > MAX_PROBLEMS:
        more = len(problems) - MAX_PROBLEMS
        problems = [
            *problems[:MAX_PROBLEMS],
            ngettext(
                "%(count)d more line is not valid either: write one DOI, arXiv id or link per line.",
                "%(count)d more lines are not valid either: write one DOI, arXiv id or link per line.",
                more,
            )
            % {"count": more},
        ]
    return list(found), problems


def _publications_in_line(line: str) -> list[str] | None:
    """Return the publications of one line, separated by commas or spaces; None if one is bad."""
    line = _BULLET.sub("", line.strip(), count=1).strip()
    if not line or says_none(line):
        return []
    if (whole := _read_publication(line)) is not None:
        return [whole]
    parts = [_read_publication(part) for part in re.split(r"[\s,;]+", line) if part]
    return [part for part in parts if part is not None] if parts and None not in parts else None


def _read_publication(text: str) -> str | None:
    """Return a DOI, an arXiv id or a link in a uniform spelling; None if the text is none of them."""
    text = text.strip(" <>").rstrip(",;")
    text = text.removesuffix(".")
    if match := _DOI.fullmatch(text):
        return match[1]
    if match := _ARXIV.fullmatch(text):
        return f"arXiv:{match[1]}{(match[2] or '').lower()}"
    if len(text) > MAX_LINK or re.search(r"[\s<>\"\\\x00-\x1f]", text):
        return None
    try:
        parts = urlsplit(text)
        host, _port = parts.hostname or "", parts.port
    except ValueError:
        return None
    is_web_link = parts.scheme.lower() in {"http", "https"} and re.fullmatch(r"[^.@\s]+(?:\.[^.@\s]+)+", host)
    return text if is_web_link else None
