"""Texts of a gate, written by a model's owner, as safe HTML."""

from __future__ import annotations

from django import template
from django.utils.safestring import SafeString

from access_requests.markdown import plain_text, render_inline, render_markdown

register = template.Library()


@register.filter
def gate_prose(text: str) -> SafeString:
    """A prompt or description: Markdown, one heading level below the page's sections."""
    return render_markdown(text, shift=2)


@register.filter
def gate_line(text: str) -> str:
    """A heading or a button: plain words on one line."""
    return plain_text(text)


@register.filter
def gate_label(text: str) -> SafeString:
    """A field's label: emphasis, code and links."""
    return render_inline(text)
