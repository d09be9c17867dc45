"""Set the type and name of a file in the response, however it is delivered."""

from __future__ import annotations

from urllib.parse import quote

# Served as plain text: the portal must never serve an uploaded file as HTML or script from its own origin.
TEXT_SUFFIXES = frozenset(
    [
        "cfg",
        "css",
        "csv",
        "gitattributes",
        "html",
        "htm",
        "jinja",
        "js",
        "json",
        "jsonl",
        "md",
        "py",
        "rst",
        "sh",
        "svg",
        "text",
        "toml",
        "tsv",
        "txt",
        "xml",
        "yaml",
        "yml",
    ]
)


def content_type(path: str) -> str:
    """Return plain text or bytes, never a type that a browser would run."""
    name = path.rpartition("/")[2]
    is_text = name.rpartition(".")[2].lower() in TEXT_SUFFIXES or "." not in name
    return "text/plain; charset=utf-8" if is_text else "application/octet-stream"


def disposition(path: str) -> str:
    """Return `inline`, as the Hub does, with the name quoted so that it can't break out of the header."""
    name = path.rpartition("/")[2]
    plain = "".join(c if " " <= c <= "~" and c not in '"\\%;' else "_" for c in name)
    return f"inline; filename*=UTF-8''{quote(name, safe='')}; filename=\"{plain}\";"
