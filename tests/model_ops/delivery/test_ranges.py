from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_ops.delivery.ranges import NotSatisfiable, Span, asked_span


@pytest.mark.parametrize(
    ("header", "span"),
    [
        ("", None),
        ("bytes=0-", Span(0, 100)),
        ("bytes=0-0", Span(0, 1)),
        ("bytes=10-19", Span(10, 20)),
        ("bytes=90-1000", Span(90, 100)),
        ("bytes=99-" + "9" * 5000, Span(99, 100)),
        ("bytes=-1", Span(99, 100)),
        ("bytes=-1000", Span(0, 100)),
        ("bytes=-" + "9" * 5000, Span(0, 100)),
        ("bytes= 5-6 ", Span(5, 7)),
        ("bytes=6-5", None),
        ("bytes=-", None),
        ("bytes=a-b", None),
        ("bytes=0-1,3-4", None),
        ("bytes=٣-٤", None),
        ("items=0-1", None),
    ],
)
def test_asked_span_of_a_hundred_bytes(header: str, span: Span | None) -> None:
    assert asked_span(header, 100) == span


@pytest.mark.parametrize(
    ("header", "size"),
    [
        ("bytes=100-", 100),
        ("bytes=-0", 100),
        ("bytes=0-", 0),
        ("bytes=-5", 0),
        ("bytes=" + "9" * 5000 + "-", 100),
    ],
)
def test_asked_span_outside_the_file(header: str, size: int) -> None:
    with pytest.raises(NotSatisfiable):
        asked_span(header, size)


@settings(deadline=None)
@given(st.text(), st.integers(0, 1000))
def test_asked_span_is_within_the_file_whatever_is_asked(text: str, size: int) -> None:
    for header in (text, f"bytes={text}"):
        try:
            span = asked_span(header, size)
        except NotSatisfiable:
            continue
        assert span is None or 0 <= span.first < span.end <= size
