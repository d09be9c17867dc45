"""Where a second factor is demanded, one rule: the demo asks for none."""

from __future__ import annotations

from typing import Any

from allauth.mfa.utils import is_mfa_enabled
from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect


def lacks_second_factor(user: Any) -> bool:
    """Signed in by a password or a link alone, where that is not enough."""
    return not settings.GATEHOUSE_DEMO and user.is_authenticated and not is_mfa_enabled(user)


def to_second_factor(request: HttpRequest, sentence: str) -> HttpResponse:
    """Sends the person to where they add one, and says why."""
    messages.warning(request, sentence)
    return redirect("mfa_index")
