"""Outgoing emails: written with the decision, sent by a worker, and kept while the mail server fails."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from access_requests.enums import MailState
from access_requests.search import OF_EMAIL, trigram_index


class OutgoingMail(models.Model):
    key = models.CharField(
        max_length=200, unique=True, help_text=_("What it is about: the same thing is emailed once.")
    )
    to = models.EmailField()
    subject = models.CharField(max_length=300)
    text = models.TextField()
    state = models.CharField(max_length=10, choices=MailState, default=MailState.WAITING)
    attempts = models.PositiveIntegerField(default=0)
    last_error = models.TextField(blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    next_try_at = models.DateTimeField(default=timezone.now)
    sent_at = models.DateTimeField(null=True, blank=True)
    pressing = models.BooleanField(
        default=False,
        db_default=False,
        help_text=_(
            "A code or a link that someone waits for: sent before the others, its text kept only until then."
        ),
    )
    useless_after = models.DateTimeField(
        null=True,
        blank=True,
        help_text=_("Not sent any more after this, because its code has ended by then."),
    )
    lease_owner = models.CharField(max_length=32, blank=True, default="", db_default="", editable=False)
    lease_until = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        verbose_name = _("outgoing email")
        ordering = ["-pk"]
        indexes = [
            models.Index(
                fields=["pressing", "next_try_at"], name="mail_next", condition=Q(state=MailState.WAITING)
            ),
            models.Index(
                fields=["useless_after"],
                name="mail_useless",
                condition=Q(state__in=[MailState.WAITING, MailState.FAILED], useless_after__isnull=False),
            ),
            models.Index(
                fields=["created_at"],
                name="mail_done",
                condition=Q(state__in=[MailState.SENT, MailState.EXPIRED]),
            ),
            models.Index(F("id").desc(), name="mail_given_up", condition=Q(state=MailState.FAILED)),
            trigram_index(OF_EMAIL, name="email_search"),
        ]

    def __str__(self) -> str:
        return f"{self.subject} to {self.to}"


class MailServer(models.Model):
    """The mail server's state: one row, created at its first failure, read by each process before it sends."""

    ROW = 1

    failures = models.PositiveIntegerField(default=0, help_text=_("In a row; 0 while it answers."))
    failing_since = models.DateTimeField(null=True, blank=True)
    paused_until = models.DateTimeField(null=True, blank=True, help_text=_("Nothing is sent before this."))
    last_error = models.TextField(blank=True)

    class Meta:
        constraints = [models.CheckConstraint(condition=Q(pk=1), name="one_mail_server")]

    def __str__(self) -> str:
        return f"failing since {self.failing_since}" if self.failures else "answers"
