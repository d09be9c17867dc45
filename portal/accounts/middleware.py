"""Require a second factor for the admin and the pages of roles."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext as _

from portal.accounts.factors import lacks_second_factor, to_second_factor

GUARDED_NAMESPACE = "admin"
GUARDED_VIEWS = {"outbox", "outbox_mail", "model_downloads", "model_downloads_csv"}


class StaffSecondFactorMiddleware:
    """A middleware that sends people who may enter the admin, but have no second factor, to where they add one.

    The demo does without. It looks at the view that the router found, so that no spelling of an address gets
    past it.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_view(
        self, request: HttpRequest, view: Callable[..., HttpResponse], args: Any, kwargs: Any
    ) -> HttpResponse | None:
        found = request.resolver_match
        if found is None or not (GUARDED_NAMESPACE in found.namespaces or found.view_name in GUARDED_VIEWS):
            return None
        if request.user.is_staff and lacks_second_factor(request.user):
            return to_second_factor(
                request,
                _("These pages need a second factor: add an authenticator app or a passkey here first."),
            )
        return None
