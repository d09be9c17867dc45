"""The one rule for where a second factor is required. The demo never asks for one."""

from __future__ import annotations

from typing import Any

from allauth.mfa.utils import is_mfa_enabled
from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect


def lacks_second_factor(user: Any) -> bool:
    """Return whether the person needs a second factor here and signed in by a password or a link alone."""
    return not settings.GATEHOUSE_DEMO and user.is_authenticated and not is_mfa_enabled(user)


def to_second_factor(request: HttpRequest, sentence: str) -> HttpResponse:
    """Send the person to the page where they add a second factor, and say why."""
    messages.warning(request, sentence)
    return redirect("mfa_index")
