"""The right to read a model, and the tokens that prove it."""

from __future__ import annotations

from datetime import datetime

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from access_requests.enums import GrantSource, TokenKind, TokenOrigin
from access_requests.models.catalogue import GatedModel
from access_requests.models.requests import AccessRequest
from access_requests.search import OF_TOKEN, trigram_index


class Grant(models.Model):
    """One person's right to read one model; it exists independently of any token."""

    model = models.ForeignKey(GatedModel, models.PROTECT, related_name="grants")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="grants")
    request = models.ForeignKey(AccessRequest, models.PROTECT, null=True, blank=True, related_name="grants")
    source = models.CharField(max_length=10, choices=GrantSource)
    granted_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, null=True, blank=True, related_name="+"
    )
    starts_at = models.DateTimeField(default=timezone.now)
    ends_at = models.DateTimeField()
    revoked_at = models.DateTimeField(null=True, blank=True)
    revoked_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, null=True, blank=True, related_name="+"
    )
    revoke_reason = models.TextField(blank=True, help_text=_("Reaches the person."))
    closed_at = models.DateTimeField(
        null=True,
        blank=True,
        help_text=_("When it was revoked, or when its end was noticed; makes room for a new grant."),
    )
    first_token_at = models.DateTimeField(
        null=True, blank=True, help_text=_("When the token that approval entitles to was made.")
    )

    class Meta:
        ordering = ["-pk"]
        indexes = [
            models.Index(fields=["ends_at"], condition=Q(closed_at__isnull=True), name="grant_open_until"),
            models.Index(
                fields=["model", "ends_at"], condition=Q(closed_at__isnull=True), name="grant_open_by_end"
            ),
            models.Index(fields=["model", "id"], name="grant_of_model"),
            models.Index(fields=["model", "user"], name="grant_of_model_and_person"),
            models.Index(fields=["source", "id"], name="grant_by_source"),
            models.Index(fields=["id"], condition=Q(revoked_at__isnull=False), name="grant_revoked"),
            models.Index(fields=["ends_at", "id"], condition=Q(revoked_at__isnull=True), name="grant_by_end"),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["model", "user"],
                condition=Q(closed_at__isnull=True),
                name="one_live_grant_per_person_and_model",
            ),
            models.CheckConstraint(condition=Q(ends_at__gt=F("starts_at")), name="grant_ends_after_start"),
            models.CheckConstraint(
                condition=Q(revoked_at__isnull=True) | Q(closed_at__isnull=False),
                name="grant_revoked_is_closed",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.user} may read {self.model} until {self.ends_at:%Y-%m-%d}"

    def is_live(self, now: datetime | None = None) -> bool:
        now = now or timezone.now()
        return self.revoked_at is None and self.starts_at <= now < self.ends_at


class AccessToken(models.Model):
    """A secret that proves a grant, or who its person is. Only its digest is stored."""

    kind = models.CharField(max_length=10, choices=TokenKind, default=TokenKind.GRANT)
    grant = models.ForeignKey(Grant, models.PROTECT, null=True, blank=True, related_name="tokens")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="access_tokens")
    name = models.CharField(max_length=100)
    digest = models.CharField(_("SHA-256 of the secret"), max_length=64, unique=True, editable=False)
    hint = models.CharField(
        max_length=20, editable=False, help_text=_("First and last characters, to tell tokens apart.")
    )
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField(
        null=True, blank=True, help_text=_("It ends with the grant at the latest.")
    )
    networks = models.JSONField(
        default=list, blank=True, help_text=_("Networks it works from, as CIDR; empty: from anywhere.")
    )
    origin = models.CharField(max_length=10, choices=TokenOrigin, default=TokenOrigin.PAGE)
    replaced_by = models.ForeignKey(
        "self",
        models.PROTECT,
        null=True,
        blank=True,
        related_name="replaces",
        help_text=_("Set by rotation."),
    )
    revoked_at = models.DateTimeField(null=True, blank=True)
    revoke_reason = models.CharField(max_length=200, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)
    last_used_address = models.GenericIPAddressField(null=True, blank=True)
    last_used_client = models.CharField(max_length=200, blank=True)

    class Meta:
        verbose_name = _("access token")
        ordering = ["-pk"]
        constraints = [
            models.CheckConstraint(
                condition=Q(kind=TokenKind.GRANT, grant__isnull=False)
                | (~Q(kind=TokenKind.GRANT) & Q(grant__isnull=True)),
                name="token_of_a_grant_has_one",
            )
        ]
        indexes = [
            trigram_index(OF_TOKEN, name="token_search"),
            models.Index(fields=["last_used_address"], name="token_by_address"),
            models.Index(fields=["kind", "id"], name="token_by_kind"),
            models.Index(fields=["origin", "id"], name="token_by_origin"),
            models.Index(fields=["id"], condition=Q(revoked_at__isnull=False), name="token_revoked"),
            models.Index(
                fields=["expires_at", "id"], condition=Q(revoked_at__isnull=True), name="token_by_end"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.name} ({self.hint})"
