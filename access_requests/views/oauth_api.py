"""The endpoints for signing in from a client: RFC 8628, 6749 (refresh), 7009, 8693, 8414. No cookies, only JSON."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.conf import settings
from django.core.exceptions import SuspiciousOperation
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.http.multipartparser import MultiPartParserError
from django.http.request import UnreadablePostError
from django.urls import reverse
from django.utils.translation import override
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_safe

from access_requests.errors import RuleError, Unavailable
from access_requests.lines import ascii_line
from access_requests.services.oauth import codes, exchange, machines
from access_requests.services.oauth.errors import OAuthError, TooMany
from access_requests.services.tokens import Issued
from access_requests.storable_text import is_storable
from access_requests.strict_json import NotJson, read_json

LARGEST_BODY = 65_536  # bytes
DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
EXCHANGE_GRANT = "urn:ietf:params:oauth:grant-type:token-exchange"
ID_TOKEN = "urn:ietf:params:oauth:token-type:id_token"  # noqa: S105 - the type's name
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105 - the type's name
JWT = "urn:ietf:params:oauth:token-type:jwt"

Parameters = dict[str, str]
Answer = Callable[[HttpRequest, Parameters], dict[str, Any]]


def oauth_route(view: Answer) -> Callable[[HttpRequest], HttpResponse]:
    """Return a view for POSTs of a form or JSON that answers in JSON, never cached; refusals have a code and text."""

    @csrf_exempt
    @wraps(view)
    def answer(request: HttpRequest) -> HttpResponse:
        try:
            if request.method != "POST":
                raise OAuthError("invalid_request", "This address takes POST only.", status=405)
            with override("en"):  # sentences that pages show too; clients and headers get English
                response: HttpResponse = JsonResponse(view(request, parameters(request)))
        except RuleError as error:
            response = refusal(error)
        return _kept_by_nobody(response)

    answer.unavailable = unavailable  # type: ignore[attr-defined]  # portal/unavailable.py calls it
    return answer


def _kept_by_nobody(response: HttpResponse) -> HttpResponse:
    response["Cache-Control"] = "no-store"
    response["Pragma"] = "no-cache"
    return response


def unavailable(request: HttpRequest, found: Unavailable) -> HttpResponse:
    """Return the answer while the database is down: the code of RFC 6749, and ours in a header."""
    sentence = one_line(f"{found.sentence} {found.advice}")
    told = {"error": "temporarily_unavailable", "error_description": sentence}
    response = JsonResponse(told, status=503)
    response["X-Error-Code"] = found.code
    response["X-Error-Message"] = sentence
    return _kept_by_nobody(response)


def refusal(error: RuleError) -> HttpResponse:
    """Return a refusal as in RFC 6749, 5.2, with the header that Hugging Face clients print."""
    code = {"too_many": "slow_down", "not_allowed": "access_denied"}.get(error.code, error.code)
    response = JsonResponse(
        {"error": code, "error_description": one_line(error.sentence)}, status=error.status
    )
    response["X-Error-Code"] = code
    response["X-Error-Message"] = one_line(error.sentence)
    if isinstance(error, TooMany):
        response["Retry-After"] = str(error.seconds)
    if error.status == 405:
        response["Allow"] = "POST"
    return response


def one_line(sentence: str) -> str:
    """Return printable ASCII without quotes and backslashes, as RFC 6749 requires of a description."""
    return ascii_line(sentence, longest=900, without='"\\')


def parameters(request: HttpRequest) -> Parameters:
    """Return the parameters of a form or a JSON object, each given once and as text."""
    length = request.META.get("CONTENT_LENGTH") or "0"
    if not length.isdigit() or int(length) > LARGEST_BODY:
        raise OAuthError("invalid_request", f"The request is longer than {LARGEST_BODY} bytes.", status=413)
    try:
        if request.content_type == "application/json":
            read = read_json(request.body, largest=LARGEST_BODY)
            if not isinstance(read, dict):
                raise OAuthError("invalid_request", "The body is not a JSON object.")
            found = {name: value for name, value in read.items() if isinstance(value, str)}
        else:
            for name, values in request.POST.lists():
                if len(values) > 1:
                    raise OAuthError("invalid_request", f"The parameter {name[:40]} is there twice.")
            found = request.POST.dict()
    except NotJson as error:
        raise OAuthError("invalid_request", "The body is not JSON.") from error
    except (SuspiciousOperation, UnreadablePostError, MultiPartParserError, UnicodeError) as error:
        raise OAuthError("invalid_request", "The request cannot be read.") from error
    if not all(map(is_storable, found.values())):
        raise OAuthError("invalid_request", "A parameter holds a NUL character or half a surrogate pair.")
    return found


def needed(given: Parameters, name: str) -> str:
    """Return the parameter's value. Raises `OAuthError` if it is missing or empty."""
    if not given.get(name):
        raise OAuthError("invalid_request", f"The parameter {name} is missing.")
    return given[name]


