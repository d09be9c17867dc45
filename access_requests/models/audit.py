"""The event log: append-only for everyone, insert-only for the portal, chained by the database at commit."""

from __future__ import annotations

import json
from typing import Any

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

ACTOR = "actor_name"  # the name of this text; others are named after their key in the data
ERASED = "(erased)"


class Event(models.Model):
    """One thing that happened, written only by `services.event_log.append.append_event`.

    Names, addresses and free text are not in the row but in `EventText`; the row holds their salted digests.
    Its place in the chain is in its `EventLink`. Events of format 1, from earlier versions, hold everything
    in the row.
    """

    format = models.PositiveSmallIntegerField(default=2, editable=False)
    at = models.DateTimeField()
    kind = models.CharField(max_length=60)
    actor = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, null=True, blank=True, related_name="+"
    )
    writer = models.CharField(
        max_length=200,
        blank=True,
        help_text=_("A part of the portal that acted by itself; a person's name is a text."),
    )
    model = models.ForeignKey("GatedModel", models.PROTECT, null=True, blank=True, related_name="events")
    request = models.ForeignKey("AccessRequest", models.PROTECT, null=True, blank=True, related_name="events")
    grant = models.ForeignKey("Grant", models.PROTECT, null=True, blank=True, related_name="events")
    facts = models.JSONField(
        default=dict, blank=True, help_text=_("Numbers, codes, hashes and times of the data, by key.")
    )
    digests = models.JSONField(
        default=dict, blank=True, help_text=_("SHA-256 of salt and text, by the text's name.")
    )
    digest = models.CharField(
        max_length=64, blank=True, help_text=_("SHA-256 of the row as docs/event-log.md writes it.")
    )
    old_number = models.BigIntegerField(unique=True, null=True, editable=False, help_text=_("Format 1 only."))
    old_previous_hash = models.CharField(
        max_length=64, blank=True, editable=False, help_text=_("Format 1 only.")
    )
    old_hash = models.CharField(max_length=64, blank=True, editable=False, help_text=_("Format 1 only."))

    class Meta:
        ordering = ["pk"]
        constraints = [
            models.CheckConstraint(
                condition=(models.Q(format=2, old_number=None, old_hash="") & ~models.Q(digest=""))
                | (models.Q(format=1, old_number__isnull=False, digest="") & ~models.Q(writer="")),
                name="event_of_a_known_format",
            ),
        ]
        indexes = [
            models.Index(fields=["at", "id"], name="event_by_time"),
            models.Index(fields=["model", "at", "id"], name="event_of_model"),
            models.Index(fields=["kind", "at", "id"], name="event_by_kind"),
            models.Index(fields=["writer", "id"], condition=~models.Q(writer=""), name="event_by_writer"),
        ]

    def __str__(self) -> str:
        return f"{self.number or 'new'} {self.kind}"

    @property
    def number(self) -> int | None:
        """Return its place in the chain: 1, 2, 3 ... without a gap; None until its transaction is committed."""
        if self.old_number is not None:
            return self.old_number
        known = self._state.fields_cache
        link = known["link"] if "link" in known else EventLink.objects.filter(event=self).first()
        return link.number if link else None

    @property
    def actor_name(self) -> str:
        """Return the name that the actor had at the time; "(erased)" if it was erased since."""
        return self.writer or str(self._texts_by_name().get(ACTOR, ERASED))

    @property
    def data(self) -> dict[str, Any]:
        """Return what was appended: the facts, and the texts, with "(erased)" for erased ones."""
        texts = self._texts_by_name()
        return {**self.facts, **{name: texts.get(name, ERASED) for name in self.digests if name != ACTOR}}

    def _texts_by_name(self) -> dict[str, Any]:
        """Return the texts by name, as they were appended, without erased ones."""
        if not hasattr(self, "_given"):
            self._given = {row.name: json.loads(row.text) for row in self.texts.all() if row.text is not None}
        given: dict[str, Any] = self._given
        return given


class EventText(models.Model):
    """A name, an address or free text of one event: the only part of the log that can be erased.

    The database function `gatehouse_erase_event_texts` removes salt and text and appends an event that says
    so. The event's own row keeps the digest, from which nothing can be guessed without the salt.
    """

    event = models.ForeignKey(Event, models.PROTECT, related_name="texts")
    name = models.CharField(max_length=60, help_text=_("The key in the event's data, or actor_name."))
    salt = models.BinaryField(max_length=16, null=True)
    text = models.TextField(null=True, help_text=_("As canonical JSON."))  # noqa: DJ001 - null is erased

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["event", "name"], name="one_text_per_event_and_name"),
            models.CheckConstraint(
                condition=models.Q(salt=None, text=None) | models.Q(salt__isnull=False, text__isnull=False),
                name="text_with_its_salt",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.name} of event {self.event_id}"


class EventLink(models.Model):
    """An event's place in the chain, written by the database when the event's transaction commits."""

    number = models.BigIntegerField(primary_key=True)
    event = models.OneToOneField(Event, models.PROTECT, related_name="link")
    previous_hash = models.CharField(max_length=64)
    hash = models.CharField(max_length=64)

    class Meta:
        ordering = ["number"]

    def __str__(self) -> str:
        return f"{self.number} {self.hash[:8]}"
