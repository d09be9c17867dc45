"""Render the table of routes as a page of the docs."""

from __future__ import annotations

from pathlib import Path

from tests.model_ops.hub.routes_table import GROUPS, MODELS, PEOPLE, WHAT

PAGE = Path(__file__).resolve().parents[3] / "docs" / "hub-routes.md"
HEAD = """# The protocol, route by route

What each kind of person gets from every address of the Hugging Face protocol that Gatehouse serves. A cell is the HTTP
status; the letter behind it is the answer's `X-Error-Code`, explained below. `HEAD` is answered as `GET`, without
a body. This page is made from the table that the tests ask a live portal
(`python -m tests.model_ops.hub.routes_page`).

Everyone here but the anonymous has a token that stands for its person: of the kind `user`, and of the kind
`reviewer` where a role is meant. A token of one grant reads that model alone and decides nothing.
"""
CODES = {
    "GatedRepo": ("G", "`GatedRepoError`", "the gate; the sentence says why, and which page helps"),
    "RepoNotFound": ("R", "`RepositoryNotFoundError`", "no such model, or none that this person may know of"),
    "RevisionNotFound": ("V", "`RevisionNotFoundError`", "no such branch, tag or commit"),
    "EntryNotFound": ("E", "`EntryNotFoundError`", "no such file"),
    "RepoRenamed": ("M", "none: clients follow", "the model has another id; `Location` leads on"),
    "InvalidToken": ("T", "`HfHubHTTPError`", "no token, or one that is not accepted"),
    "NotAllowed": ("N", "`HfHubHTTPError`", "the token's kind or its person's role does not allow it"),
    "BadRequest": ("B", "`BadRequestError`", "the request makes no sense; the sentence says what does"),
    "XetNotServed": ("X", "`BadRequestError`", "set `HF_HUB_DISABLE_XET=1`"),
    "MethodNotAllowed": ("m", "`HfHubHTTPError`", "this address takes other methods"),
    "NotServed": ("S", "`HfHubHTTPError`", "the Hub has this address, Gatehouse has not"),
    "unsupported_grant_type": ("O", "none", "an error of OAuth (RFC 6749)"),
}


def as_markdown() -> str:
    """Return the page; the file in the docs must be equal to it."""
    parts = [HEAD, _table(["person", "who that is"], [[f"**{who}**", what] for who, what in PEOPLE.items()])]
    parts.append("## Codes\n")
    codes = [[sign, f"`{code}`", error, what] for code, (sign, error, what) in CODES.items()]
    parts.append(_table(["", "`X-Error-Code`", "what huggingface_hub raises", "it says"], codes))
    for title, routes in GROUPS.items():
        parts.append(f"## {title}\n")
        rows = [[f"`{r.method}`", _place(r.path), r.what, *map(_cell, r.answers.values())] for r in routes]
        parts.append(_table(["", "address", "what", *PEOPLE], rows))
    return "\n".join(parts)


def _cell(answer: str) -> str:
    status, _, code = answer.partition(" ")
    return f"{status} {CODES[code][0]}" if code else status


def _place(path: str) -> str:
    """Return the address with ID for the model, and the kind of model unless it is a gated one."""
    kind = next((name for name in MODELS if f"{{{name}}}" in path), "model")
    for name in MODELS:
        path = path.replace(f"{{{name}}}", "ID").replace(f"{{{name}_commit}}", "COMMIT")
    shown = f"`{path.replace('{commit}', 'COMMIT').replace('{who}', 'NAME')}`"
    return shown if WHAT[kind] == "gated" else f"{shown} ({WHAT[kind]})"


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    PAGE.write_text(as_markdown())
