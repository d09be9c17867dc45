"""What an applicant submitted, version by version, and who has approved a version."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from access_requests.models.audit import Event
from access_requests.models.catalogue import FormVersion
from access_requests.models.requests import AccessRequest

# The beginning of the names of an event's texts and facts that hold a submission.
ANSWER, PROFILE, ADDRESS = "answer.", "profile.", "address"


class Submission(models.Model):
    """One version of a request as it was submitted: never changed, never deleted.

    The row says which version it is. What was submitted belongs to its event: answers, values taken from the profile
    and the network address as texts with their own salts, so that the log's triggers keep them, `verify_audit` checks them
    and each can be erased alone.
    """

    request = models.ForeignKey(AccessRequest, models.PROTECT, related_name="submissions")
    number = models.PositiveIntegerField(help_text=_("1, 2, 3 ... within the request."))
    form = models.ForeignKey(FormVersion, models.PROTECT, related_name="submissions")
    event = models.OneToOneField(Event, models.PROTECT, related_name="submission")
    at = models.DateTimeField()

    class Meta:
        ordering = ["pk"]
        constraints = [
            models.UniqueConstraint(fields=["request", "number"], name="one_submission_per_number"),
            models.CheckConstraint(condition=Q(number__gte=1), name="submission_counts_from_1"),
        ]

    def __str__(self) -> str:
        return f"submission {self.number} of request #{self.request_id}"

    @property
    def answers(self) -> dict[str, Any]:
        """Return input key -> answer; "(erased)" for an erased one."""
        return _strip_names(self.event.data, ANSWER)

    @property
    def profile(self) -> dict[str, Any]:
        """Return role -> value for what the form did not ask and the profile had."""
        return _strip_names(self.event.data, PROFILE)

    @property
    def address(self) -> str:
        """Return the network address that it was submitted from; "" if it is not known."""
        return str(self.event.data.get(ADDRESS) or "")

    @property
    def licences(self) -> list[str]:
        """Return the SHA-256 of each licence text accepted with it."""
        return list(self.event.facts.get("licences") or [])

    @property
    def erased(self) -> set[str]:
        """Return the names of the event's texts that were erased, such as `answer.f1`."""
        return {text.name for text in self.event.texts.all() if text.text is None}


def _strip_names(data: Mapping[str, Any], beginning: str) -> dict[str, Any]:
    """Return the entries whose name has this beginning, without it."""
    return {name.removeprefix(beginning): value for name, value in data.items() if name.startswith(beginning)}


class Vote(models.Model):
    """An approval of one submission by one person, where a model needs more than one."""

    request = models.ForeignKey(AccessRequest, models.PROTECT, related_name="votes")
    submission = models.ForeignKey(
        Submission, models.PROTECT, null=True, blank=True, db_index=False, related_name="votes"
    )
    reviewer = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="votes")
    words = models.TextField(blank=True, help_text=_("Reaches the applicant with the decision."))
    at = models.DateTimeField(auto_now_add=True)
    ended_at = models.DateTimeField(
        null=True,
        blank=True,
        help_text=_("Set by a decision, a newer submission or a reopening: it does not count any more."),
    )

    class Meta:
        ordering = ["pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["request", "reviewer"],
                condition=Q(ended_at__isnull=True),
                name="one_counting_vote_per_person",
            )
        ]

    def __str__(self) -> str:
        return f"approval of request #{self.request_id} by {self.reviewer}"
