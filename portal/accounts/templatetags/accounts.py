"""What the overridden allauth templates need."""

from __future__ import annotations

from django import template
from django.forms import BaseForm

register = template.Library()


@register.simple_tag
def without_placeholders(form: BaseForm) -> str:
    """Takes the placeholders away that only repeat the labels; prints nothing."""
    for field in form.fields.values():
        field.widget.attrs.pop("placeholder", None)
    return ""
