"""People, who sign in by email and are known to others by a user name."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.contrib.auth.models import PermissionsMixin
from django.core.validators import RegexValidator
from django.db import models
from django.db.models.functions import Lower
from django.utils import timezone
from django.utils.crypto import salted_hmac
from django.utils.functional import cached_property
from django.utils.translation import gettext_lazy as _
from django_countries.fields import CountryField

from access_requests.people import full_name
from access_requests.search import OF_PERSON, trigram_index

# The Hub's rule for a name: 1 to 96 of these, no "--" or "..", no "-" or "." at an end, no ".git" last.
USERNAME_PATTERN = r"^(?![-.])(?!.*(--|\.\.))(?!.*(\.git|[-.])\Z)[A-Za-z0-9_.-]{1,96}\Z"


class UserManager(BaseUserManager["User"]):
    def create_user(self, email: str, username: str, password: str | None = None, **extra: Any) -> User:
        """Create an account. Without a password it cannot sign in until one is set."""
        user = self.model(email=self.normalize_email(email).lower(), username=username, **extra)
        user.set_password(password)
        user.save(using=self._db)
        return user

    def create_superuser(self, email: str, username: str, password: str | None = None, **extra: Any) -> User:
        return self.create_user(email, username, password, is_superuser=True, **extra)

    def create_imported(self, username: str, **names: str) -> User:
        """Create an account without address or password, for a person known only from another portal.

        Nobody can sign in to it.
        """
        user = self.model(email="", username=username, imported=True, **names)
        user.set_unusable_password()
        user.save(using=self._db)
        return user

    def get_by_natural_key(self, email: str | None) -> User:
        """Return the account that signs in with this address; imported accounts have none and never match."""
        return self.get(email__iexact=email, imported=False)


class User(AbstractBaseUser, PermissionsMixin):
    email = models.EmailField(_("email address"), blank=True)
    username = models.CharField(
        _("user name"),
        max_length=96,
        validators=[
            RegexValidator(
                USERNAME_PATTERN, _("Use letters, digits, '_', '-' and '.', without '--' or '..'.")
            )
        ],
        help_text=_("Public. Letters, digits, '_', '-' and '.'."),
    )
    first_name = models.CharField(_("first name"), max_length=200, blank=True)
    last_name = models.CharField(_("last name"), max_length=200, blank=True)
    institution = models.CharField(max_length=300, blank=True)
    country = CountryField(blank=True)
    orcid = models.CharField(_("ORCID iD"), max_length=19, blank=True)
    is_active = models.BooleanField(_("active"), default=True)
    date_joined = models.DateTimeField(default=timezone.now)
    imported = models.BooleanField(
        default=False,
        editable=False,
        help_text=_("Asked at a followed repository, and has no sign-in here."),
    )

    objects = UserManager()

    EMAIL_FIELD = "email"
    USERNAME_FIELD = "email"
    REQUIRED_FIELDS = ["username"]

    class Meta:
        constraints = [
            models.UniqueConstraint(
                Lower("email"),
                name="user_email_unique",
                condition=~models.Q(email=""),
                violation_error_message=_("This email address has an account."),
            ),
            models.UniqueConstraint(
                Lower("username"),
                name="user_name_unique",
                violation_error_message=_("This user name is taken."),
            ),
            models.CheckConstraint(
                condition=(models.Q(imported=False) & ~models.Q(email=""))
                | models.Q(
                    imported=True,
                    email="",
                    is_superuser=False,
                    password__startswith="!",  # noqa: S106 - marks a password that fits nothing
                ),
                name="imported_people_cannot_sign_in",
                violation_error_message=_(
                    "Someone imported from elsewhere has no address, password or rights here."
                ),
            ),
        ]
        indexes = [
            trigram_index(OF_PERSON, name="user_search"),
            models.Index(fields=["id"], condition=models.Q(is_superuser=True), name="user_superuser"),
            models.Index(fields=["id"], condition=models.Q(is_active=False), name="user_inactive"),
            models.Index(fields=["id"], condition=models.Q(imported=True), name="user_imported"),
        ]

    def __str__(self) -> str:
        return self.username

    def _get_session_auth_hash(self, secret: str | None = None) -> str:
        """Return the hash that a session must contain to stay valid.

        It changes with the password and the email address.
        """
        salt = "gatehouse.session"
        return salted_hmac(
            salt, f"{self.password} {self.email}", secret=secret, algorithm="sha256"
        ).hexdigest()

    @cached_property
    def is_staff(self) -> bool:
        """Return whether the person may enter the admin: with a role for a model or a permission, and all superusers."""
        return self.is_superuser or self.model_roles.exists() or self.user_permissions.exists()

    def get_full_name(self) -> str:
        """Return first and last name, or else the user name; never the email address."""
        return full_name(self.first_name, self.last_name, self.username)

    def get_short_name(self) -> str:
        return self.first_name or self.username


class OwnerLink(models.Model):
    """The one open invitation to become the first owner; deleted once used."""

    ONLY = 1

    digest = models.CharField(_("SHA-256 of its token"), max_length=64)
    created_at = models.DateTimeField(auto_now=True)

    def __str__(self) -> str:
        return f"owner link of {self.created_at:%Y-%m-%d %H:%M}"


class CaughtMail(models.Model):
    """An email that could not be sent because there is no mail server; the outbox page shows it."""

    to = models.TextField()
    subject = models.TextField()
    text = models.TextField()
    caught_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["-pk"]

    def __str__(self) -> str:
        return f"{self.subject} to {self.to}"
