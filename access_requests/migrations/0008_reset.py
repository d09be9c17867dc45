"""Allow requests to be reset and reopened: another closed state, and decisions that need no message."""

from django.db import migrations, models
from django.db.models import Q

STATES = [
    ("draft", "draft"),
    ("submitted", "submitted"),
    ("in_review", "in review"),
    ("changes_requested", "changes requested"),
    ("approved", "approved"),
    ("rejected", "rejected"),
    ("appealed", "appealed"),
    ("withdrawn", "withdrawn"),
    ("reset", "reset"),
]
OUTCOMES = [
    ("approved", "approved"),
    ("rejected", "rejected"),
    ("changes_requested", "changes requested"),
    ("reset", "reset"),
    ("reopened", "reopened"),
]


class Migration(migrations.Migration):
    dependencies = [("access_requests", "0007_oauth")]
    operations = [
        migrations.RemoveConstraint(model_name="accessrequest", name="request_closed_has_date"),
        migrations.RemoveConstraint(model_name="decision", name="decision_against_has_words"),
        migrations.AlterField(
            model_name="accessrequest",
            name="state",
            field=models.CharField(choices=STATES, default="draft", max_length=20),
        ),
        migrations.AlterField(
            model_name="decision",
            name="outcome",
            field=models.CharField(choices=OUTCOMES, max_length=20),
        ),
        migrations.AddConstraint(
            model_name="accessrequest",
            constraint=models.CheckConstraint(
                condition=Q(
                    Q(closed_at__isnull=False, state__in=("approved", "rejected", "withdrawn", "reset")),
                    Q(
                        closed_at__isnull=True,
                        state__in=("draft", "submitted", "in_review", "changes_requested", "appealed"),
                    ),
                    _connector="OR",
                ),
                name="request_closed_has_date",
            ),
        ),
        migrations.AddConstraint(
            model_name="decision",
            constraint=models.CheckConstraint(
                condition=Q(
                    Q(("outcome__in", ["rejected", "changes_requested"]), _negated=True),
                    Q(("words", ""), _negated=True),
                    _connector="OR",
                ),
                name="decision_against_has_words",
            ),
        ),
    ]
