"""A request's JSON body: an object of the expected types, or a 400 with a sentence."""

from __future__ import annotations

import json
from typing import Any

from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest, UnreadablePostError

from model_ops.hub.refusals import bad_request


def json_object(request: HttpRequest, *, empty: bool = False) -> dict[str, Any]:
    """The body as an object; `empty`: no body at all counts as `{}`."""
    try:
        body = request.body
    except RequestDataTooBig as error:
        raise bad_request("The request is too large.") from error
    except UnreadablePostError as error:
        raise bad_request("The request broke off before its end: send it again.") from error
    if empty and not body.strip():
        return {}
    try:
        data = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise bad_request("The request is not JSON: send an object, as in {}.") from error
    if not isinstance(data, dict):
        raise bad_request("The request must be a JSON object, as in {}.")
    return data


def text(data: dict[str, Any], name: str, *, longest: int, default: str | None = None) -> str:
    """A string of the object, without NULs; missing or null is the default where there is one."""
    value = data.get(name)
    if value is None and default is not None:
        return default
    if not isinstance(value, str):
        raise bad_request(f"{name} must be a text.")
    if "\0" in value or len(value) > longest:
        raise bad_request(f"{name} must be a text of at most {longest} characters.")
    return value
