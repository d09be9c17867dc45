from __future__ import annotations

import random

import pytest

from portal.shares import Shares


def test_room_is_made_by_the_oldest_of_the_sender_who_holds_most() -> None:
    shares: Shares[str] = Shares()
    shares.put("a1", "a", 5)
    shares.put("b1", "b", 4)
    shares.put("b2", "b", 4)
    assert shares.oldest_of_the_most() == "b1"
    shares.drop("b1")
    assert shares.oldest_of_the_most() == "a1"
    shares.drop("b1")
    assert (shares.size, shares.number_of("b"), shares.oldest_of("b")) == (9, 1, "b2")


def test_member_whose_size_changes_keeps_its_age_and_one_whose_sender_changes_does_not() -> None:
    shares: Shares[str] = Shares()
    for member in ("first", "second"):
        shares.put(member, "a", 1)
    shares.put("first", "a", 3)
    assert (shares.size, shares.oldest_of("a")) == (4, "first")
    shares.put("third", "b", 1)
    shares.put("first", "b", 3)
    assert (shares.size, shares.number_of("a"), shares.oldest_of("b")) == (5, 1, "third")


def test_without_members_nobody_holds_most() -> None:
    shares: Shares[str] = Shares()
    shares.put("a1", "a", 5)
    shares.drop("a1")
    assert (len(shares), shares.size) == (0, 0)
    with pytest.raises(ValueError, match="empty"):
        shares.oldest_of_the_most()


def test_running_sums_are_those_of_the_members() -> None:
    shares: Shares[int] = Shares()
    sizes: dict[int, tuple[str, int]] = {}
    dice = random.Random(0)
    for _ in range(2000):
        member = dice.randrange(50)
        if dice.random() < 0.3:
            shares.drop(member)
            sizes.pop(member, None)
        else:
            sizes[member] = (f"sender {dice.randrange(5)}", dice.randrange(100))
            shares.put(member, *sizes[member])
        assert (len(shares), shares.size) == (len(sizes), sum(size for _, size in sizes.values()))
