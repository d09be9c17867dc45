from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from django.core.exceptions import ValidationError

from portal.accounts.names import anonymous_username, check_username, clean_name, fold, suggest_username


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("Zoë García", "zoe-garcia"),
        ("Åse Ødegård", "ase-odegard"),
        ("Łukasz Weiß", "lukasz-weiss"),
        ("O'Brien, Flann", "obrien-flann"),
        ("Nguyễn Văn Đức", "nguyen-van-duc"),
        ("Jean-Luc  de la  Tour", "jean-luc-de-la-tour"),
        ("王小明", ""),
        ("  ..--  ", ""),
    ],
)
def test_fold_leaves_only_what_the_hub_takes(text: str, folded: str) -> None:
    assert fold(text) == folded


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("  Ada \t Lovelace\n", "Ada Lovelace"),
        ("Zoe\u0308", "Zoë"),
        ("Ada\u202egnihtyna", "Adagnihtyna"),
        ("می\u200cخواهم", "می\u200cخواهم"),
        ("\u0007\u2066", ""),
    ],
)
def test_clean_name_keeps_any_script_and_drops_what_cannot_be_seen(text: str, clean: str) -> None:
    assert clean_name(text) == clean


def test_suggestion_when_taken_counts_up(make_person: Callable[..., Any]) -> None:
    make_person("Ada-Lovelace")
    make_person("ada-lovelace-2")
    assert suggest_username(first_name="Ada", last_name="Lovelace") == "ada-lovelace-3"


def test_suggestion_of_a_reserved_word_is_numbered(db: None) -> None:
    assert suggest_username(first_name="Owner") == "owner-2"


def test_suggestion_of_another_script_says_nothing(db: None) -> None:
    assert re.fullmatch(r"researcher-\d{4}", suggest_username(first_name="王", last_name="小明"))


def test_suggestion_of_endless_names_stays_short(db: None) -> None:
    assert suggest_username(first_name="a" * 500, last_name="b" * 500) == "a" * 48


def test_anonymous_username_is_free_and_random(make_person: Callable[..., Any]) -> None:
    names = {anonymous_username() for _ in range(20)}
    assert len(names) > 1
    assert all(re.fullmatch(r"researcher-\d{4}", name) for name in names)


@pytest.mark.parametrize("name", ["a", "A_b.c-9", "0", "_", "a" * 96])
def test_check_username_takes_the_hubs_names(db: None, name: str) -> None:
    assert check_username(name) == name


@pytest.mark.parametrize(
    "name",
    ["", "a--b", "a..b", "-a", "a-", ".a", "a.", "a.git", "a b", "a/b", "é", "a@b.c", "a" * 97, "a\n", "٣"],
)
def test_check_username_refuses_what_the_hub_refuses(db: None, name: str) -> None:
    with pytest.raises(ValidationError):
        check_username(name)


def test_check_username_when_taken_in_other_case_names_it(make_person: Callable[..., Any]) -> None:
    make_person("ada")
    with pytest.raises(ValidationError, match="“ADA” is taken: choose another user name"):
        check_username("ADA")


def test_check_username_of_its_holder_may_change_case(make_person: Callable[..., Any]) -> None:
    assert check_username("Ada", holder=make_person("ada")) == "Ada"


def test_check_username_reserved_only_for_the_owner(db: None) -> None:
    with pytest.raises(ValidationError, match="is reserved for the portal"):
        check_username("Admin")
    assert check_username("Admin", reserved_too=True) == "Admin"
