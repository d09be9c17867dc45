"""Handle what all views of the Hub's protocol share: methods, limits, refusals and headers."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial, wraps
from http import HTTPStatus
from typing import Any

from django.core.exceptions import SuspiciousOperation
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.http.response import HttpResponseBase
from django.utils.translation import override
from django.views.decorators.csrf import csrf_exempt

from access_requests.errors import RuleError, Unavailable
from model_ops.hub import limits, refusals
from model_ops.hub.refusals import Refused, bad_request

View = Callable[..., HttpResponseBase]
REQUEST_ID = re.compile(r"[A-Za-z0-9=;:._-]{1,128}")


PATIENCE = 30.0  # seconds that a client's request waits for a connection to the database


def hub_route(
    *methods: str, limited: bool = False, counted: bool = True, file: bool = False
) -> Callable[[View], View]:
    """Make a view without cookies, CSRF tokens and HTML errors: refusals become responses with a code.

    Every call is counted before any other work. `limited`: its GET returns a body or a paged list, which
    clients retry after a 429. `counted`: false for what a browser shows to people, who may share an address.
    `file`: its GET returns a file.
    """
    allowed = {*methods, "HEAD"} if "GET" in methods else set(methods)

    def decorate(view: View) -> View:
        @csrf_exempt
        @wraps(view)
        def answer(request: HttpRequest, **kwargs: Any) -> HttpResponseBase:
            try:
                _check_method(request, allowed)
                if counted:
                    limits.check(request, waits=limited and request.method == "GET")
                _check_query(request)
                with override("en"):  # for sentences shared with pages: clients and headers get English
                    response = view(request, **kwargs)
            except Refused as refused:
                response = refusal(request, refused)
            except RuleError as error:
                # The Hub writes a code without underscores: `not_allowed` is NotAllowed.
                code = "".join(word[:1].upper() + word[1:] for word in error.code.split("_"))
                response = refusal(request, Refused(error.status, code, error.sentence))
            return _for_one(response)

        answer.patience = PATIENCE  # type: ignore[attr-defined]  # portal/middleware.py reads it
        answer.unavailable = partial(unavailable, file=file)  # type: ignore[attr-defined]  # portal/unavailable.py calls it
        return answer

    return decorate


def _for_one(response: HttpResponseBase) -> HttpResponseBase:
    """Mark a response that caches must not give to another caller."""
    response.headers.setdefault("Cache-Control", "private, no-cache")
    response.headers["Vary"] = "Authorization"
    return response


def unavailable(request: HttpRequest, found: Unavailable, *, file: bool) -> HttpResponseBase:
    """Return the response while the database or disk is unavailable, with a status that clients retry."""
    waits = file and request.method == "GET"
    client = request.headers.get("User-Agent", "")
    return _for_one(refusal(request, refusals.unavailable(found, client=client, file=waits)))


def _check_method(request: HttpRequest, allowed: set[str]) -> None:
    if request.method not in allowed:
        names = ", ".join(sorted(allowed))
        sentence = f"{request.method} is not supported here: use {names}."
        raise Refused(HTTPStatus.METHOD_NOT_ALLOWED, "MethodNotAllowed", sentence, headers={"Allow": names})


def _check_query(request: HttpRequest) -> None:
    try:
        request.GET  # noqa: B018 - read now, since a query of thousands of fields raises at the first look
    except SuspiciousOperation as error:
        raise bad_request("The query has too many fields.") from error


def refusal(request: HttpRequest, refused: Refused) -> HttpResponse:
    """Return the message in a header, in the body (JSON or text), and in the warning that `hf` prints."""
    response: HttpResponse
    if request.path_info.startswith("/api/"):
        response = JsonResponse({"error": refused.text}, status=refused.status)
    else:
        response = HttpResponse(refused.text, content_type="text/plain; charset=utf-8", status=refused.status)
    if refused.code:
        response["X-Error-Code"] = refused.code
    response["X-Error-Message"] = refused.message
    # Use the client's trace id, so that log lines can be matched with the client's.
    given = request.headers.get("X-Amzn-Trace-Id", "")
    response["X-Request-Id"] = given if REQUEST_ID.fullmatch(given) else str(uuid.uuid4())
    if refused.warning:
        warn(response, refused.warning, refused.message)
    for name, value in refused.headers.items():
        response[name] = value
    return response


def warn(response: HttpResponseBase, topic: str, sentence: str) -> None:
    """Set `X-HF-Warning`, which the client logs once per topic and process, whatever the status."""
    response["X-HF-Warning"] = f"{topic}; {sentence}"


def json_answer(data: Any) -> JsonResponse:
    return JsonResponse(data, safe=False)


def moment(at: datetime) -> str:
    """Return a time as `2026-01-02T03:04:05.000Z`, the only form that every client reads."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def wants(request: HttpRequest, name: str) -> bool:
    """Return whether a query switch is on: `true`, `True` or `1`."""
    return request.GET.get(name, "").lower() in {"true", "1"}
