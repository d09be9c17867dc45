"""Notes of reviewers about a request, messages to and from its applicant, and a model's message templates."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

from access_requests.enums import MessageKind
from access_requests.models.audit import Event
from access_requests.models.catalogue import GatedModel
from access_requests.models.requests import AccessRequest


class Message(models.Model):
    """A note, or a message to or from the applicant: never changed, never deleted.

    The row says what kind it is and whose. Its words are a text of its event, like the answers of a submission: the log's
    triggers keep them, `verify_audit` checks them, and they can be erased alone.
    """

    request = models.ForeignKey(AccessRequest, models.PROTECT, related_name="messages")
    kind = models.CharField(max_length=10, choices=MessageKind)
    author = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, db_index=False, related_name="messages"
    )
    event = models.OneToOneField(Event, models.PROTECT, related_name="message")
    at = models.DateTimeField()

    class Meta:
        ordering = ["pk"]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} about request #{self.request_id}"

    @property
    def words(self) -> str:
        """Return what was written; "(erased)" if it was erased."""
        return str(self.event.data.get("words", ""))


class MessageTemplate(models.Model):
    """A text that reviewers of a model use again, with placeholders such as `{name}`."""

    model = models.ForeignKey(GatedModel, models.CASCADE, related_name="message_templates", db_index=False)
    name = models.CharField(max_length=100)
    text = models.TextField()
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        verbose_name = _("message template")
        ordering = ["name", "pk"]
        constraints = [
            models.UniqueConstraint(fields=["model", "name"], name="one_template_per_name"),
            models.CheckConstraint(condition=~models.Q(text=""), name="template_has_text"),
        ]

    def __str__(self) -> str:
        return self.name
