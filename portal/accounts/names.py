"""Names of people: any script for their real names, the Hub's characters for the public user name."""

from __future__ import annotations

import re
import secrets
import unicodedata

from django.core.exceptions import ValidationError
from django.core.validators import RegexValidator
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from access_requests.lines import visible_line
from portal.accounts.models import USERNAME_PATTERN, User

# Letters that Unicode does not decompose into a base letter and a mark.
LETTERS = str.maketrans(
    {
        "ß": "ss", "æ": "ae", "Æ": "Ae", "œ": "oe", "Œ": "Oe", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L",
        "đ": "d", "Đ": "D", "ð": "d", "Ð": "D", "þ": "th", "Þ": "Th", "ħ": "h", "Ħ": "H", "ı": "i",
        "ŋ": "ng", "Ŋ": "Ng", "ĸ": "k", "ŧ": "t", "Ŧ": "T", "ə": "a", "Ə": "A",
    }
)  # fmt: skip
# Nobody can sign up under a name that sounds official; the first owner may take one.
RESERVED = {
    "admin", "administrator", "gatehouse", "help", "info", "moderator", "official", "operator", "owner",
    "reviewer", "root", "security", "staff", "support", "system", "team", "webmaster",
}  # fmt: skip
LONGEST_SUGGESTION = 48
BAD_USERNAME = gettext_lazy(
    "Use 1 to 96 letters, digits, '_', '-' and '.', without '--' or '..' and without '-' or '.' at an end."
)
_username_form = RegexValidator(USERNAME_PATTERN, BAD_USERNAME)


def clean_name(text: str) -> str:
    """Return the name as `visible_line` shows it.

    Joiners stay: Persian and several Indic scripts need them.
    """
    return visible_line(text)


def fold(text: str) -> str:
    """Return `text` as lower-case ASCII letters and digits, with hyphens between words.

    Other scripts give an empty string.
    """
    decomposed = unicodedata.normalize("NFKD", text.translate(LETTERS))
    ascii_only = decomposed.encode("ascii", "ignore").decode().lower().replace("'", "")
    return re.sub(r"[^a-z0-9]+", "-", ascii_only).strip("-")


def suggest_username(*, first_name: str, last_name: str = "") -> str:
    """Return a free user name made from the names: `zoe-garcia`, or else `zoe-garcia-2`.

    It is never made from the email address.
    """
    base = fold(f"{first_name} {last_name}")[:LONGEST_SUGGESTION].strip("-")
    if not base:
        return anonymous_username()
    taken = RESERVED | {
        name.lower()
        for name in User.objects.filter(username__istartswith=base).values_list("username", flat=True)
    }
    if base not in taken:
        return base
    return next(name for n in range(2, len(taken) + 3) if (name := f"{base}-{n}") not in taken)


def anonymous_username() -> str:
    """Return a free user name that says nothing about the person: `researcher-` and digits."""
    for digits in (4, 6, 9, 12):
        for _attempt in range(5):
            name = f"researcher-{secrets.randbelow(9 * 10 ** (digits - 1)) + 10 ** (digits - 1)}"
            if not User.objects.filter(username__iexact=name).exists():
                return name
    raise RuntimeError("no free user name among 10^12: the random source is broken")


def check_username(username: str, *, holder: User | None = None, reserved_too: bool = False) -> str:
    """Return the user name if `holder` may have it. Raises `ValidationError` with a sentence if not."""
    _username_form(username)
    if holder is not None and username.lower() == holder.username.lower():
        return username
    if username.lower() in RESERVED and not reserved_too:
        raise ValidationError(
            _("“%(username)s” is reserved for the portal: choose another user name.") % {"username": username}
        )
    if User.objects.filter(username__iexact=username).exists():
        raise ValidationError(
            _("“%(username)s” is taken: choose another user name.") % {"username": username}
        )
    return username
