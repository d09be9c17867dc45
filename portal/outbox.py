"""Email without a mail server: stored in the database, shown on the outbox page.

The page exists only while EMAIL_URL is unset, since it shows everyone's codes and links: to superusers, and in the
demo to anyone on this machine.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Concatenate, ParamSpec

from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.core.mail import EmailMessage
from django.core.mail.backends.base import BaseEmailBackend
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.utils.html import escape, format_html
from django.utils.safestring import SafeString, mark_safe
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from portal.accounts.models import CaughtMail

KEPT = 1000
PER_PAGE = 50
LINK = re.compile(r"https?://[^\s<>\"']+[^\s<>\"'.,;:!?)\]]")
P = ParamSpec("P")


class OutboxBackend(BaseEmailBackend):
    """An email backend that stores each email and keeps the newest KEPT."""

    def send_messages(self, email_messages: Sequence[EmailMessage]) -> int:
        rows = [
            CaughtMail(to=", ".join(mail.recipients()), subject=str(mail.subject), text=str(mail.body))
            for mail in email_messages
        ]
        CaughtMail.objects.bulk_create(rows)
        oldest_kept = CaughtMail.objects.values_list("pk", flat=True)[KEPT - 1 : KEPT]
        CaughtMail.objects.filter(pk__lt=oldest_kept[0] if oldest_kept else 0).delete()
        return len(rows)


def outbox_is_open(request: HttpRequest) -> bool:
    """Return whether this visitor may read everyone's emails here."""
    if not settings.OUTBOX_PAGE:
        return False
    address = getattr(request, "client_address", None)
    if settings.GATEHOUSE_DEMO and address is not None and ipaddress.ip_address(address).is_loopback:
        return True
    user = getattr(request, "user", None)
    return bool(user and user.is_authenticated and user.is_superuser)


def only_when_open(
    view: Callable[Concatenate[HttpRequest, P], HttpResponse],
) -> Callable[Concatenate[HttpRequest, P], HttpResponse]:
    """Answer 404 to everyone else: for them the page does not exist."""

    @wraps(view)
    def guarded(request: HttpRequest, /, *args: P.args, **kwargs: P.kwargs) -> HttpResponse:
        if not outbox_is_open(request):
            raise Http404
        return view(request, *args, **kwargs)

    return guarded


@login_not_required
@only_when_open
@require_safe
@never_cache
def mails(request: HttpRequest) -> HttpResponse:
    """Show the emails, newest first."""
    page = Paginator(CaughtMail.objects.all(), PER_PAGE).get_page(request.GET.get("page"))
    return render(request, "accounts/outbox.html", {"page": page})


@login_not_required
@only_when_open
@require_safe
@never_cache
def mail(request: HttpRequest, mail_id: int) -> HttpResponse:
    caught = get_object_or_404(CaughtMail, pk=mail_id)
    return render(request, "accounts/outbox_mail.html", {"mail": caught, "text": with_links(caught.text)})


def with_links(text: str) -> SafeString:
    """Return the escaped text with its http(s) addresses as links."""
    parts, end = [], 0
    for match in LINK.finditer(text):
        parts.append(escape(text[end : match.start()]))
        parts.append(format_html('<a href="{0}" rel="noopener noreferrer nofollow">{0}</a>', match.group()))
        end = match.end()
    parts.append(escape(text[end:]))
    return mark_safe("".join(parts))  # noqa: S308 - each part was escaped just above
