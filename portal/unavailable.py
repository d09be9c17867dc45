"""Answer clearly, instead of with a 500, while the database is down or a disk is full.

Django passes every error of a view or a middleware to `errors.server_error`, which asks here first. Each kind
of route formats the answer itself: a view may carry `unavailable`, a function of the request and an
`Unavailable`; pages do not. Nothing here may touch the database, the session, the user or the cache.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable
from dataclasses import replace

import psycopg
from django.db import DatabaseError, InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse
from django.template.loader import get_template
from django.urls import Resolver404, resolve
from psycopg_pool import PoolTimeout, TooManyRequests

from access_requests.errors import Unavailable

log = logging.getLogger(__name__)

# The sentences are not translated: an API's answer and a page use the same ones.
SAFE = "Nothing was changed."
WHOLE = "If you were sending something, check whether it arrived: it was saved completely or not at all."
AWAY = Unavailable("DatabaseAway", "The portal's database is not answering right now.", WHOLE, 5)
BUSY = Unavailable("Busy", f"Too many people are waiting for the portal's database right now. {SAFE}", "", 5)
TOO_SLOW = Unavailable("TooSlow", f"This took too long and was stopped. {SAFE}", "", 10)
LOCKED = Unavailable("Locked", f"Someone else is changing the same thing right now. {SAFE}", "", 5)
READ_ONLY = Unavailable(
    "ReadOnly", f"The portal's database does not accept changes right now. {SAFE}", "", 60
)
FULL = Unavailable(
    "DatabaseFull",
    f"The disk of the portal's database is full. {SAFE}",
    "The people who run this portal must free some room first.",
    60,
)
NO_ROOM = Unavailable(
    "NoRoom",
    f"The portal's disk is full. {SAFE}",
    "The people who run this portal must free some room first.",
    0,
    status=507,
)
BY_SQLSTATE = {
    "57014": TOO_SLOW,  # query_canceled: by statement_timeout
    "55P03": LOCKED,  # lock_not_available: by lock_timeout
    "40P01": LOCKED,  # deadlock_detected
    "40001": LOCKED,  # serialization_failure
    "25P03": TOO_SLOW,  # idle_in_transaction_session_timeout
    "25006": READ_ONLY,  # read_only_sql_transaction
    "53100": FULL,  # disk_full
    "53300": BUSY,  # too_many_connections
}
NO_SPACE = {errno.ENOSPC, errno.EDQUOT}
GONE = OperationalError | InterfaceError | psycopg.OperationalError | psycopg.InterfaceError
SOON = 10  # seconds
View = Callable[[HttpRequest, Unavailable], HttpResponse]


def found_in(error: BaseException | None) -> Unavailable | None:
    """Return what is unavailable, if that raised the error; None for every other error."""
    if isinstance(error, OSError):
        return NO_ROOM if error.errno in NO_SPACE else None
    cause = error.__cause__ if isinstance(error, DatabaseError | InterfaceError) else error
    if isinstance(cause, PoolTimeout | TooManyRequests):
        return BUSY
    if isinstance(cause, psycopg.Error) and cause.sqlstate in BY_SQLSTATE:
        return BY_SQLSTATE[cause.sqlstate]
    if not isinstance(error, GONE):
        return None
    # If the connection failed or was ended, the server gave no reason, or one of these.
    state: str = getattr(cause, "sqlstate", None) or ""
    return AWAY if not state or state.startswith(("08", "57P0")) else None


def answer(request: HttpRequest, error: BaseException | None) -> HttpResponse | None:
    """Answer a request that met this error, and log one line; return None for any other error."""
    found = found_in(error)
    if found is None:
        return None
    why = " ".join(str(error).split())[:300]
    if found is AWAY and request.method in {"GET", "HEAD"}:
        found = replace(found, advice="")
    log.warning("%s %s was answered %s: %s", request.method, request.path_info[:200], found.code, why)
    try:  # the error may have come before the address was resolved
        match = request.resolver_match or resolve(request.path_info)
    except Resolver404:
        view: View = page
    else:
        view = getattr(match.func, "unavailable", page)
    response = view(request, found)
    if found.seconds:
        response.headers.setdefault("Retry-After", str(found.seconds))
    response.headers.setdefault("Cache-Control", "no-store")
    response._has_been_logged = True  # type: ignore[attr-defined]  # Django's mark, instead of a traceback
    return response


def page(request: HttpRequest, found: Unavailable) -> HttpResponse:
    """Return the 503 page for people."""
    said = {
        "sentence": found.sentence,
        "advice": found.advice,
        "soon": 0 < found.seconds <= SOON,
        "again": request.get_full_path() if request.method == "GET" else "",
    }
    text = get_template("503.html").render(said)
    return HttpResponse(text, status=503)
