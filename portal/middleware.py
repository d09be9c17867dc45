"""The client's address, as far as it can be trusted."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable

from django.http import HttpRequest, HttpResponse


class ClientAddressMiddleware:
    """Sets `request.client_address`: the peer, or what a proxy on this machine or a private network says of it.

    Only the last entry of `X-Forwarded-For` is taken: it was written by the proxy next to us, the
    others by anybody.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        request.client_address = client_address(request)  # type: ignore[attr-defined]
        return self.get_response(request)


def client_address(request: HttpRequest) -> str | None:
    """The address as text, or None when it cannot be known (a socket without a proxy header)."""
    peer = _address(request.META.get("REMOTE_ADDR", ""))
    forwarded = request.META.get("HTTP_X_FORWARDED_FOR", "").rpartition(",")[2]
    if forwarded and (peer is None or ipaddress.ip_address(peer).is_private):
        return _address(forwarded) or peer
    return peer


def _address(text: str) -> str | None:
    try:
        return str(ipaddress.ip_address(text.strip()))
    except ValueError:
        return None
