"""Sign a test client in as the pages do, at a chosen time."""

from __future__ import annotations

import time
from typing import Any

from allauth.mfa.totp.internal.auth import format_hotp_value, hotp_value
from django.test import Client

BACKEND = "django.contrib.auth.backends.ModelBackend"
PERIOD, ENOUGH = 30, 10  # seconds that an app's code is valid, and that must be left when it is used


def sign_in(client: Client, person: Any, *, ago: float = 0, confirmed: bool = False) -> Client:
    """Sign `person` in with a password, `ago` seconds ago; `confirmed` means they re-entered it since."""
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
    """Return a code that will still be valid on arrival, waiting for the next period if necessary."""
    if (left := PERIOD - time.time() % PERIOD) < ENOUGH:
        time.sleep(left)
    return str(format_hotp_value(hotp_value(secret, int(time.time()) // PERIOD)))
