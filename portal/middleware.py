"""The client's address, as far as it can be trusted, and answers without a body."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect

from access_requests.views.common import Renamed


class ClientAddressMiddleware:
    """Sets `request.client_address`: the peer, or what a proxy named by `GATEHOUSE_PROXIES` says of it.

    Only the last entry of `X-Forwarded-For` is taken: it was written by the proxy next to us, the
    others by anybody.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        request.client_address = client_address(request)  # type: ignore[attr-defined]
        return self.get_response(request)


class NoBodyForHeadMiddleware:
    """Answers HEAD with the headers of GET alone, which servers otherwise do themselves, with a warning each time."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        if request.method == "HEAD" and not response.streaming and response.content:
            response.headers.setdefault("Content-Length", str(len(response.content)))
            response.content = b""
        return response


class FormerIdMiddleware:
    """Leads a page's former address (mails and bookmarks have it) to today's."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        if isinstance(exception, Renamed) and request.method in {"GET", "HEAD"}:
            return HttpResponseRedirect(exception.address_now(request))
        return None


def client_address(request: HttpRequest) -> str | None:
    """The address as text, or None when it cannot be known (a socket without a proxy header)."""
    peer = _address(request.META.get("REMOTE_ADDR", ""))
    forwarded = request.META.get("HTTP_X_FORWARDED_FOR", "").rpartition(",")[2]
    return (_address(forwarded) or peer) if _is_proxy(peer) else peer


def _is_proxy(peer: str | None) -> bool:
    """A peer without an address speaks through a socket of this machine."""
    return peer is None or any(
        ipaddress.ip_address(peer) in network for network in settings.GATEHOUSE_PROXIES
    )


def _address(text: str) -> str | None:
    try:
        return str(ipaddress.ip_address(text.strip()))
    except ValueError:
        return None
