"""What people are called, where no account is at hand as an object."""

from __future__ import annotations


def full_name(first: str, last: str, username: str) -> str:
    """Return first and last name, else the user name: never the email address."""
    return f"{first} {last}".strip() or username
