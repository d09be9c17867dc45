"""Untrusted text on one line."""

from __future__ import annotations

import pytest

from access_requests.lines import ascii_line, visible_line


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("plain", "plain"),
        (" two\r\n lines\t", "two lines"),
        ("Zoë 名", "Zoe? ?"),
        ("a\0b\x1bc", "a b c"),
        ("\ud800", "?"),
    ],
)
def test_line_for_a_header_is_printable_ascii(text: str, line: str) -> None:
    assert ascii_line(text, longest=100) == line


def test_line_for_a_header_is_cut_and_leaves_signs_out() -> None:
    assert ascii_line('say "no" \\ x', longest=6, without='"\\') == "say no"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("Zoe\u0308\n 名 ", "Zoë 名"),
        ("a\u202eb\0c\ud800", "abc"),
        ("می\u200cخواهم", "می\u200cخواهم"),
    ],
)
def test_visible_line_keeps_every_script_and_drops_what_is_not_seen(text: str, line: str) -> None:
    assert visible_line(text) == line
