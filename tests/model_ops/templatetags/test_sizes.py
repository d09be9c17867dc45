"""Sizes on pages use powers of ten, as in the plan; times have at most two parts."""

from __future__ import annotations

import pytest

from model_ops.templatetags.sizes import bytes_shown, time_shown


@pytest.mark.parametrize(
    ("size", "shown"),
    [(None, ""), (0, "0 B"), (999, "999 B"), (8_800_000, "8.8 MB"), (5_000_000_000, "5.00 GB")],
)
def test_size_is_shown_in_powers_of_ten(size: int | None, shown: str) -> None:
    assert bytes_shown(size) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (None, ""),
        (0.2, "0 s"),
        (59.6, "1 min 0 s"),
        (75.2, "1 min 15 s"),
        (3599, "59 min 59 s"),
        (7800, "2 h 10 min"),
    ],
)
def test_time_is_shown_in_two_parts(seconds: float | None, shown: str) -> None:
    assert time_shown(seconds) == shown
