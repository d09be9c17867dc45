"""Sizes on pages, in the same powers of ten as plans, mails and the command line."""

from __future__ import annotations

from django import template

from model_ops.recovery.planned import human

register = template.Library()


@register.filter
def bytes_shown(size: int | None) -> str:
    """`8800000` as *8.8 MB*; nothing where there is no number."""
    return "" if size is None else human(size)
