"""ORCID iDs: sixteen digits in four groups, the last a check digit (ISO 7064 MOD 11-2)."""

from __future__ import annotations

import re

from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _

SHAPE = re.compile(r"\d{15}[\dX]", re.ASCII)


def check_digit(digits: str) -> str:
    """Return the sixteenth character for the first fifteen digits."""
    total = 0
    for digit in digits:
        total = (total + int(digit)) * 2
    value = (12 - total % 11) % 11
    return "X" if value == 10 else str(value)


def clean_orcid(text: str) -> str:
    """Return an ORCID iD, or a pasted orcid.org address, as `0000-0002-1825-0097`; empty stays empty."""
    bare = re.sub(r"^(https?://)?(www\.)?orcid\.org/", "", text.strip(), flags=re.IGNORECASE).rstrip("/")
    compact = re.sub(r"[\s\u2010-\u2015-]", "", bare).upper()
    if not compact:
        return ""
    if not SHAPE.fullmatch(compact):
        raise ValidationError(_("This is not an ORCID iD: write its 16 digits, as in 0000-0002-1825-0097."))
    if check_digit(compact[:15]) != compact[15]:
        raise ValidationError(_("The check digit is wrong, so there is a typo: check your ORCID iD."))
    return "-".join(compact[i : i + 4] for i in range(0, 16, 4))
