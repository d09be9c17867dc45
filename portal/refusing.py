"""Refusals of unread requests, by the web server or a middleware: a status, a code and one sentence."""

from __future__ import annotations

import json
from dataclasses import dataclass
from http import HTTPStatus

# The sentences are not translated: most are sent before Django is involved, and all go to API clients as
# well.
LARGEST_BODY = 2**20  # bytes of a request, except for uploads and the admin's forms
RETRY_AFTER = 2  # seconds


@dataclass(frozen=True)
class Refusal:
    """One way of refusing a request unread."""

    status: HTTPStatus
    code: str
    sentence: str
    retry: bool = False

    def answer(self, *, path: str) -> tuple[list[tuple[str, str]], bytes]:
        """Return headers and body: JSON for API clients, or else text.

        For `/oauth/` the JSON has the form of RFC 6749, 5.2.
        """
        is_api, is_oauth = path.startswith(("/api/", "/oauth/")), path.startswith("/oauth/")
        told = (
            {"error": "invalid_request", "error_description": self.sentence}
            if is_oauth
            else {"error": self.sentence}
        )
        body = (json.dumps(told) if is_api else f"{self.sentence}\n").encode()
        headers = [
            ("Content-Type", "application/json" if is_api else "text/plain; charset=utf-8"),
            ("Content-Length", str(len(body))),
            ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
            ("X-Error-Code", self.code),
            ("X-Error-Message", self.sentence),
        ]
        return headers + ([("Retry-After", str(RETRY_AFTER))] if self.retry else []), body


TOO_LARGE = Refusal(
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    "TooLarge",
    f"The request is larger than {LARGEST_BODY:,} bytes: send less at once. Larger files are uploaded with `hf upload`.",
)
STAFF_TOO_LARGE = Refusal(
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    "TooLarge",
    "The form is too large for this page: upload a smaller file, or use `hf upload`.",
)
NO_LENGTH = Refusal(
    HTTPStatus.LENGTH_REQUIRED,
    "LengthRequired",
    "The body's length is missing: send Content-Length instead of Transfer-Encoding.",
)
NO_FILES = Refusal(
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    "NoFiles",
    "This page takes no files: send the form without them.",
)
TOO_SLOW = Refusal(
    HTTPStatus.REQUEST_TIMEOUT,
    "RequestTimeout",
    "The request did not arrive in time: send it again.",
)
BUSY = Refusal(
    HTTPStatus.SERVICE_UNAVAILABLE,
    "TooManyUploads",
    f"Too many uploads at once: try again in {RETRY_AFTER} s (Hugging Face clients do so by themselves).",
    retry=True,
)
CROWDED = Refusal(
    HTTPStatus.TOO_MANY_REQUESTS,
    "TooManyUnfinished",
    "Too many unfinished requests from your address: send this one again.",
    retry=True,
)
