"""Add format 2 of the event log: texts and links have their own tables, and links are written at commit.

Existing events stay as they are, in format 1; migration 0012 closes their chain.
"""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("access_requests", "0010_sign_ins_ended")]
    operations = [
        migrations.RemoveConstraint("event", "event_names_its_actor"),
        migrations.RenameField("event", "number", "old_number"),
        migrations.RenameField("event", "previous_hash", "old_previous_hash"),
        migrations.RenameField("event", "hash", "old_hash"),
        migrations.RenameField("event", "actor_name", "writer"),
        migrations.RenameField("event", "data", "facts"),
        migrations.AlterModelOptions("event", {"ordering": ["pk"]}),
        migrations.AlterField(
            "event",
            "old_number",
            models.BigIntegerField(unique=True, null=True, editable=False, help_text="Format 1 only."),
        ),
        migrations.AlterField(
            "event",
            "old_previous_hash",
            models.CharField(max_length=64, blank=True, editable=False, help_text="Format 1 only."),
        ),
        migrations.AlterField(
            "event",
            "old_hash",
            models.CharField(max_length=64, blank=True, editable=False, help_text="Format 1 only."),
        ),
        migrations.AlterField(
            "event",
            "writer",
            models.CharField(
                blank=True,
                help_text="A part of the portal that acted by itself; a person's name is a text.",
                max_length=200,
            ),
        ),
        migrations.AlterField(
            "event",
            "facts",
            models.JSONField(
                blank=True, default=dict, help_text="Numbers, codes, hashes and times of the data, by key."
            ),
        ),
        migrations.AddField("event", "format", models.PositiveSmallIntegerField(default=1, editable=False)),
        migrations.AlterField("event", "format", models.PositiveSmallIntegerField(default=2, editable=False)),
        migrations.AddField(
            "event",
            "digests",
            models.JSONField(
                blank=True, default=dict, help_text="SHA-256 of salt and text, by the text's name."
            ),
        ),
        migrations.AddField(
            "event",
            "digest",
            models.CharField(
                blank=True,
                default="",
                help_text="SHA-256 of the row as docs/event-log.md writes it.",
                max_length=64,
            ),
            preserve_default=False,
        ),
        migrations.AddConstraint(
            "event",
            models.CheckConstraint(
                condition=(models.Q(format=2, old_number=None, old_hash="") & ~models.Q(digest=""))
                | (models.Q(format=1, old_number__isnull=False, digest="") & ~models.Q(writer="")),
                name="event_of_a_known_format",
            ),
        ),
        migrations.CreateModel(
            "EventText",
            [
                (
                    "id",
                    models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID"),
                ),
                (
                    "name",
                    models.CharField(help_text="The key in the event's data, or actor_name.", max_length=60),
                ),
                ("salt", models.BinaryField(max_length=16, null=True)),
                ("text", models.TextField(help_text="As canonical JSON.", null=True)),
                (
                    "event",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="texts",
                        to="access_requests.event",
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(fields=["event", "name"], name="one_text_per_event_and_name"),
                    models.CheckConstraint(
                        condition=models.Q(salt=None, text=None)
                        | models.Q(salt__isnull=False, text__isnull=False),
                        name="text_with_its_salt",
                    ),
                ]
            },
        ),
        migrations.CreateModel(
            "EventLink",
            [
                ("number", models.BigIntegerField(primary_key=True, serialize=False)),
                ("previous_hash", models.CharField(max_length=64)),
                ("hash", models.CharField(max_length=64)),
                (
                    "event",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="link",
                        to="access_requests.event",
                    ),
                ),
            ],
            options={"ordering": ["number"]},
        ),
    ]
