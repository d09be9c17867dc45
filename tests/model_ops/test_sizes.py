"""Sizes on pages are the plan's: powers of ten."""

from __future__ import annotations

import pytest

from model_ops.templatetags.sizes import bytes_shown


@pytest.mark.parametrize(
    ("size", "shown"),
    [(None, ""), (0, "0 B"), (999, "999 B"), (8_800_000, "8.8 MB"), (5_000_000_000, "5.00 GB")],
)
def test_size_is_shown_in_powers_of_ten(size: int | None, shown: str) -> None:
    assert bytes_shown(size) == shown
