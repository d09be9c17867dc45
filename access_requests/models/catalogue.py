"""The catalogue: gated models, their forms, licences and the people who decide."""

from __future__ import annotations

import hashlib

from django.conf import settings
from django.contrib.postgres.indexes import GinIndex, OpClass
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models.functions import Lower, Upper
from django.utils.functional import cached_property
from django.utils.translation import gettext_lazy as _

from access_requests.cards import GateForm
from access_requests.enums import Gate, Role

LONGEST_GRANT = 36500  # days


class GatedModel(models.Model):
    """A catalogue entry, `namespace/name` as on the Hub."""

    repo_id = models.CharField(_("repository id"), max_length=193)
    card = models.TextField(
        help_text=_("README.md whole, front matter included; the last one that could be understood.")
    )
    card_data = models.JSONField(
        default=dict, blank=True, help_text=_("The card's front matter as the Hub shows it.")
    )
    gate = models.CharField(max_length=10, choices=Gate, default=Gate.MANUAL)
    grant_days = models.PositiveIntegerField(
        default=365,
        validators=[MinValueValidator(1), MaxValueValidator(LONGEST_GRANT)],
        help_text=_("How long a grant lasts."),
    )
    approvals = models.PositiveSmallIntegerField(
        default=1,
        db_default=1,
        choices=[(1, _("one reviewer")), (2, _("two reviewers"))],
        help_text=_("How many people must approve a request; one rejection is enough."),
    )
    family = models.ForeignKey(
        "ModelFamily", models.PROTECT, null=True, blank=True, editable=False, related_name="models"
    )
    listed = models.BooleanField(
        default=True, help_text=_("An unlisted model is not found by those who may not read it.")
    )
    form = models.ForeignKey("FormVersion", models.PROTECT, null=True, blank=True, related_name="+")
    card_renderer = models.PositiveSmallIntegerField(
        db_default=0,
        editable=False,
        help_text="`access_requests.rendering.texts.RENDERER` of the card's page; 0: it is still to be made.",
    )
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        verbose_name = _("gated model")
        ordering = ["repo_id"]
        constraints = [models.UniqueConstraint(Lower("repo_id"), name="gated_model_repo_id_unique")]
        indexes = [
            GinIndex(OpClass(Upper(name), name="gin_trgm_ops"), name=f"gated_model_{name}_search")
            for name in ("repo_id", "card")
        ] + [models.Index(fields=["card_renderer"], name="gated_model_card_renderer")]

    def __str__(self) -> str:
        return self.repo_id

    def get_absolute_url(self) -> str:
        return f"/{self.repo_id}"

    @property
    def namespace(self) -> str:
        return self.repo_id.partition("/")[0]

    @property
    def name(self) -> str:
        return self.repo_id.partition("/")[2]

    @property
    def is_gated(self) -> bool:
        return self.gate != Gate.NONE

    def address(self) -> str:
        """Return the page's full address, for emails and error messages."""
        return f"{settings.GATEHOUSE_URL}/{self.repo_id}"


class RenderedCard(models.Model):
    """A model's card as pages show it. It is rendered when the card is saved, never while a page is shown."""

    model = models.OneToOneField(GatedModel, models.CASCADE, related_name="rendered_card")
    html = models.TextField(blank=True)
    summary = models.CharField(max_length=300, blank=True)
    chat_format = models.TextField(blank=True)
    problem = models.CharField(
        max_length=400, blank=True, help_text=_("For the owner: why the card is shown as it was written.")
    )

    class Meta:
        verbose_name = _("rendered card")

    def __str__(self) -> str:
        return f"{self.model}, rendered"


class FormerId(models.Model):
    """An id that a model once had.

    Clients that still use it are redirected, and no other model can take it.
    """

    model = models.ForeignKey(GatedModel, models.CASCADE, related_name="former_ids")
    repo_id = models.CharField(_("repository id"), max_length=193)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        verbose_name = _("former id")
        ordering = ["-pk"]
        constraints = [models.UniqueConstraint(Lower("repo_id"), name="former_id_unique")]

    def __str__(self) -> str:
        return self.repo_id


