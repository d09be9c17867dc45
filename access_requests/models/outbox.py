"""Mail that must leave: written with the decision, sent by a worker, kept when the mail server fails."""

from __future__ import annotations

from django.db import models
from django.utils import timezone

from access_requests.enums import MailState


class OutgoingMail(models.Model):
    key = models.CharField(
        max_length=200, unique=True, help_text="What it is about: the same thing is mailed once."
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

    class Meta:
        verbose_name = "outgoing mail"
        ordering = ["-pk"]
        indexes = [models.Index(fields=["state", "next_try_at"], name="mail_due")]

    def __str__(self) -> str:
        return f"{self.subject} to {self.to}"
