"""The reader of small bodies: input that is not a JSON object, cannot be stored, is too large or breaks off."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.http import HttpRequest
from django.test import RequestFactory
from pytest_django import Settings

from model_ops.hub.body import is_text, json_object, text
from model_ops.hub.refusals import Refused


def request(body: bytes) -> HttpRequest:
    return RequestFactory().post("/", body, content_type="application/json")


@pytest.mark.parametrize("body", [b'{"a": "\xc3\xa9"}', b'\xef\xbb\xbf {"a": "\\u00e9"}\n'])
def test_object_is_read(body: bytes) -> None:
    assert json_object(request(body)) == {"a": "é"}


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[1]", b"null", b'"a"', b"\xff\xfe", b'{"a": "\xed\xa0\x80"}', b'{"a": ' * 50_000,
        b"[" * 100_000, '{"a": 1}'.encode("utf-16"), b"9" * 5000,
    ],
)  # fmt: skip
def test_what_is_no_object_is_one_sentence(body: bytes) -> None:
    with pytest.raises(Refused, match="not a JSON object in UTF-8: send one") as refused:
        json_object(request(body))
    assert (refused.value.status, refused.value.code) == (400, "BadRequest")


def test_empty_body_counts_as_an_object_where_it_may() -> None:
    assert [json_object(request(body), empty=True) for body in (b"", b" \n", b"{}")] == [{}, {}, {}]
    with pytest.raises(Refused):
        json_object(request(b"[]"), empty=True)


def test_large_body_is_a_413(settings: Settings) -> None:
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 1000
    assert json_object(request(b"{}".ljust(1000))) == {}
    with pytest.raises(Refused, match="larger than 1,000 bytes: send less at once") as refused:
        json_object(request(b"{}".ljust(1001)))
    assert (refused.value.status, refused.value.code) == (413, "TooLarge")


class Broken:
    def close(self) -> None: ...

    def read(self, *size: int) -> bytes:
        raise OSError("gone")


def test_body_that_broke_off_is_a_sentence() -> None:
    broken = request(b"{}")
    broken._stream = Broken()  # type: ignore[attr-defined]
    with pytest.raises(Refused, match="was cut off") as refused:
        json_object(broken)
    assert refused.value.status == 400


@pytest.mark.parametrize("value", ["a\0", "\ud800", "\udfff!", "x" * 6, 7, True, ["a"], {}])
def test_text_that_cannot_be_taken_is_refused_by_its_name(value: Any) -> None:
    sent = json_object(request(json.dumps({"name": value}).encode()))
    assert not is_text(value, longest=5)
    with pytest.raises(Refused, match="name must be a text of at most 5 characters, without NULs") as refused:
        text(sent, "name", longest=5)
    assert (refused.value.status, refused.value.code) == (400, "BadRequest")


def test_absent_text_is_its_default_and_a_pair_is_whole() -> None:
    sent = json_object(request(b'{"a": null, "pair": "\\ud83d\\ude00", "empty": ""}'))
    assert [text(sent, name, longest=5, default="d") for name in ("a", "b", "pair", "empty")] == [
        "d", "d", "😀", "",
    ]  # fmt: skip
