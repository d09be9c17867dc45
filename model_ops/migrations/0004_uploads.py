import django.db.models.deletion
import django.utils.timezone
from django.conf import settings
from django.db import migrations, models
from django.db.models import OuterRef, Subquery


def fill_parents(apps, schema_editor):
    """Set parents: until now a model's revisions formed one line, each following the one before."""
    revisions = apps.get_model("model_ops", "Revision").objects
    before = revisions.filter(model=OuterRef("model"), pk__lt=OuterRef("pk")).order_by("-pk")
    revisions.update(parent=Subquery(before.values("pk")[:1]))


class Migration(migrations.Migration):
    dependencies = [
        ("model_ops", "0003_delivery"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="UploadRule",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "publish_uploads",
                    models.BooleanField(
                        default=False,
                        help_text="Publish what an owner uploads at once, without holding it for a look.",
                    ),
                ),
                (
                    "model",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="upload_rule",
                        to="access_requests.gatedmodel",
                    ),
                ),
            ],
        ),
        migrations.AddField(
            model_name="revision",
            name="branch",
            field=models.CharField(
                blank=True,
                help_text="Of an upload: the branch that publishing it moves.",
                max_length=200,
            ),
        ),
        migrations.AddField(
            model_name="revision",
            name="held_at",
            field=models.DateTimeField(
                blank=True,
                help_text="Set while an upload waits for an owner to publish it.",
                null=True,
            ),
        ),
        migrations.AddField(
            model_name="revision",
            name="parent",
            field=models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="children",
                to="model_ops.revision",
            ),
        ),
        migrations.AddField(
            model_name="revision",
            name="uploader",
            field=models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="uploaded_revisions",
                to=settings.AUTH_USER_MODEL,
            ),
        ),
        migrations.AddField(
            model_name="revision",
            name="upload",
            field=models.ForeignKey(
                blank=True,
                help_text="The uploaded revision whose files these are, below the portal's card and licences.",
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="shown_by",
                to="model_ops.revision",
            ),
        ),
        migrations.AlterField(
            model_name="revision",
            name="created_at",
            field=models.DateTimeField(
                default=django.utils.timezone.now,
                editable=False,
                help_text="The commit's time, to the second.",
            ),
        ),
        migrations.AddField(
            model_name="weightsource",
            name="revision",
            field=models.ForeignKey(
                blank=True,
                help_text="Of a revision that was uploaded here.",
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="sources",
                to="model_ops.revision",
            ),
        ),
        migrations.AlterField(
            model_name="weightsource",
            name="kind",
            field=models.CharField(
                choices=[
                    ("folder", "folder on the server"),
                    ("hub", "repository at a commit"),
                    ("upload", "uploaded revision"),
                ],
                max_length=10,
            ),
        ),
        migrations.AlterField(
            model_name="weightsource",
            name="spec",
            field=models.CharField(
                help_text="`/folder`, `hf:ID@COMMIT`, `hf+https://HOST/ID@COMMIT` or `gatehouse:ID@COMMIT`.",
                max_length=1000,
            ),
        ),
        migrations.AddConstraint(
            model_name="revision",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("held_at__isnull", True), models.Q(("branch", ""), _negated=True), _connector="OR"
                ),
                name="held_revision_has_a_branch",
            ),
        ),
        migrations.RunPython(fill_parents, migrations.RunPython.noop),
    ]
