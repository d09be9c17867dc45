"""The WSGI application in front of Django: whose headers are trusted, and which requests may be large."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import unquote

from django.conf import settings
from django.db import connection

from access_requests.addresses import whole_network
from portal.database import budget
from portal.proxies import client_address, strip_forwarded

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
# The only paths with bodies above `refusing.LARGEST_BODY`; docker/nginx lists the same, and a test compares
# both with Django's routes. Each view checks who is asking before it reads.
UPLOADS = r"/api/uploads/[^/]+$|/api/models/[^/]+/[^/]+/commit/"
STAFF_FORMS = r"/admin/access_requests/gatedmodel/(?:add|[^/]+/(?:change|licences))/$"
MORE_STREAMS = (
    8  # threads for large bodies beyond those that `hub.receiving` counts: staff uploads and refused bodies
)
STREAMED = re.compile(f"{UPLOADS}|{STAFF_FORMS}")


class Door:
    """The WSGI application around Django's.

    `portal.webworker` asks it which bodies to collect, stream and count.
    """

    def __init__(self, application: Application) -> None:
        self.application = application
        self.most_streams = settings.GATEHOUSE_MOST_UPLOADS + MORE_STREAMS

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        strip_forwarded(environ)
        return self.application(environ, start_response)

    def streams(self, method: str, path: str) -> bool:
        """Return whether a large body may be read while it arrives. `path` is the path as it was sent."""
        return method in {"POST", "PUT"} and STREAMED.match(unquote(path)) is not None

    def drains(self) -> None:
        """Leave all but a few database connections to the process that takes over."""
        pool = connection.pool  # type: ignore[attr-defined]  # of our backend, portal/database
        if pool is not None:
            pool.shrink(budget.OF_A_DRAINING)

    def sender(self, peer: str, forwarded: str) -> str:
        """Return the address that a request is counted for: for IPv6, its /64."""
        return whole_network(client_address(peer, forwarded) or "")
