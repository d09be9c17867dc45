"""How messages name what is inspected, and where suggested commands run."""

from __future__ import annotations

from dataclasses import dataclass

from model_ops.recovery.errors import Refusal


class Found(Refusal):
    """A refusal by an inspection. Its sentence already names the folder: "The base's ..."."""


@dataclass(frozen=True)
class Role:
    """The words for one role: `name` begins a sentence, `where` and `again` end it: `Run ... {where}, {again}.`"""

    name: str
    where: str = "in that folder"
    again: str = "then try again"
    wanted: str = "full weights"

    @property
    def whose(self) -> str:
        """Return "The base's", as in "The base's config.json"."""
        return f"{self.name}'s"

    @property
    def folder(self) -> str:
        """Return "The base folder"."""
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
    """Return the words for a role; an unknown role becomes "The folder"."""
    return ROLES.get(name, ROLES["files"])
