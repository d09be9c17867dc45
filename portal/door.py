"""What stands between the web server and Django: whose headers count, and which requests may be large."""

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
# The only paths with bodies above `refusing.LARGEST_BODY`; docker/nginx has the same, and a test compares both with
# Django's routes. Each view looks at who asks before it reads.
UPLOADS = r"/api/uploads/[^/]+$|/api/models/[^/]+/[^/]+/commit/"
STAFF_FORMS = r"/admin/access_requests/gatedmodel/(?:add|[^/]+/(?:change|licences))/$"
MORE_STREAMS = (
    8  # threads for large bodies beyond those that `hub.receiving` takes: the staff's, refused ones
)
STREAMED = re.compile(f"{UPLOADS}|{STAFF_FORMS}")


class Door:
    """A WSGI application around Django's; `portal.webworker` asks it what it may collect, hand on and count."""

    def __init__(self, application: Application) -> None:
        self.application = application
        self.most_streams = settings.GATEHOUSE_MOST_UPLOADS + MORE_STREAMS

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        strip_forwarded(environ)
        return self.application(environ, start_response)

    def streams(self, method: str, path: str) -> bool:
        """Return whether a large body may be read while it arrives; `path` as it was sent."""
        return method in {"POST", "PUT"} and STREAMED.match(unquote(path)) is not None

    def drains(self) -> None:
        """Leave the database's connections to the process that takes over, but for a few."""
        pool = connection.pool  # type: ignore[attr-defined]  # of our backend, portal/database
        if pool is not None:
            pool.shrink(budget.OF_A_DRAINING)

    def sender(self, peer: str, forwarded: str) -> str:
        """Return the address that a request is counted for: of IPv6 its /64."""
        return whole_network(client_address(peer, forwarded) or "")
