"""`GET /healthz`: database, broker and worker, for supervisors and load balancers."""

from __future__ import annotations

import redis
from django.conf import settings
from django.core.cache import cache
from django.db import DatabaseError, connection
from django.http import HttpRequest, JsonResponse
from django.views.decorators.http import require_safe

from portal.tasks import HEARTBEAT_KEY


@require_safe
def healthz(request: HttpRequest) -> JsonResponse:
    """200 when all three answer, else 503; the worker is known by a heartbeat of the last 30 seconds."""
    parts = {"database": _database(), "broker": _broker(), "worker": cache.get(HEARTBEAT_KEY) is not None}
    ok = all(parts.values())
    answer = JsonResponse(
        {"ok": ok, **parts}, status=200 if ok else 503, headers={"Cache-Control": "no-store"}
    )
    answer._has_been_logged = True  # type: ignore[attr-defined] - Django's mark: a 503 here is an answer, no error
    return answer


def _database() -> bool:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except DatabaseError:
        return False
    return True


def _broker() -> bool:
    try:
        with redis.Redis.from_url(settings.REDIS_URL, socket_connect_timeout=1, socket_timeout=1) as client:
            return bool(client.ping())
    except redis.RedisError:
        return False
