"""How large a card may be, depending on who sends it."""

from __future__ import annotations

from dataclasses import dataclass

from .frontmatter import MAX_FRONT_CHARACTERS
from .nodes import MAX_NODES


@dataclass(frozen=True)
class CardBounds:
    """The limits of a card: bytes of the request, characters and values of the front matter."""

    body: int
    front: int
    nodes: int


SIGNED_IN = CardBounds(body=2**20, front=MAX_FRONT_CHARACTERS, nodes=MAX_NODES)
ANONYMOUS = CardBounds(body=2**18, front=2**16, nodes=5_000)