class Namespace(models.Model):
    """The full name of a namespace (an id's part before the slash), which clients show as an organization's."""

    name = models.CharField(max_length=96)
    full_name = models.CharField(max_length=200)

    class Meta:
        ordering = ["name"]
        constraints = [models.UniqueConstraint(Lower("name"), name="namespace_name_unique")]

    def __str__(self) -> str:
        return f"{self.name} ({self.full_name})"


class FormVersion(models.Model):
    """The form as read from one card; each request points to the version that it answers."""

    model = models.ForeignKey(GatedModel, models.CASCADE, related_name="form_versions")
    schema = models.JSONField(help_text="`access_requests.cards.GateForm.to_json()`")
    texts = models.JSONField(
        default=dict,
        help_text="The form's Markdown as HTML: `access_requests.rendering.texts.GateTexts.to_json()`.",
    )
    renderer = models.PositiveSmallIntegerField(
        default=0, help_text="`access_requests.rendering.texts.RENDERER`; 0 while there are no texts."
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-pk"]
        indexes = [models.Index(fields=["renderer"], name="form_version_renderer")]

    def __str__(self) -> str:
        return f"{self.model} form {self.pk}"

    @cached_property
    def gate(self) -> GateForm:
        """Return the form, parsed once for all requests that share this row."""
        return GateForm.from_json(self.schema)


class ModelFamily(models.Model):
    """Models of one namespace that people can ask for with one form."""

    namespace = models.CharField(max_length=96)
    name = models.CharField(max_length=100)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        verbose_name = _("family of models")
        verbose_name_plural = _("families of models")

    def __str__(self) -> str:
        return f"{self.namespace}: {self.name}"


class LicenceVersion(models.Model):
    """One immutable text in one language; each acceptance points to one.

    The current texts of one name are one licence in several languages, of which exactly one binds.
    """

    model = models.ForeignKey(GatedModel, models.PROTECT, related_name="licence_versions")
    name = models.CharField(max_length=200, help_text=_("File name, as it is offered for download."))
    language = models.CharField(max_length=35, default="en", help_text=_("BCP 47 tag."))
    binding = models.BooleanField(
        default=True,
        db_default=True,
        help_text=_("Whether this language binds; the other texts of this name are translations."),
    )
    text = models.TextField()
    sha256 = models.CharField("SHA-256", max_length=64, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    retired_at = models.DateTimeField(
        null=True, blank=True, help_text=_("Set when another version took its place.")
    )
    must_accept_at = models.DateTimeField(
        null=True,
        blank=True,
        editable=False,
        help_text=_(
            "Holders of grants who have not accepted this licence since then are refused until they do."
        ),
    )

    class Meta:
        verbose_name = _("licence version")
        ordering = ["pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["model", "name", "language"],
                condition=models.Q(retired_at__isnull=True),
                name="one_current_licence_per_name_and_language",
            ),
            models.UniqueConstraint(
                fields=["model", "name"],
                condition=models.Q(retired_at__isnull=True, binding=True),
                name="one_binding_language_per_licence",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.name} ({self.language}, {self.sha256[:8]})"

    @staticmethod
    def digest(text: str) -> str:
        """Return SHA-256 (hex) of the text in UTF-8, exactly as shown."""
        return hashlib.sha256(text.encode()).hexdigest()


class ModelRole(models.Model):
    """A person's role for a model: reviewers decide requests; owners also manage the model."""

    model = models.ForeignKey(GatedModel, models.CASCADE, related_name="roles")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="model_roles")
    role = models.CharField(max_length=10, choices=Role)

    class Meta:
        verbose_name = _("role")
        constraints = [
            models.UniqueConstraint(fields=["model", "user"], name="one_role_per_person_and_model")
        ]

    def __str__(self) -> str:
        return f"{self.user} is {self.role} of {self.model}"
