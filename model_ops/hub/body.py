"""Read a request's small body: a JSON object and its texts, or a refusal with a sentence.

The size is limited (413), and only UTF-8 and texts that a database can store are accepted. `receiving` reads
large bodies in pieces.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any, TypeGuard

from django.conf import settings
from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest, UnreadablePostError

from access_requests.storable_text import is_storable
from access_requests.strict_json import NotJson, read_json
from model_ops.hub.receiving import drain
from model_ops.hub.refusals import Refused, bad_request

DRAINED = 16 * 2**20  # bytes that docker/nginx lets through to these routes
NO_OBJECT = "The request is not a JSON object in UTF-8: send one, such as {}."
BROKEN_OFF = "The request was cut off: send it again."
TOO_LARGE = "The request is larger than {most:,} bytes: send less at once."


def json_object(request: HttpRequest, *, empty: bool = False, most: int | None = None) -> dict[str, Any]:
    """Return the body's JSON object; with `empty`, no body counts as `{}`. More than `most` bytes: 413."""
    body = small_body(request, most=most)
    if empty and not body.strip():
        return {}
    try:
        data = read_json(body, largest=len(body))
    except NotJson as error:
        raise bad_request(NO_OBJECT) from error
    if not isinstance(data, dict):
        raise bad_request(NO_OBJECT)
    return data


def small_body(request: HttpRequest, *, most: int | None = None) -> bytes:
    """Return the whole body; one that announces more than `most` bytes is a 413 and is not kept."""
    length = request.META.get("CONTENT_LENGTH") or "0"
    if most is not None and length.isdecimal() and int(length) > most:
        drain(request, most=DRAINED)
        raise too_large(TOO_LARGE.format(most=most))
    with reading(request):
        body = request.body
    if most is not None and len(body) > most:
        raise too_large(TOO_LARGE.format(most=most))
    return body


@contextlib.contextmanager
def reading(request: HttpRequest) -> Iterator[None]:
    """Turn Django's errors from reading a body into refusals; drain a large body if its end is near."""
    try:
        yield
    except RequestDataTooBig as error:
        drain(request, most=DRAINED)
        raise too_large(TOO_LARGE.format(most=settings.DATA_UPLOAD_MAX_MEMORY_SIZE)) from error
    except UnreadablePostError as error:
        raise bad_request(BROKEN_OFF) from error


def too_large(sentence: str) -> Refused:
    return Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "TooLarge", sentence)


def text(data: dict[str, Any], name: str, *, longest: int, default: str = "") -> str:
    """Return a text of the object; the default if it is missing or null."""
    value = data.get(name)
    if value is None:
        return default
    if not is_text(value, longest=longest):
        raise bad_request(f"{name} {wanted(longest)}")
    return value


def is_text(value: object, *, longest: int) -> TypeGuard[str]:
    return isinstance(value, str) and len(value) <= longest and is_storable(value)


def wanted(longest: int) -> str:
    """Return the end of a sentence about an invalid text."""
    return f"must be a text of at most {longest:,} characters, without NULs and halves of character pairs."
