"""Read the emails that the portal has queued."""

from __future__ import annotations

import re

from access_requests.models import OutgoingMail

CODE = re.compile(r"^[A-Z0-9]{4}-[A-Z0-9]{4}$", re.MULTILINE)


def pressing() -> list[OutgoingMail]:
    """Return the unsent emails with a code or a link that someone is waiting for, oldest first."""
    return list(OutgoingMail.objects.filter(pressing=True).order_by("pk"))


def newest_code() -> str:
    """Return the code in the newest of these emails."""
    text = pressing()[-1].text
    found = CODE.search(text)
    assert found, text
    return found.group()


def newest_link(path: str = "/") -> str:
    """Return the path of the first link in the newest of these emails that starts with `path`."""
    text = pressing()[-1].text
    found = re.search(rf"http://127\.0\.0\.1:8000({re.escape(path)}\S*)", text)
    assert found, text
    return found.group(1)
