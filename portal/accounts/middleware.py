"""Staff rights are worth a second factor."""

from __future__ import annotations

from collections.abc import Callable

from allauth.mfa.utils import is_mfa_enabled
from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect

GUARDED = ("/admin/", "/outbox/")
SENTENCE = (
    "You are staff, so these pages need a second factor: add an authenticator app or a passkey here first."
)


class StaffSecondFactorMiddleware:
    """Sends staff without a second factor from the staff's pages to where they add one; not in the demo."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if request.path.startswith(GUARDED) and self._lacks_second_factor(request):
            messages.warning(request, SENTENCE)
            return redirect("mfa_index")
        return self.get_response(request)

    def _lacks_second_factor(self, request: HttpRequest) -> bool:
        user = request.user
        return (
            not settings.GATEHOUSE_DEMO
            and user.is_authenticated
            and user.is_staff
            and not is_mfa_enabled(user)
        )
