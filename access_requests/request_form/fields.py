"""The inputs of a request form: what each one accepts, and its error messages."""

from __future__ import annotations

import re
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.core.validators import MaxLengthValidator
from django.forms.utils import flatatt
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from access_requests.request_form.publications import parse_publications, says_none
from access_requests.storable_text import is_storable

EMPTY = _("This field is required: fill it in.")
UNSTORABLE = _("This contains a character that cannot be stored: type the text again.")
TOO_LONG = _("This has %(show_value)d characters, but at most %(limit_value)d are allowed: shorten it.")
NOT_TICKED = _("You must agree to this before you can submit the request: tick it.")
NO_COUNTRY = _("This country is not in the list: choose one from it.")
NO_OPTION = _("This is not one of the options: choose one.")
NO_DATE = _("This is not a valid date: write it as YYYY-MM-DD, such as 2024-01-31.")
NO_EMAIL = _("This is not an email address: write it like name@example.org.")


class TextInput(forms.CharField):
    """Text of several lines in any script."""

    widget: type[forms.Widget] | forms.Widget = forms.Textarea(attrs={"rows": 4})
    longest = 10_000
    default_error_messages = {"required": EMPTY}

    def __init__(self, *, max_length: int | None = None, **options: Any) -> None:
        super().__init__(max_length=max_length or self.longest, **options)
        self.validators = [MaxLengthValidator(self.max_length, TOO_LONG)]

    def to_python(self, value: Any) -> str:
        """Return the text with `\\n` line ends; refuse characters that the database cannot store."""
        text = str(value or "").replace("\r\n", "\n").replace("\r", "\n")
        if not is_storable(text):
            raise ValidationError(UNSTORABLE, code="unstorable")
        return str(super().to_python(text))


class LineInput(TextInput):
    """Text of one line; pasted line ends become spaces, so that the text is fit for an email's subject."""

    widget: type[forms.Widget] | forms.Widget = forms.TextInput
    longest = 1_000

    def to_python(self, value: Any) -> str:
        """Return the text on one line."""
        return " ".join(line.strip() for line in super().to_python(value).splitlines())


class DraftInput(LineInput):
    """Any text, for a draft's date that may be incomplete."""

    def __init__(self, widget: type[forms.Widget]) -> None:
        super().__init__(widget=widget)


class EmailInput(LineInput):
    """An email address; only its form is checked, since scripts and new domains differ too much for more."""

    widget = forms.EmailInput

    def __init__(self, *, draft: bool, **options: Any) -> None:
        super().__init__(**options)
        self.draft = draft

    def validate(self, value: str) -> None:
        """Refuse a text without a name, an @ and a domain."""
        super().validate(value)
        if value and not self.draft and not re.fullmatch(r"[^\s@<>,;]+@[^\s@<>,;]+\.[^\s@.<>,;]+", value):
            raise ValidationError(NO_EMAIL, code="invalid")


class TickInput(forms.BooleanField):
    """A checkbox; if it is required, it must be ticked."""

    default_error_messages = {"required": NOT_TICKED}


class _SelectWidget(forms.Select):
    """A select without groups that needs no template per option: those take 25 ms for a list of countries."""

    def render(self, name: str, value: Any, attrs: Any = None, renderer: Any = None) -> SafeString:
        widget = self.get_context(name, value, attrs)["widget"]
        options = (option for _name, group, _index in widget["optgroups"] for option in group)
        rows = ((one["value"], flatatt(one["attrs"]), one["label"]) for one in options)
        inner = format_html_join("", '<option value="{}"{}>{}</option>', rows)
        return format_html('<select name="{}"{}>{}</select>', name, flatatt(widget["attrs"]), inner)


class _Choice(forms.ChoiceField):
    """A choice from a list; a draft drops a value that is not on it."""

    widget = _SelectWidget

    def __init__(self, *, draft: bool, **options: Any) -> None:
        super().__init__(**options)
        self.draft = draft

    def to_python(self, value: Any) -> str:
        """Return the value; for a draft "" if it is not on the list."""
        text = super().to_python(value)
        return text if not self.draft or self.valid_value(text) else ""


class CountryInput(_Choice):
    """An ISO 3166 alpha-2 code."""

    default_error_messages = {"required": EMPTY, "invalid_choice": NO_COUNTRY}


class SelectInput(_Choice):
    """One of the card's options, by value."""

    default_error_messages = {"required": EMPTY, "invalid_choice": NO_OPTION}


class _DateWidget(forms.DateInput):
    """The browser's date picker, which sends ISO dates whatever it shows."""

    input_type = "date"

    def __init__(self, attrs: dict[str, Any] | None = None) -> None:
        super().__init__(attrs, format="%Y-%m-%d")


class DateInput(forms.DateField):
    """A day."""

    widget = _DateWidget
    default_error_messages = {"required": EMPTY, "invalid": NO_DATE}

    def __init__(self) -> None:
        super().__init__(input_formats=["%Y-%m-%d"])


class PublicationsInput(TextInput):
    """DOIs, arXiv ids or links, one per line, as a list; "none" is the empty list, and no answer is None."""

    default_error_messages = {"required": _("This field is required: list your publications, or write none.")}

    def __init__(self, *, draft: bool) -> None:
        super().__init__()
        self.draft = draft
        self.widget.attrs["placeholder"] = gettext("One DOI, arXiv id or link per line, or none")

    def clean(self, value: Any) -> list[str] | None:
        """Return the list; name every bad line, but keep the lines of a draft as they are."""
        text = super().clean(value)
        if not text:
            return None
        if self.draft:
            return [] if says_none(text) else [line for line in text.split("\n") if line.strip()]
        found, problems = parse_publications(text)
        if problems:
            raise ValidationError([ValidationError(problem, code="invalid") for problem in problems])
        return found
