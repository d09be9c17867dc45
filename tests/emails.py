"""What the portal has queued for people to read."""

from __future__ import annotations

import re

from access_requests.models import OutgoingMail

CODE = re.compile(r"^[A-Z0-9]{4}-[A-Z0-9]{4}$", re.MULTILINE)


def pressing() -> list[OutgoingMail]:
    """Emails with a code or a link that someone waits for, oldest first; they are not sent yet."""
    return list(OutgoingMail.objects.filter(pressing=True).order_by("pk"))


def newest_code() -> str:
    """The code in the newest of them."""
    text = pressing()[-1].text
    found = CODE.search(text)
    assert found, text
    return found.group()


def newest_link(path: str = "/") -> str:
    """The path of the first link in the newest of them that begins so."""
    text = pressing()[-1].text
    found = re.search(rf"http://127\.0\.0\.1:8000({re.escape(path)}\S*)", text)
    assert found, text
    return found.group(1)
