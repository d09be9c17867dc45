"""Sources that owners in a namespace may name: folders, and repositories for the portal's Hub token."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models.functions import Lower
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _


class AssignedFolder(models.Model):
    """A folder that owners in a namespace may name, including everything below it."""

    path = models.CharField(
        max_length=1000, help_text=_("Absolute, at or below a folder of GATEHOUSE_SOURCES, without links.")
    )
    namespace = models.CharField(max_length=96, help_text=_("The part of a model's id before the slash."))
    created_at = models.DateTimeField(_("assigned at"), auto_now_add=True)
    assigned_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.SET_NULL,
        null=True,
        blank=True,
        related_name="assigned_folders",
        help_text=_("Empty: an operator, by command."),
    )

    class Meta:
        verbose_name = _("assigned folder")
        ordering = ["namespace", "path"]
        constraints = [
            models.UniqueConstraint("path", Lower("namespace"), name="folder_assigned_once_per_namespace")
        ]

    def __str__(self) -> str:
        return gettext("%(folder)s for %(namespace)s") % {"folder": self.path, "namespace": self.namespace}


class AllowedRepository(models.Model):
    """A Hub repository that may be fetched with the portal's token when an owner names it."""

    endpoint = models.CharField(_("Hub"), max_length=300)
    repo_id = models.CharField(_("repository id"), max_length=193)
    namespace = models.CharField(
        max_length=96, blank=True, help_text=_("Only for models of this namespace; empty: for every model.")
    )
    created_at = models.DateTimeField(_("allowed at"), auto_now_add=True)
    allowed_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.SET_NULL,
        null=True,
        blank=True,
        related_name="allowed_repositories",
        help_text=_("Empty: an operator, by command."),
    )

    class Meta:
        verbose_name = _("allowed repository")
        verbose_name_plural = _("allowed repositories")
        ordering = ["repo_id", "namespace"]
        constraints = [
            models.UniqueConstraint(
                "endpoint",
                Lower("repo_id"),
                Lower("namespace"),
                name="repository_allowed_once_per_namespace",
            )
        ]

    def __str__(self) -> str:
        if not self.namespace:
            return gettext("%(repository)s for every namespace") % {"repository": self.repo_id}
        names = {"repository": self.repo_id, "namespace": self.namespace}
        return gettext("%(repository)s for %(namespace)s") % names
