"""Receive reports of leaked tokens, from anyone and without sign-in; the tokens are revoked at once."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest, JsonResponse, UnreadablePostError
from django.http.response import HttpResponseBase

from access_requests.services.leaked_secrets import Found, report_tokens
from access_requests.services.oauth.errors import TooMany
from access_requests.services.oauth.limits import Limit, spend
from access_requests.services.tokens.secret import PATTERN
from access_requests.strict_json import NotJson, read_json
from model_ops.hub.refusals import Refused, bad_request
from model_ops.hub.route import hub_route, json_answer

MOST_TOKENS = 100  # distinct tokens in one report
MOST_CREDENTIALS = 1000  # in one call of `revoke`, as many as `hf auth revoke` sends
LARGEST_REPORT = 2**20  # bytes
DEEPEST = 20  # depth of nested lists and objects
PLACES = (
    "url",
    "source",
    "location",
    "type",
)  # the fields that may say where an item was found; the first one counts
REPORTS = Limit("reports", 30, 60, "Too many reports from this address: wait a minute.")
REVOCATIONS = Limit("revocations", 30, 60, "Too many revocations from this address: wait a minute.")


@hub_route("POST")
def report(request: HttpRequest) -> HttpResponseBase:
    """`POST /api/tokens/report`: JSON or any text with tokens in it.

    A JSON item may say where its token was seen (`url`, `source` or `location`), as secret scanners do. The
    answer says for each token whether it was revoked now, had ended before, or is not one of ours, but not
    whose it is.
    """
    _count_call(REPORTS, request)
    text = _report_text(request)
    try:
        data = read_json(text, largest=LARGEST_REPORT)
    except NotJson:
        data = text
    found: dict[str, Found] = {}  # by secret, each once, in order; the first place named counts
    _collect_tokens(data, "", found, DEEPEST)
    if not found:  # nested deeper than we look, or split by escapes
        _collect_tokens(text, "", found, DEEPEST)
    if not found:
        raise bad_request(
            "The report has no token in it: send what you found, as text or as a JSON list of {token, url}."
        )
    if len(found) > MOST_TOKENS:
        raise bad_request(f"The report has {len(found)} tokens: send at most {MOST_TOKENS} at a time.")
    answers = report_tokens(found=list(found.values()))
    return json_answer(
        {
            "revoked": sum(answer.result == "revoked" for answer in answers),
            "tokens": [{"token": answer.hint, "result": str(answer.result)} for answer in answers],
        }
    )


@hub_route("POST")
def revoke(request: HttpRequest) -> HttpResponseBase:
    """`POST /api/credentials/revoke`: `{"credentials": [TOKEN, ...]}`, as sent by `hf auth revoke`.

    The answer is always the same 202, so that it does not show which of the tokens exist. `report` does show
    it.
    """
    _count_call(REVOCATIONS, request)
    try:
        data = read_json(_report_text(request), largest=LARGEST_REPORT)
    except NotJson as error:
        raise bad_request(f"The body cannot be read: {error}.") from error
    credentials = data.get("credentials") if isinstance(data, dict) else None
    if not isinstance(credentials, list) or not all(isinstance(one, str) for one in credentials):
        raise bad_request('The body must be {"credentials": ["gth_...", ...]}: a list of tokens.')
    if len(credentials) > MOST_CREDENTIALS:
        raise bad_request(
            f"There are {len(credentials):,} credentials: send at most {MOST_CREDENTIALS:,} at a time."
        )
    report_tokens(found=[Found(secret.strip()) for secret in dict.fromkeys(credentials)])
    return JsonResponse({"message": "Revocation requested."}, status=HTTPStatus.ACCEPTED)


def _count_call(limit: Limit, request: HttpRequest) -> None:
    try:
        spend(limit, getattr(request, "client_address", None) or "unknown")
    except TooMany as error:
        headers = {"Retry-After": str(error.seconds)}
        raise Refused(
            HTTPStatus.TOO_MANY_REQUESTS, "TooManyReports", error.sentence, headers=headers
        ) from error


def _report_text(request: HttpRequest) -> str:
    try:
        length = int(request.META.get("CONTENT_LENGTH") or 0)
        body = request.body if length <= LARGEST_REPORT else None
    except (RequestDataTooBig, ValueError):
        body = None
    except UnreadablePostError as error:
        raise bad_request("The report was cut off: send it again.") from error
    if body is None:
        sentence = f"The report is larger than {LARGEST_REPORT:,} bytes: send only the tokens."
        raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "TooLarge", sentence)
    return body.decode("utf-8", "replace")


def _collect_tokens(data: Any, place: str, found: dict[str, Found], depth: int) -> None:
    if isinstance(data, str):
        for secret in PATTERN.findall(data):
            if secret not in found or (place and not found[secret].place):
                found[secret] = Found(secret, place)
    elif isinstance(data, dict | list) and depth:
        if isinstance(data, dict):
            # The place that the object names, else that of the enclosing object.
            place = next(
                (data[name] for name in PLACES if isinstance(data.get(name), str) and data[name]), place
            )
            data = data.values()
        for value in data:
            _collect_tokens(value, place, found, depth - 1)
