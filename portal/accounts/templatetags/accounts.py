"""Tags and filters for the overridden allauth templates."""

from __future__ import annotations

from django import template
from django.forms import BaseForm
from django.utils.translation import gettext as _

from access_requests.models import MailServer
from access_requests.services.emails import mail_server

register = template.Library()

# The first match wins: most browsers also name the browsers that they descend from.
BROWSERS = {"Edg": "Edge", "OPR/": "Opera", "Firefox/": "Firefox", "Chrome/": "Chrome", "Safari/": "Safari"}
SYSTEMS = {
    "Android": "Android",
    "iPhone": "iPhone",
    "iPad": "iPad",
    "Windows": "Windows",
    "Mac OS X": "macOS",
}
SYSTEMS |= {"CrOS": "ChromeOS", "Linux": "Linux"}


@register.simple_tag
def without_placeholders(form: BaseForm) -> str:
    """Remove placeholders that only repeat the labels; print nothing."""
    for field in form.fields.values():
        field.widget.attrs.pop("placeholder", None)
    return ""


@register.filter
def browser(user_agent: str) -> str:
    """Return `Firefox on Linux` or the like for a User-Agent header, or else its first word."""
    name = next((name for mark, name in BROWSERS.items() if mark in user_agent), "")
    system = next((name for mark, name in SYSTEMS.items() if mark in user_agent), "")
    if not name:
        return (user_agent.split() or [_("unknown client")])[0]
    return _("%(browser)s on %(system)s") % {"browser": name, "system": system} if system else name


@register.simple_tag
def mail_outage() -> MailServer | None:
    """Return since when the mail server has refused emails, or None while it works.

    This is for pages that wait for an email.
    """
    return mail_server.outage()
