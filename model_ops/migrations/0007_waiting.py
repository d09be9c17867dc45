"""Record what a recovery, a shard or a test prompt waits for. Database defaults: no row is written."""

from __future__ import annotations

from django.db import migrations, models

WAITS_FOR = [
    ("room", "room on the disk"),
    ("store", "the weights folder"),
    ("source", "a source folder"),
    ("remote", "the remote Hub"),
    ("memory", "memory"),
    ("device", "the GPU"),
    ("again", "the next try"),
]
DELIVERY = [
    ("waiting", "waiting for weights"),
    ("ready", "told: ready"),
    ("failed", "told: failed"),
    ("over", "access ended"),
]


def waits_for(help_text: str) -> models.CharField:
    return models.CharField(blank=True, choices=WAITS_FOR, db_default="", help_text=help_text, max_length=10)


def retry_at(help_text: str) -> models.DateTimeField:
    return models.DateTimeField(blank=True, help_text=help_text, null=True)


class Migration(migrations.Migration):
    dependencies = [("model_ops", "0006_download_counts")]

    operations = [
        migrations.AddField(
            "recovery",
            "waiting_for",
            waits_for("What it, or one of its shards, cannot go on without for now."),
        ),
        migrations.AddField(
            "recovery", "waiting_since", retry_at("When it first had to wait; kept until it ends.")
        ),
        migrations.AddField("recovery", "retry_at", retry_at("When it is looked at again.")),
        migrations.AddField(
            "recovery",
            "tries",
            models.PositiveSmallIntegerField(
                db_default=0, help_text="How often in a row it had to wait without getting further."
            ),
        ),
        migrations.AddField(
            "recovery",
            "bytes_kept",
            models.BigIntegerField(
                db_default=0,
                help_text="What was finished on the disk at the last try; more than that is progress.",
            ),
        ),
        migrations.AddField(
            "recovery",
            "bytes_needed",
            models.BigIntegerField(
                db_default=0, help_text="The free bytes that it waits for; 0 where that is not known."
            ),
        ),
        migrations.AddField("recoveryshard", "waiting_for", waits_for("What it cannot go on without for now.")),
        migrations.AddField("recoveryshard", "retry_at", retry_at("When it is looked at again.")),
        migrations.AddField(
            "recoveryshard",
            "tries",
            models.PositiveSmallIntegerField(db_default=0, help_text="How often in a row it had to wait."),
        ),
        migrations.AddField("smokerun", "retry_at", retry_at("Not before; set where the disk was full.")),
        migrations.AlterField(
            "delivery", "state", models.CharField(choices=DELIVERY, default="waiting", max_length=10)
        ),
    ]
