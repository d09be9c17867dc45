"""Signing a test client in as the pages do, with the time of it."""

from __future__ import annotations

import time
from typing import Any

from allauth.mfa.totp.internal.auth import format_hotp_value, hotp_value
from django.test import Client

BACKEND = "django.contrib.auth.backends.ModelBackend"
PERIOD, ENOUGH = 30, 10  # seconds that a code of an app holds, and that are left when it is taken


def sign_in(client: Client, person: Any, *, ago: float = 0, confirmed: bool = False) -> Client:
    """Sign `person` in with a password, `ago` seconds ago; `confirmed` says that they typed it once more since."""
    client.force_login(person, backend=BACKEND)
    record = {"method": "password", "at": time.time() - ago} | (
        {"reauthenticated": True} if confirmed else {}
    )
    session = client.session
    session["account_authentication_methods"] = [record]
    session["account_authentication_methods_user"] = str(person.pk)
    session.save()
    return client


def totp_code(secret: str) -> str:
    """Return a code that still holds when it arrives: the end of a period is waited out."""
    if (left := PERIOD - time.time() % PERIOD) < ENOUGH:
        time.sleep(left)
    return str(format_hotp_value(hotp_value(secret, int(time.time()) // PERIOD)))
