"""Staff rights are worth a second factor."""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

from portal.accounts.factors import lacks_second_factor, to_second_factor

GUARDED = ("/admin/", "/outbox/")
SENTENCE = (
    "You are staff, so these pages need a second factor: add an authenticator app or a passkey here first."
)


class StaffSecondFactorMiddleware:
    """Sends staff without a second factor from the staff's pages to where they add one; not in the demo."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if request.path.startswith(GUARDED) and request.user.is_staff and lacks_second_factor(request.user):
            return to_second_factor(request, SENTENCE)
        return self.get_response(request)
