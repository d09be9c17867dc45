"""Variables that every template can use."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http import HttpRequest

from portal.outbox import outbox_is_open


def site(request: HttpRequest) -> dict[str, Any]:
    """Return `outbox_open`, `no_mail_server`, `demo`, and `sign_in_next`: where to return after sign-in."""
    entrance = (
        request.path_info.startswith("/accounts/") or request.method != "GET" or request.path_info == "/"
    )
    return {
        "outbox_open": outbox_is_open(request),
        "no_mail_server": settings.OUTBOX_PAGE,
        "demo": settings.GATEHOUSE_DEMO,
        "portal_address": settings.GATEHOUSE_URL,
        "sign_in_next": "" if entrance else request.get_full_path(),
    }
