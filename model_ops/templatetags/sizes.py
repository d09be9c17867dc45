"""Format sizes and times on pages; sizes use the same powers of ten as plans, emails and the command line."""

from __future__ import annotations

from django import template
from django.utils.translation import gettext as _

from model_ops.recovery.planning.plan import human

register = template.Library()


@register.filter
def bytes_shown(size: int | None) -> str:
    """Format `8800000` as *8.8 MB*; return nothing if there is no number."""
    return "" if size is None else human(size)


@register.filter
def time_shown(seconds: float | None) -> str:
    """Format `75.2` as *1 min 15 s*: at most two parts, and nothing if there is no number."""
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 1:
        return _("%(seconds)d s") % {"seconds": rest}
    if minutes < 60:
        return _("%(minutes)d min %(seconds)d s") % {"minutes": minutes, "seconds": rest}
    hours, minutes = divmod(minutes, 60)
    return _("%(hours)d h %(minutes)d min") % {"hours": hours, "minutes": minutes}
