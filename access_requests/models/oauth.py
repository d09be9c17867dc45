"""Signing in from a client: machines that a person approved, and repositories whose CI may act for them."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from access_requests.enums import DeviceState
from access_requests.models.catalogue import GatedModel
from access_requests.models.grants import AccessToken


class Machine(models.Model):
    """A machine that its person signed in with `hf auth login`.

    It stays signed in by refreshing its tokens.
    """

    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="machines")
    name = models.CharField(max_length=100, help_text=_("Its tokens bear the same name."))
    client_id = models.CharField(_("client"), max_length=100, blank=True)
    client = models.CharField("User-Agent", max_length=200, blank=True)
    address = models.GenericIPAddressField(null=True, blank=True, help_text=_("Where the sign-in was begun."))
    signed_in_at = models.DateTimeField(default=timezone.now)
    refreshed_at = models.DateTimeField(null=True, blank=True)
    ends_at = models.DateTimeField(
        help_text=_("Each refresh moves it: it ends by itself when it is not used.")
    )
    signed_out_at = models.DateTimeField(null=True, blank=True)
    signed_out_why = models.CharField(max_length=200, blank=True)

    class Meta:
        verbose_name = _("signed-in machine")
        ordering = ["-pk"]

    def __str__(self) -> str:
        return f"{self.name} of {self.user}"

    def is_live(self) -> bool:
        """Return whether the machine is signed in and was refreshed in time."""
        return self.signed_out_at is None and timezone.now() < self.ends_at


class DeviceCode(models.Model):
    """One running sign-in (RFC 8628): the client polls with a secret code, the person enters a short one."""

    digest = models.CharField(_("SHA-256 of the device code"), max_length=64, unique=True, editable=False)
    user_code = models.CharField(max_length=8, unique=True, editable=False)
    client_id = models.CharField(max_length=100, blank=True)
    client = models.CharField("User-Agent", max_length=200, blank=True)
    address = models.GenericIPAddressField(null=True, blank=True)
    created_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField()
    interval = models.PositiveSmallIntegerField(help_text=_("Seconds that must lie between two polls."))
    polled_at = models.DateTimeField(null=True, blank=True)
    state = models.CharField(max_length=10, choices=DeviceState, default=DeviceState.WAITING)
    decided_at = models.DateTimeField(null=True, blank=True)
    machine = models.OneToOneField(Machine, models.PROTECT, null=True, blank=True, related_name="device_code")

    class Meta:
        ordering = ["-pk"]
        indexes = [
            models.Index(fields=["expires_at"], name="device_code_ended"),
            models.Index(
                fields=["expires_at"], name="device_code_unfetched", condition=Q(state=DeviceState.APPROVED)
            ),
        ]
        constraints = [
            models.CheckConstraint(
                condition=Q(
                    state__in=[DeviceState.APPROVED, DeviceState.USED, DeviceState.ENDED],
                    machine__isnull=False,
                )
                | Q(state__in=[DeviceState.WAITING, DeviceState.DENIED], machine__isnull=True),
                name="device_code_approved_has_machine",
            ),
            models.CheckConstraint(
                condition=Q(state=DeviceState.WAITING, decided_at__isnull=True)
                | (~Q(state=DeviceState.WAITING) & Q(decided_at__isnull=False)),
                name="device_code_decided_has_date",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.user_code} ({self.state})"


class RefreshToken(models.Model):
    """The token with which a machine gets its next access token.

    If it is used twice, the machine is signed out.
    """

    machine = models.ForeignKey(Machine, models.PROTECT, related_name="refresh_tokens")
    token = models.OneToOneField(AccessToken, models.PROTECT, related_name="refresh")
    follows = models.ForeignKey("self", models.PROTECT, null=True, blank=True, related_name="followers")
    digest = models.CharField(_("SHA-256 of the secret"), max_length=64, unique=True, editable=False)
    created_at = models.DateTimeField(default=timezone.now)
    used_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-pk"]

    def __str__(self) -> str:
        return f"refresh token {self.pk} of {self.machine}"


class TrustedRepository(models.Model):
    """A repository whose CI jobs may exchange their identity for a short-lived token of this person."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="trusted_repositories")
    issuer = models.CharField(max_length=200)
    repository = models.CharField(max_length=255, help_text=_("owner/name, as the CI names it."))
    repository_id = models.CharField(
        max_length=40,
        blank=True,
        editable=False,
        help_text=_(
            "Its number, kept from the first exchange: another repository that takes over the name is refused."
        ),
    )
    ref = models.CharField(
        _("branch or tag"), max_length=255, blank=True, help_text=_("refs/heads/main; empty: any.")
    )
    environment = models.CharField(max_length=255, blank=True, help_text=_("Empty: any, or none."))
    workflow = models.CharField(_("workflow file"), max_length=255, blank=True, help_text=_("Empty: any."))
    model = models.ForeignKey(
        GatedModel,
        models.PROTECT,
        null=True,
        blank=True,
        related_name="trusted_repositories",
        help_text=_("Empty: every model that the person may read."),
    )
    created_at = models.DateTimeField(default=timezone.now)
    last_used_at = models.DateTimeField(null=True, blank=True)
    removed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name_plural = _("trusted repositories")
        ordering = ["-pk"]
        indexes = [models.Index(fields=["issuer", "user"], name="trusted_by_issuer")]

    def __str__(self) -> str:
        return f"{self.repository} for {self.user}"


class TokenExchange(models.Model):
    """A CI identity that was exchanged for a token; the row prevents a second exchange of the same identity."""

    trusted = models.ForeignKey(TrustedRepository, models.PROTECT, related_name="exchanges")
    token = models.OneToOneField(AccessToken, models.PROTECT, related_name="exchange")
    identity = models.CharField(_("SHA-256 of issuer and jti"), max_length=64, unique=True, editable=False)
    at = models.DateTimeField(default=timezone.now)
    address = models.GenericIPAddressField(null=True, blank=True)
    claims = models.JSONField(
        default=dict, help_text=_("What the issuer said about the job, as far as it matters.")
    )

    class Meta:
        ordering = ["-pk"]
        indexes = [models.Index(fields=["at"], name="exchange_at")]

    def __str__(self) -> str:
        return f"exchange {self.pk} of {self.trusted}"


class IssuerKeys(models.Model):
    """An issuer's public keys as last fetched; `tried_at` limits how often they are fetched.

    The process that sets `fetching_until` fetches the keys. If it dies, another process may fetch them after
    that time.
    """

    issuer = models.CharField(max_length=200, unique=True)
    keys = models.JSONField(default=list)
    fetched_at = models.DateTimeField(null=True, blank=True)
    tried_at = models.DateTimeField(null=True, blank=True)
    fetching_until = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name_plural = _("issuers' keys")

    def __str__(self) -> str:
        return self.issuer
