"""Published files: immutable sets of files, and the names that point at them."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from access_requests.models import GatedModel
from model_ops.models.recoveries import Recovery


class Blob(models.Model):
    """A file's content, stored once under its SHA-256 below `WEIGHTS_ROOT/blobs/`.

    `git_oid` is Git's id of its object: of the content, or of its pointer if it is only published under LFS
    names.
    """

    sha256 = models.CharField(primary_key=True, max_length=64)
    git_oid = models.CharField(_("git blob SHA-1"), max_length=40)
    size = models.BigIntegerField()
    created_at = models.DateTimeField(auto_now_add=True)
    bucket = models.CharField(
        max_length=300, blank=True, help_text=_("Where a whole, checked copy lies, as s3://bucket/prefix.")
    )
    in_bucket_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return self.sha256

    @property
    def location(self) -> str:
        """Return the path below `WEIGHTS_ROOT`."""
        return f"blobs/{self.sha256[:2]}/{self.sha256}"


class Revision(models.Model):
    """An immutable set of files with a 40-hex commit id.

    A held revision was uploaded but not published: the model's owners see it, for everyone else it does not
    exist.
    """

    model = models.ForeignKey(GatedModel, models.PROTECT, related_name="revisions")
    commit = models.CharField(max_length=40)
    parent = models.ForeignKey("self", models.PROTECT, null=True, blank=True, related_name="children")
    recovery = models.ForeignKey(Recovery, models.PROTECT, null=True, blank=True, related_name="revisions")
    has_weights = models.BooleanField(
        default=False, help_text=_("False: only the card and licences, weights to come.")
    )
    title = models.CharField(max_length=200)
    message = models.TextField(blank=True)
    author = models.CharField(max_length=200)
    created_at = models.DateTimeField(
        default=timezone.now, editable=False, help_text=_("The commit's time, to the second.")
    )
    uploader = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, null=True, blank=True, related_name="uploaded_revisions"
    )
    upload = models.ForeignKey(
        "self",
        models.PROTECT,
        null=True,
        blank=True,
        related_name="shown_by",
        help_text=_("The uploaded revision whose files these are, below the portal's card and licences."),
    )
    branch = models.CharField(
        max_length=200, blank=True, help_text=_("Of an upload: the branch that publishing it moves.")
    )
    held_at = models.DateTimeField(
        null=True, blank=True, help_text=_("Set while an upload waits for an owner to publish it.")
    )
    bucket = models.CharField(
        max_length=300,
        db_default="",
        editable=False,
        help_text=_("The bucket and prefix for which copies of its large files were asked for."),
    )

    class Meta:
        ordering = ["-pk"]
        indexes = [
            models.Index(fields=["bucket", "id"], condition=Q(held_at=None), name="revision_of_bucket")
        ]
        constraints = [
            models.UniqueConstraint(fields=["model", "commit"], name="one_revision_per_commit"),
            models.CheckConstraint(
                condition=Q(held_at__isnull=True) | ~Q(branch=""), name="held_revision_has_a_branch"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.model}@{self.commit[:8]}"


class RepoFile(models.Model):
    revision = models.ForeignKey(Revision, models.CASCADE, related_name="files")
    path = models.CharField(max_length=500)
    blob = models.ForeignKey(Blob, models.PROTECT, related_name="files")
    is_lfs = models.BooleanField(
        help_text=_("By file pattern, as on the Hub: its id is the SHA-256, else the git SHA-1.")
    )

    class Meta:
        ordering = ["path"]
        constraints = [models.UniqueConstraint(fields=["revision", "path"], name="one_file_per_path")]

    def __str__(self) -> str:
        return self.path

    @property
    def etag(self) -> str:
        return self.blob.sha256 if self.is_lfs else self.blob.git_oid


class Ref(models.Model):
    """`main`, a branch or a tag."""

    model = models.ForeignKey(GatedModel, models.PROTECT, related_name="refs")
    name = models.CharField(max_length=200)
    is_tag = models.BooleanField(default=False)
    revision = models.ForeignKey(Revision, models.PROTECT, related_name="refs")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["model", "name"], name="one_ref_per_name")]

    def __str__(self) -> str:
        return self.name
