"""How a sentence calls what was looked at, and what it asks for in the end."""

from __future__ import annotations

from dataclasses import dataclass

from model_ops.recovery.errors import Refusal


class Found(Refusal):
    """What an inspection found. The sentence names the folder already: "The base's ..."."""


@dataclass(frozen=True)
class Role:
    """`name` begins a sentence; `where` and `again` end one: `Run ... {where}, {again}.`"""

    name: str
    where: str = "in that folder"
    again: str = "then try again"
    wanted: str = "full weights"

    @property
    def whose(self) -> str:
        """As in "The base's config.json"."""
        return f"{self.name}'s"

    @property
    def folder(self) -> str:
        """As in "The base folder"."""
        return self.name if self.name.endswith("folder") else f"{self.name} folder"


ROLES = {
    "base": Role("The base"),
    "diff": Role("The diff", wanted="a diff of all weights"),
    "tuned": Role("The tuned model"),
    "result": Role("The result"),
    "files": Role("The folder"),
    "upload": Role("The upload", "in the folder that you upload", "then upload again"),
}


def role_of(name: str) -> Role:
    """The words for a role; those for a folder where it is another."""
    return ROLES.get(name, ROLES["files"])
