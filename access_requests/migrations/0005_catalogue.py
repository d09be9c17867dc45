import django.db.models.deletion
import django.db.models.functions.text
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("access_requests", "0004_tokens")]
    operations = [
        migrations.CreateModel(
            name="FormerId",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("repo_id", models.CharField(max_length=193, verbose_name="repository id")),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                (
                    "model",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="former_ids",
                        to="access_requests.gatedmodel",
                    ),
                ),
            ],
            options={"verbose_name": "former id", "ordering": ["-pk"]},
        ),
        migrations.CreateModel(
            name="Namespace",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("name", models.CharField(max_length=96)),
                ("full_name", models.CharField(max_length=200)),
            ],
            options={"ordering": ["name"]},
        ),
        migrations.AddConstraint(
            model_name="formerid",
            constraint=models.UniqueConstraint(
                django.db.models.functions.text.Lower("repo_id"), name="former_id_unique"
            ),
        ),
        migrations.AddConstraint(
            model_name="namespace",
            constraint=models.UniqueConstraint(
                django.db.models.functions.text.Lower("name"), name="namespace_name_unique"
            ),
        ),
    ]