@oauth_route
def device(request: HttpRequest, given: Parameters) -> dict[str, Any]:
    """`POST /oauth/device`: return two codes and the address where a person enters the short one."""
    begun = codes.begin_sign_in(
        client_id=_keep_printable(needed(given, "client_id"), 100),
        client=_keep_printable(request.headers.get("User-Agent", ""), 200),
        address=getattr(request, "client_address", None),
    )
    page = settings.GATEHOUSE_URL + reverse("oauth_activate")
    shown = codes.shown(begun.code.user_code)
    return {
        "device_code": begun.device_code,
        "user_code": shown,
        "verification_uri": page,
        "verification_uri_complete": f"{page}?user_code={shown}",
        "expires_in": int(codes.LIFE.total_seconds()),
        "interval": begun.code.interval,
    }


@oauth_route
def token(request: HttpRequest, given: Parameters) -> dict[str, Any]:
    """`POST /oauth/token`: return tokens for a device code, a refresh token or the identity of a CI job."""
    grant_type = needed(given, "grant_type")
    if grant_type not in GRANTS:
        raise OAuthError(
            "unsupported_grant_type", f"Only these grants are served: {', '.join(sorted(GRANTS))}."
        )
    return GRANTS[grant_type](request, given)


def _by_device_code(request: HttpRequest, given: Parameters) -> dict[str, Any]:
    client_id = _keep_printable(needed(given, "client_id"), 100)
    return _pair_answer(codes.fetch_tokens(device_code=needed(given, "device_code"), client_id=client_id))


def _by_refresh_token(request: HttpRequest, given: Parameters) -> dict[str, Any]:
    return _pair_answer(machines.refresh(secret=needed(given, "refresh_token")))


def _by_identity(request: HttpRequest, given: Parameters) -> dict[str, Any]:
    if needed(given, "subject_token_type") not in {ID_TOKEN, JWT}:
        raise OAuthError("invalid_request", f"The subject_token_type must be {ID_TOKEN}.")
    if given.get("requested_token_type", ACCESS_TOKEN) != ACCESS_TOKEN:
        raise OAuthError("invalid_request", f"The requested_token_type must be {ACCESS_TOKEN}.")
    issued = exchange.exchange_identity(
        identity=needed(given, "subject_token"),
        resource=needed(given, "resource"),
        address=getattr(request, "client_address", None),
    )
    seconds = int(exchange.TOKEN_LIFE.total_seconds())
    return _token_answer(issued, seconds) | {"issued_token_type": ACCESS_TOKEN}


GRANTS = {DEVICE_GRANT: _by_device_code, "refresh_token": _by_refresh_token, EXCHANGE_GRANT: _by_identity}


def _pair_answer(pair: machines.Pair) -> dict[str, Any]:
    return _token_answer(pair.access, pair.expires_in) | {"refresh_token": pair.refresh_secret}


def _token_answer(issued: Issued, seconds: int) -> dict[str, Any]:
    return {"access_token": issued.secret, "token_type": "bearer", "expires_in": seconds}


@oauth_route
def revoke(request: HttpRequest, given: Parameters) -> dict[str, Any]:
    """`POST /oauth/revoke`: always return 200, so that no one learns which secrets exist."""
    machines.revoke_secret(secret=needed(given, "token"))
    return {}


@require_safe
def metadata(request: HttpRequest) -> HttpResponse:
    """`GET /.well-known/oauth-authorization-server`: return the addresses of the endpoints above."""
    site = settings.GATEHOUSE_URL
    return JsonResponse(
        {
            "issuer": site,
            "device_authorization_endpoint": site + reverse("oauth_device"),
            "token_endpoint": site + reverse("oauth_token"),
            "revocation_endpoint": site + reverse("oauth_revoke"),
            "grant_types_supported": sorted(GRANTS),
            "response_types_supported": [],
            "token_endpoint_auth_methods_supported": ["none"],
            "revocation_endpoint_auth_methods_supported": ["none"],
        }
    )


def _keep_printable(text: str, longest: int) -> str:
    return "".join(c for c in text if c.isprintable())[:longest]
