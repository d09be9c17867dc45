import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("access_requests", "0005_catalogue"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]
    operations = [
        migrations.AddField(
            model_name="licenceversion",
            name="must_accept_at",
            field=models.DateTimeField(
                blank=True,
                editable=False,
                help_text="Holders of grants who have not accepted this name and language since then are refused until they do.",
                null=True,
            ),
        ),
        migrations.AlterField(
            model_name="licenceacceptance",
            name="request",
            field=models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="acceptances",
                to="access_requests.accessrequest",
            ),
        ),
        migrations.AddConstraint(
            model_name="licenceacceptance",
            constraint=models.UniqueConstraint(
                condition=models.Q(("request__isnull", True)),
                fields=("user", "licence"),
                name="one_acceptance_per_person_and_text",
            ),
        ),
    ]
