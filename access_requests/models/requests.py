"""A person's request for a model, and the decisions about it."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Case, Q, Value, When
from django.utils.translation import gettext_lazy as _
from django_countries.fields import CountryField

from access_requests.enums import (
    CLOSED_STATES,
    HOLDABLE_STATES,
    OPEN_STATES,
    WAITING_STATES,
    Outcome,
    ReasonCode,
    RequestState,
)
from access_requests.models.catalogue import FormVersion, GatedModel, LicenceVersion
from access_requests.search import OF_REQUEST, trigram_index

# 0 for requests that wait for a reviewer, else 1: how the queue is ordered, written exactly as in its indexes.
WAITING_FIRST = Case(
    When(state__in=WAITING_STATES, then=Value(0)), default=Value(1), output_field=models.SmallIntegerField()
)


class AccessRequest(models.Model):
    """One request.

    Only `services.requests.transitions` changes its state; the constraints refuse anything else.
    """

    model = models.ForeignKey(GatedModel, models.PROTECT, related_name="requests")
    applicant = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="access_requests")
    state = models.CharField(max_length=20, choices=RequestState, default=RequestState.DRAFT)
    form = models.ForeignKey(FormVersion, models.PROTECT, related_name="requests")
    answers = models.JSONField(
        default=dict,
        blank=True,
        help_text=_("Input key -> answer, of the newest submission; the form version has the labels."),
    )
    draft = models.JSONField(
        null=True, blank=True, help_text=_("Changed answers that are saved, but not submitted.")
    )
    predecessor = models.ForeignKey(
        "self",
        models.PROTECT,
        null=True,
        blank=True,
        db_index=False,
        related_name="successors",
        help_text=_("The rejected request that this one corrects."),
    )

    family = models.UUIDField(
        null=True,
        blank=True,
        editable=False,
        help_text=_("The same for requests that were made with one form, one for each model."),
    )

    # Answers with a known meaning, copied from the form: searchable and typed.
    first_name = models.CharField(max_length=200, blank=True)
    last_name = models.CharField(max_length=200, blank=True)
    institution = models.CharField(max_length=300, blank=True)
    country = CountryField(blank=True)
    intended_use = models.TextField(blank=True)
    publications = models.JSONField(default=list, blank=True)
    address = models.GenericIPAddressField(
        _("network address"), null=True, blank=True, help_text=_("Where it was submitted from.")
    )

    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)
    submitted_at = models.DateTimeField(null=True, blank=True, help_text=_("The last time it was submitted."))
    first_submitted_at = models.DateTimeField(
        null=True, blank=True, editable=False, help_text=_("Set once: the place in the queue counts from it.")
    )
    closed_at = models.DateTimeField(null=True, blank=True)
    appeal = models.TextField(blank=True, help_text=_("What the applicant says against the rejection."))
    appealed_at = models.DateTimeField(
        null=True, blank=True, help_text=_("Set once: one appeal per rejection.")
    )
    assignee = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.PROTECT,
        null=True,
        blank=True,
        db_index=False,
        related_name="claimed_requests",
        help_text=_("The reviewer who claimed it."),
    )
    claimed_at = models.DateTimeField(null=True, blank=True)
    held_at = models.DateTimeField(null=True, blank=True, help_text=_("On hold since."))
    held_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, null=True, blank=True, db_index=False, related_name="+"
    )
    hold_reason = models.TextField(blank=True, db_default="", help_text=_("For reviewers."))

    class Meta:
        verbose_name = _("access request")
        ordering = ["-pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["model", "applicant"],
                condition=Q(state__in=OPEN_STATES),
                name="one_open_request_per_person_and_model",
            ),
            models.CheckConstraint(
                condition=Q(state__in=[RequestState.DRAFT, RequestState.WITHDRAWN])
                | Q(submitted_at__isnull=False),
                name="request_submitted_has_date",
            ),
            models.CheckConstraint(
                condition=Q(submitted_at__isnull=True) | Q(first_submitted_at__isnull=False),
                name="request_submitted_has_first_date",
            ),
            models.CheckConstraint(
                condition=Q(state__in=CLOSED_STATES, closed_at__isnull=False)
                | Q(state__in=OPEN_STATES, closed_at__isnull=True),
                name="request_closed_has_date",
            ),
            models.CheckConstraint(
                condition=~Q(state=RequestState.APPEALED) | Q(appealed_at__isnull=False),
                name="request_appealed_has_date",
            ),
            models.CheckConstraint(
                condition=Q(assignee__isnull=True, claimed_at__isnull=True)
                | Q(assignee__isnull=False, claimed_at__isnull=False),
                name="request_claimed_has_date",
            ),
            models.CheckConstraint(
                condition=Q(held_at__isnull=True, held_by__isnull=True, hold_reason="")
                | (
                    Q(held_at__isnull=False, held_by__isnull=False, state__in=HOLDABLE_STATES)
                    & ~Q(hold_reason="")
                ),
                name="request_held_is_open_with_reason",
            ),
        ]
        indexes = [
            models.Index(
                fields=["model"], condition=Q(state__in=WAITING_STATES), name="request_waiting_of_model"
            ),
            # With the state: PostgreSQL reads an index alone only if all columns of its expressions are in it.
            models.Index(
                WAITING_FIRST, "first_submitted_at", "id", name="request_queue_order", include=["state"]
            ),
            models.Index(
                *("model", WAITING_FIRST, "first_submitted_at", "id"),
                name="request_queue_of_model",
                include=["state", "country"],
            ),
            models.Index(
                *("country", WAITING_FIRST, "first_submitted_at", "id"),
                name="request_queue_of_country",
                include=["state"],
            ),
            models.Index(fields=["state", "first_submitted_at", "id"], name="request_by_state"),
            models.Index(fields=["model", "country"], name="request_countries_of_model"),
            models.Index(fields=["model", "applicant"], name="request_of_model_and_person"),
            models.Index(
                fields=["assignee"], condition=Q(assignee__isnull=False), name="request_of_assignee"
            ),
            models.Index(
                fields=["predecessor"], condition=Q(predecessor__isnull=False), name="request_of_predecessor"
            ),
            models.Index(fields=["family"], condition=Q(family__isnull=False), name="request_of_family"),
            trigram_index(OF_REQUEST, name="request_search"),
        ]

    def __str__(self) -> str:
        return f"#{self.pk} {self.applicant} for {self.model}"

    @property
    def is_open(self) -> bool:
        return self.state in OPEN_STATES

    @property
    def full_name(self) -> str:
        return f"{self.first_name} {self.last_name}".strip() or self.applicant.get_full_name()


class LicenceAcceptance(models.Model):
    """Who agreed to which text and when, with a request or later: the text shown, and the text that binds.

    `binding` is empty in acceptances of earlier versions: the text shown was the binding one.
    """

    request = models.ForeignKey(
        AccessRequest, models.PROTECT, null=True, blank=True, related_name="acceptances"
    )
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="licence_acceptances")
    licence = models.ForeignKey(LicenceVersion, models.PROTECT, related_name="acceptances")
    language = models.CharField(max_length=35)
    sha256 = models.CharField(_("SHA-256 of the text shown"), max_length=64)
    binding = models.ForeignKey(
        LicenceVersion, models.PROTECT, null=True, blank=True, db_index=False, related_name="+"
    )
    binding_sha256 = models.CharField(
        _("SHA-256 of the binding text"), max_length=64, blank=True, db_default=""
    )
    accepted_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        verbose_name = _("licence acceptance")
        constraints = [
            models.UniqueConstraint(
                fields=["request", "binding"], name="one_acceptance_per_request_and_binding"
            ),
            models.UniqueConstraint(
                fields=["user", "binding"],
                condition=Q(request__isnull=True),
                name="one_acceptance_per_person_and_binding",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.user} accepted {self.licence}"


class Decision(models.Model):
    """A reviewer's decision; without a reviewer if the model's policy decided."""

    request = models.ForeignKey(AccessRequest, models.PROTECT, related_name="decisions")
    reviewer = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, null=True, blank=True, related_name="decisions"
    )
    outcome = models.CharField(max_length=20, choices=Outcome)
    reason_code = models.CharField(max_length=30, choices=ReasonCode, blank=True, default="")
    words = models.TextField(blank=True, help_text=_("Reaches the applicant."))
    submission = models.ForeignKey(
        "Submission",
        models.PROTECT,
        null=True,
        blank=True,
        db_index=False,
        related_name="decisions",
        help_text=_("What was decided about; empty for access given without a request."),
    )
    on_appeal = models.BooleanField(default=False)
    decided_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["pk"]
        constraints = [
            models.CheckConstraint(
                condition=~Q(outcome__in=[Outcome.REJECTED, Outcome.CHANGES_REQUESTED]) | ~Q(words=""),
                name="decision_against_has_words",
            )
        ]

    def __str__(self) -> str:
        return f"{self.outcome} by {self.reviewer or 'policy'}"
