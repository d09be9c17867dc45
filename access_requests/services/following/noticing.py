"""The mail that tells reviewers of what a poll brought."""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings

from access_requests.models import FollowedRepo, RemoteRequest
from access_requests.permissions import people_to_tell
from access_requests.services.following.leases import LEASE
from access_requests.services.mail import queue_mail, release_mail, revise_mail

TEMPLATE = "mails/imported_requests.txt"
HOLD = LEASE + timedelta(
    seconds=30
)  # longer than one entry takes, so that a poll that goes on has its mail in hand


class Notice:
    """One mail to each reviewer for all that one poll brings, queued with the first request and revised with each more.

    It is written in the transaction of the request that it tells of. Held while the poll goes on; of a poll that died it
    leaves by itself, with what was brought until then.
    """

    def __init__(self, followed: FollowedRepo) -> None:
        self._followed = followed
        self._brought: list[int] = []
        self._keys: set[str] = set()

    def write(self, remote: RemoteRequest) -> None:
        """Inside the transaction that imported it; `keep` follows once that is through."""
        number = remote.request_id
        for person in people_to_tell(self._followed.model):
            context = {
                "person": person,
                "followed": self._followed,
                "model": self._followed.model,
                "queue": f"{settings.GATEHOUSE_URL}/admin/access_requests/accessrequest/?state=waiting",
            }
            first, *others = [*self._brought, number]
            joined = {**context, "count": 1 + len(others)}
            if others and revise_mail(
                key=self._key(first, person.pk), template=TEMPLATE, context=joined, hold=HOLD
            ):
                continue
            alone = {**context, "count": 1}
            queue_mail(
                key=self._key(number, person.pk), to=person.email, template=TEMPLATE, context=alone, hold=HOLD
            )

    def _key(self, number: int, person: int) -> str:
        key = f"imported:{self._followed.pk}:{number}:{person}"
        self._keys.add(key)
        return key

    def keep(self, remote: RemoteRequest) -> None:
        """The request is imported: the next mail speaks of it too."""
        self._brought.append(remote.request_id)

    def send(self) -> None:
        """The poll is over, whichever way: nothing more comes."""
        if self._brought:
            release_mail(keys=self._keys)
