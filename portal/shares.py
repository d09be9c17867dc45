"""Count what connections hold, by sender, at a cost that does not grow with the number of connections."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

Member = TypeVar("Member", bound=Hashable)


class Shares(Generic[Member]):
    """Members, oldest first, with the size of each; `size` is the sum.

    The cost of `put` and `drop` does not depend on how many members there are.
    """

    def __init__(self) -> None:
        self.size = 0
        self._sender: dict[Member, str] = {}
        self._members: dict[str, dict[Member, int]] = {}
        self._sizes: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._sender)

    def __iter__(self) -> Iterator[Member]:
        return iter(self._sender)

    def put(self, member: Member, sender: str, size: int = 0) -> None:
        """Add a member, or set its size.

        A member whose sender changes becomes the newest of its new sender.
        """
        if self._sender.get(member, sender) != sender:
            self.drop(member)
        self._sender[member] = sender
        members = self._members.setdefault(sender, {})
        more = size - members.get(member, 0)
        members[member] = size
        self._sizes[sender] = self._sizes.get(sender, 0) + more
        self.size += more

    def drop(self, member: Member) -> None:
        """Remove a member. Idempotent."""
        sender = self._sender.pop(member, None)
        if sender is None:
            return
        size = self._members[sender].pop(member)
        self._sizes[sender] -= size
        self.size -= size
        if not self._members[sender]:
            del self._members[sender], self._sizes[sender]

    def number_of(self, sender: str) -> int:
        """Return how many members a sender has."""
        return len(self._members.get(sender, ()))

    def oldest_of(self, sender: str) -> Member:
        """Return the sender's oldest member. Raises KeyError if it has none."""
        return next(iter(self._members[sender]))

    def oldest_of_the_most(self) -> Member:
        """Return the oldest member of the sender with the largest total size.

        Raises ValueError if there are none.
        """
        return self.oldest_of(max(self._sizes, key=self._sizes.__getitem__))
