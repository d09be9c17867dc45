"""Trust client addresses only from the proxies that `GATEHOUSE_PROXIES` names."""

from __future__ import annotations

import ipaddress
from typing import Any

from django.conf import settings

from access_requests.addresses import plain_address

FORWARDED_FOR, FORWARDED_PROTO = "HTTP_X_FORWARDED_FOR", "HTTP_X_FORWARDED_PROTO"
FRONT = "HTTP_X_GATEHOUSE_FRONT"
FROM_PROXIES = (FORWARDED_FOR, FORWARDED_PROTO, FRONT)
# Headers that servers and frameworks read as another client, host or path. No client may send them.
MISLEADING = (
    "HTTP_FORWARDED", "HTTP_X_FORWARDED", "HTTP_X_GATEHOUSE", "HTTP_X_REAL_IP", "HTTP_REMOTE_", "HTTP_X_REMOTE_",
    "HTTP_SCRIPT_", "HTTP_X_SCRIPT", "HTTP_PATH_", "HTTP_X_ORIGINAL", "HTTP_X_REWRITE",
)  # fmt: skip


def strip_forwarded(environ: dict[str, Any]) -> None:
    """Remove from a WSGI environment what its sender may not claim; set path and scheme from the rest.

    `SCRIPT_NAME` is accepted from no one: pages are at the root of their host, and a check that compares
    paths must see the path that the router sees.
    """
    trusted = is_proxy(environ.get("REMOTE_ADDR", ""))
    for key in [key for key in environ if key.startswith(MISLEADING)]:
        if not (trusted and key in FROM_PROXIES):
            del environ[key]
    for key in ("SCRIPT_URL", "REDIRECT_URL", "REMOTE_USER"):
        environ.pop(key, None)
    if prefix := environ.get("SCRIPT_NAME"):
        environ["PATH_INFO"] = prefix + environ.get("PATH_INFO", "")
    environ["SCRIPT_NAME"] = ""
    if FORWARDED_PROTO in environ:
        # The last one is the proxy's own; the others came with the request.
        environ[FORWARDED_PROTO] = scheme = environ[FORWARDED_PROTO].rpartition(",")[2].strip()
        environ["wsgi.url_scheme"] = "https" if scheme == "https" else "http"


def client_address(peer: str, forwarded: str) -> str | None:
    """Return the client's address as text, or None if it is unknown (a socket without a proxy's header).

    Of `X-Forwarded-For` only the last entry counts: the proxy next to us wrote it, while anyone could have
    written the others.
    """
    own = plain_address(peer)
    return (plain_address(forwarded.rpartition(",")[2]) or own) if is_proxy(peer) else own


def is_proxy(peer: str) -> bool:
    """Return whether a peer's headers are trusted.

    A peer with an empty address uses a Unix socket of this machine.
    """
    if not peer:
        return True
    address = plain_address(peer)
    return address is not None and any(
        ipaddress.ip_address(address) in network for network in settings.GATEHOUSE_PROXIES
    )
