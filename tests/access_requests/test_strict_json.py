"""Untrusted JSON: its size and nesting are limited before it is parsed."""

from __future__ import annotations

import pytest

from access_requests.strict_json import DEEPEST, NotJson, is_deeper, read_json


def nested(levels: int) -> str:
    return "[" * levels + "]" * levels


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b'{"a": [1, "[[[", null]}', {"a": [1, "[[[", None]}),
        (b"\xef\xbb\xbf 1", 1),
        ('"\\"[{"', '"[{'),
        (b'"' + b"[" * 500 + b'\\""', "[" * 500 + '"'),
        (b"[" + b"[],{}," * 500 + b"1]", [*([[], {}] * 500), 1]),
    ],
)
def test_json_is_read(content: bytes | str, found: object) -> None:
    assert read_json(content, largest=len(content)) == found


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{", b"\xff", '{"a": 1}'.encode("utf-16"), b"NaN", b"[Infinity]", b"9" * 5000, nested(200_000), b"[" * 200_000,
        '{"a":' * 200_000, "[" * 100_000 + '"' + "]" * 100_000, '"' * 200_001, '"\\' * 100_000, b'{"a": "\xed\xa0\x80"}',
    ],
)  # fmt: skip
def test_what_is_no_json_is_one_error(content: bytes | str) -> None:
    with pytest.raises(NotJson):
        read_json(content, largest=len(content))


def test_depth_and_size_are_bounded() -> None:
    assert read_json(nested(DEEPEST), largest=1000) is not None
    with pytest.raises(NotJson, match="nested more than 64 levels deep"):
        read_json(nested(DEEPEST + 1), largest=1000)
    with pytest.raises(NotJson, match="longer than 3 bytes"):
        read_json(b"[  ]", largest=3)


def test_brackets_in_strings_do_not_count() -> None:
    assert not is_deeper('["' + "[{" * 1000 + '"]', 2)
    assert is_deeper('["\\"", [[', 2)
    assert not is_deeper("[]" * 1000, 1)
