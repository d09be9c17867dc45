from __future__ import annotations

import pytest
from django.core.exceptions import ValidationError

from portal.accounts.orcid import check_digit, clean_orcid


@pytest.mark.parametrize(
    "text",
    [
        "0000-0002-1825-0097",
        "0000000218250097",
        " https://orcid.org/0000-0002-1825-0097/ ",
        "orcid.org/0000-0002-1825-0097",
        "0000 0002 1825 0097",
        "0000–0002–1825–0097",
    ],
)
def test_clean_orcid_takes_every_way_to_paste_it(text: str) -> None:
    assert clean_orcid(text) == "0000-0002-1825-0097"


def test_clean_orcid_with_check_digit_x_is_written_large() -> None:
    assert clean_orcid("0000-0002-1694-233x") == "0000-0002-1694-233X"


def test_clean_orcid_of_nothing_is_nothing() -> None:
    assert clean_orcid("  ") == ""


@pytest.mark.parametrize(
    "text", ["0000-0002-1825-009", "0000-0002-1825-00977", "X000-0002-1825-0097", "ada", "٠" * 16]
)
def test_clean_orcid_of_another_form_says_how_it_looks(text: str) -> None:
    with pytest.raises(ValidationError, match="This is not an ORCID iD: write its 16 digits"):
        clean_orcid(text)


def test_clean_orcid_with_any_single_digit_wrong_is_refused() -> None:
    right = "0000000218250097"
    for place in range(15):
        wrong = right[:place] + str((int(right[place]) + 1) % 10) + right[place + 1 :]
        with pytest.raises(ValidationError, match="The check digit is wrong"):
            clean_orcid(wrong)


def test_check_digit_of_published_examples() -> None:
    assert [check_digit(d) for d in ("000000021825009", "000000015109370", "000000021694233")] == [
        "7",
        "0",
        "X",
    ]
