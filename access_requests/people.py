"""Return people's full names, for code that has no account object."""

from __future__ import annotations


def full_name(first: str, last: str, username: str) -> str:
    """Return first and last name, or the user name if both are empty; never the email address."""
    return f"{first} {last}".strip() or username
