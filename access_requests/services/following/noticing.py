"""Email reviewers about the requests that a poll brought."""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings

from access_requests.access.permissions import people_to_tell
from access_requests.models import FollowedRepo, RemoteRequest
from access_requests.services.emails.write import queue_mail, release_mail, revise_mail
from access_requests.services.leases import LEASE

TEMPLATE = "mails/imported_requests.txt"
# Longer than one entry takes, so that the email stays held while a poll is running.
HOLD = LEASE + timedelta(seconds=30)


class Notice:
    """One email to each reviewer for all requests of a poll: queued with the first, revised with each further one.

    It is written in the transaction of the request. It is held while the poll runs; if the poll dies, it is
    sent after that time with the requests imported until then.
    """

    def __init__(self, followed: FollowedRepo) -> None:
        self._followed = followed
        self._told: dict[
            int, list[int]
        ] = {}  # by person: the requests in the email that can still be revised
        self._written: dict[int, list[int]] = {}
        self._keys: set[str] = set()

    def write(self, remote: RemoteRequest) -> None:
        """Add a request inside the transaction that imports it; call `keep` after the commit."""
        number = remote.request_id
        self._written = {}
        for person in people_to_tell(self._followed.model):
            context = {
                "person": person,
                "followed": self._followed,
                "model": self._followed.model,
                "queue": f"{settings.GATEHOUSE_URL}/admin/access_requests/accessrequest/?state=waiting",
            }
            told = [*self._told.get(person.pk, []), number]
            key, joined = self._email_key(told[0], person.pk), {**context, "count": len(told)}
            if len(told) == 1 or not revise_mail(key=key, template=TEMPLATE, context=joined, hold=HOLD):
                told = [number]
                queue_mail(
                    key=self._email_key(number, person.pk), to=person.email, template=TEMPLATE,
                    context={**context, "count": 1}, hold=HOLD,
                )  # fmt: skip
            self._written[person.pk] = told

    def _email_key(self, number: int, person: int) -> str:
        key = f"imported:{self._followed.pk}:{number}:{person}"
        self._keys.add(key)
        return key

    def keep(self) -> None:
        """Keep the last written request, since its import was committed: later revisions include it."""
        self._told |= self._written

    def send(self) -> None:
        """Release the email, because the poll has ended."""
        if self._told:
            release_mail(keys=self._keys)
