"""Gated repositories elsewhere that are decided here: what is followed, who asked there, pending reports."""

from __future__ import annotations

from urllib.parse import quote, urlsplit

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.db.models.functions import Lower
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from access_requests.enums import FarStatus, FollowState, PushState
from access_requests.models.catalogue import GatedModel
from access_requests.models.requests import AccessRequest


class FarSide(models.Model):
    """One endpoint: its calls in the current window, and until when it does not want any."""

    endpoint = models.URLField(unique=True, max_length=200)
    window_started_at = models.DateTimeField(default=timezone.now)
    calls = models.PositiveIntegerField(default=0)
    closed_until = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return self.endpoint


class FollowedRepo(models.Model):
    """A gated repository elsewhere whose requests are decided here; its row owns the polling."""

    model = models.ForeignKey(GatedModel, models.PROTECT, related_name="followed_repos")
    endpoint = models.URLField(max_length=200)
    far_id = models.CharField(_("repository there"), max_length=193)
    state = models.CharField(max_length=10, choices=FollowState, default=FollowState.FOLLOWING)
    problem = models.TextField(blank=True, help_text=_("Why the last poll was not what it should be."))
    refused_token = models.CharField(
        max_length=64, blank=True, editable=False, help_text=_("Mark of the token that was refused.")
    )
    mail_applicants = models.BooleanField(
        default=False,
        help_text=_(
            "Email decisions from here too, if the remote gave an address. The remote sends its own emails."
        ),
    )
    poll_every = models.PositiveIntegerField(default=300, help_text=_("Seconds between two polls."))
    next_poll_at = models.DateTimeField(default=timezone.now)
    polled_at = models.DateTimeField(_("last polled"), null=True, blank=True)
    failures = models.PositiveIntegerField(default=0, help_text=_("Polls that failed, one after the other."))
    failing_since = models.DateTimeField(
        null=True, blank=True, help_text=_("When the first of them failed; empty while polls succeed.")
    )
    failing_told_at = models.DateTimeField(
        null=True,
        blank=True,
        editable=False,
        help_text=_("When owners were emailed that polls keep failing."),
    )
    unread = models.PositiveIntegerField(
        default=0, help_text=_("Entries of the last poll that could not be understood.")
    )
    lease_owner = models.CharField(max_length=32, blank=True, editable=False)
    lease_until = models.DateTimeField(null=True, blank=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        verbose_name = _("followed repository")
        verbose_name_plural = _("followed repositories")
        ordering = ["model__repo_id"]
        constraints = [
            models.UniqueConstraint(
                fields=["model"],
                condition=~Q(state=FollowState.ENDED),
                name="one_followed_repository_per_model",
            ),
            models.UniqueConstraint(
                "endpoint",
                Lower("far_id"),
                condition=~Q(state=FollowState.ENDED),
                name="far_repository_followed_once",
            ),
        ]
        indexes = [models.Index(fields=["state", "next_poll_at"], name="poll_due")]

    def __str__(self) -> str:
        return f"{self.far_id} at {self.host}"

    @property
    def host(self) -> str:
        return urlsplit(self.endpoint).netloc

    @property
    def far_address(self) -> str:
        """Return the address of the repository's page at the remote."""
        return f"{self.endpoint}/{quote(self.far_id)}"


class FollowTrouble(models.Model):
    """A problem with following, as its owner reads it; if the sentence occurs again, it is counted."""

    followed = models.ForeignKey(FollowedRepo, models.CASCADE, related_name="troubles")
    sentence = models.CharField(max_length=500)
    first_at = models.DateTimeField(default=timezone.now)
    last_at = models.DateTimeField(default=timezone.now)
    times = models.PositiveIntegerField(default=1)

    class Meta:
        verbose_name = _("trouble with following")
        verbose_name_plural = _("troubles with following")
        ordering = ["-last_at", "-pk"]
        constraints = [
            models.UniqueConstraint(fields=["followed", "sentence"], name="one_row_per_follow_trouble")
        ]

    def __str__(self) -> str:
        return self.sentence


class RemotePerson(models.Model):
    """A person who asked at an endpoint. Name and address are what the remote says and prove nothing here."""

    endpoint = models.URLField(max_length=200)
    far_user_id = models.CharField(max_length=64, blank=True, help_text=_("Stays when the name changes."))
    name = models.CharField(max_length=96, blank=True, help_text=_("Empty if the remote hides names."))
    full_name = models.CharField(max_length=200, blank=True)
    email = models.EmailField(_("email, as given"), blank=True)
    user = models.OneToOneField(settings.AUTH_USER_MODEL, models.PROTECT, related_name="remote_person")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        verbose_name = _("person from elsewhere")
        verbose_name_plural = _("people from elsewhere")
        constraints = [
            models.UniqueConstraint(
                fields=["endpoint", "far_user_id"],
                condition=~Q(far_user_id=""),
                name="far_person_imported_once",
            )
        ]
        indexes = [models.Index("endpoint", Lower("name"), name="far_person_by_name")]

    def __str__(self) -> str:
        return self.name or self.full_name or self.user.username

    @property
    def profile_address(self) -> str:
        return f"{self.endpoint}/{quote(self.name)}" if self.name else ""


class RemoteRequest(models.Model):
    """One person's place in a followed repository's lists, and the request here that represents it.

    `far_status` is the state last seen there or last written there successfully.
    """

    followed = models.ForeignKey(FollowedRepo, models.PROTECT, related_name="remote_requests")
    person = models.ForeignKey(RemotePerson, models.PROTECT, related_name="remote_requests")
    request = models.OneToOneField(AccessRequest, models.PROTECT, related_name="remote")
    far_request_id = models.CharField(_("request id there"), max_length=100, blank=True)
    far_status = models.CharField(_("state there"), max_length=10, choices=FarStatus)
    far_asked_at = models.DateTimeField(
        _("asked there"), help_text=_("The newest time that the remote gave.")
    )
    far_fields = models.JSONField(default=dict, blank=True, help_text=_("Label -> answer, as last seen."))
    answered_at = models.DateTimeField(help_text=_("The time of asking that the request here stands for."))
    other_answers = models.JSONField(
        default=dict, blank=True, help_text=_("Answers under labels that the form here does not have.")
    )
    missed = models.PositiveIntegerField(default=0, help_text=_("Polls in a row that did not show it."))
    seen_at = models.DateTimeField(null=True, blank=True)
    wrote_at = models.DateTimeField(
        null=True, blank=True, help_text=_("Last write there; lists lag behind it.")
    )
    drifted_at = models.DateTimeField(
        _("drifted"), null=True, blank=True, help_text=_("Since when both sides say different things.")
    )

    class Meta:
        verbose_name = _("request from elsewhere")
        verbose_name_plural = _("requests from elsewhere")
        ordering = ["-pk"]
        constraints = [
            models.UniqueConstraint(fields=["followed", "person"], name="one_far_request_per_person"),
            models.UniqueConstraint(
                fields=["followed", "far_request_id"],
                condition=~Q(far_request_id=""),
                name="far_request_imported_once",
            ),
        ]
        indexes = [
            models.Index(fields=["drifted_at", "-id"], name="remote_request_order"),
            models.Index(
                fields=["followed", "drifted_at"],
                condition=Q(drifted_at__isnull=False),
                name="remote_request_drift",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.person} for {self.followed}"


class RemotePush(models.Model):
    """A state to be written to the remote. The row owns the work, no matter which worker claims it."""

    remote = models.ForeignKey(RemoteRequest, models.PROTECT, related_name="pushes")
    status = models.CharField(_("to be"), max_length=10, choices=FarStatus)
    expects = models.CharField(
        _("was"),
        max_length=10,
        choices=FarStatus,
        help_text=_("What it may replace; anything else is drift."),
    )
    words = models.CharField(
        max_length=200, blank=True, help_text=_("The reason that is reported to the remote.")
    )
    state = models.CharField(max_length=10, choices=PushState, default=PushState.DUE)
    attempts = models.PositiveIntegerField(default=0)
    last_error = models.TextField(blank=True)
    actor_name = models.CharField(max_length=200, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    next_try_at = models.DateTimeField(default=timezone.now)
    done_at = models.DateTimeField(null=True, blank=True)
    lease_owner = models.CharField(max_length=32, blank=True, editable=False)
    lease_until = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        verbose_name = _("decision to be told")
        verbose_name_plural = _("decisions to be told")
        ordering = ["pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["remote"], condition=Q(state=PushState.DUE), name="one_push_due_per_far_request"
            )
        ]
        indexes = [models.Index(fields=["state", "next_try_at"], name="push_due")]

    def __str__(self) -> str:
        return f"{self.remote} to be {self.status}"
