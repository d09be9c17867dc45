"""Read revision and path from the raw URL.

Clients send `refs%2Fpr%2F1` and `tree/main/a%2Fb`; the decoded path no longer shows where the revision ends.
"""

from __future__ import annotations

import re
from urllib.parse import quote, unquote_to_bytes, urlsplit

from django.http import HttpRequest

from model_ops.hub.refusals import bad_request

LONGEST_REVISION = 200
LONGEST_PATH = 1000  # characters; stored paths are shorter
CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def revision_and_path(request: HttpRequest, *, skip: int) -> tuple[str, str]:
    """Return the segments after the first `skip`: one for the revision, the rest as path (may be empty)."""
    segments = raw_path(request).split("/")[1 + skip :]
    revision = decoded(segments[0] if segments else "", LONGEST_REVISION)
    return revision, decoded("/".join(segments[1:]), LONGEST_PATH).strip("/")


def path_after(request: HttpRequest, *, skip: int) -> str:
    """Return the segments after the first `skip` as a path."""
    return decoded("/".join(raw_path(request).split("/")[1 + skip :]), LONGEST_PATH).strip("/")


def raw_path(request: HttpRequest) -> str:
    """Return the path as sent (gunicorn's RAW_URI); on another server, re-encode the decoded path."""
    uri: str = request.META.get("RAW_URI") or ""
    if not uri:
        return quote(request.path_info)
    if not uri.startswith("/"):
        uri = urlsplit(uri).path
    return uri.partition("?")[0].partition("#")[0]


def decoded(text: str, longest: int) -> str:
    """Percent-decode once; refuse what can't be a name."""
    try:
        name = unquote_to_bytes(text).decode("utf-8")
    except UnicodeDecodeError as error:
        raise bad_request("The address is not UTF-8: percent-encode file names as UTF-8.") from error
    return checked(name, longest)


def checked(name: str, longest: int = LONGEST_PATH) -> str:
    if len(name) > longest:
        raise bad_request(
            f"The name in the address is {len(name)} characters long: the longest is {longest}."
        )
    if CONTROL.search(name):
        raise bad_request("The address holds control characters.")
    return name
