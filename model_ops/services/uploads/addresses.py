"""Sign addresses to which one person may send the bytes of one object of one model, for a day.

The client sends the bytes without its token, so the address names the token instead. Whatever receives the bytes
checks that this token and its person still have access.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from django.core import signing

from access_requests.access.permissions import is_owner
from access_requests.errors import NotAllowed
from access_requests.models import AccessToken, GatedModel
from access_requests.services.tokens.issuing import live_tokens
from access_requests.services.tokens.networks import works_from

SALT = "gatehouse.uploads"
LIFE = 24 * 3600  # seconds
NOT_VALID = "This upload address {why}: run the upload again, which asks for a new one."


@dataclass(frozen=True)
class Address:
    """One object, or with `part` one part of it (from 1 on), of `chunk` bytes each."""

    token_id: int
    model_id: int
    sha256: str
    size: int
    chunk: int = 0
    part: int = 0

    @property
    def parts(self) -> int:
        return -(-self.size // self.chunk) if self.chunk else 0

    @property
    def expected(self) -> int:
        """Return the expected bytes of the body."""
        return min(self.chunk, self.size - (self.part - 1) * self.chunk) if self.part else self.size


def sign(address: Address, *, now: float | None = None) -> str:
    """Return the signed address as one path segment."""
    until = int((now or time.time()) + LIFE)
    fields = (address.token_id, address.model_id, address.sha256, address.size, address.chunk, address.part)
    return signing.dumps([until, *fields], salt=SALT)


def read(text: str) -> Address:
    """Return the address as it was signed; refuse a changed or old one."""
    try:
        until, *fields = signing.loads(text, salt=SALT)
    except signing.BadSignature as error:
        raise NotAllowed(NOT_VALID.format(why="was not made here")) from error
    if until < time.time():
        raise NotAllowed(NOT_VALID.format(why="has ended"))
    return Address(*fields)


def check_right(address: Address, *, client_address: str | None) -> None:
    """Refuse unless the token of the address is still valid and allowed from here, and its person owns the model."""
    token = live_tokens(AccessToken.objects.filter(pk=address.token_id)).select_related("user").first()
    model = GatedModel.objects.filter(pk=address.model_id).first()
    if token is None or model is None or not is_owner(token.user, model):
        raise NotAllowed(NOT_VALID.format(why="was given to someone who may not upload here any more"))
    if not works_from(token.networks, client_address):
        raise NotAllowed(NOT_VALID.format(why="does not work from your network"))
