"""Links for emails: always at GATEHOUSE_URL, whatever the Host header of the request says."""

from __future__ import annotations

from urllib.parse import urlsplit

from django.conf import settings
from django.urls import reverse


def at_our_address(url: str) -> str:
    """Return the same path and query at GATEHOUSE_URL."""
    parts = urlsplit(url)
    return settings.GATEHOUSE_URL + parts.path + (f"?{parts.query}" if parts.query else "")


def page_address(name: str, *args: object, **kwargs: object) -> str:
    """Return the full address of a named page."""
    return settings.GATEHOUSE_URL + reverse(name, args=args or None, kwargs=kwargs or None)
