import django.db.models.deletion
import django.utils.timezone
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("access_requests", "0006_tokens_more"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]
    operations = [
        migrations.CreateModel(
            name="IssuerKeys",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("issuer", models.CharField(max_length=200, unique=True)),
                ("keys", models.JSONField(default=list)),
                ("fetched_at", models.DateTimeField(blank=True, null=True)),
                ("tried_at", models.DateTimeField(blank=True, null=True)),
            ],
            options={
                "verbose_name_plural": "issuers' keys",
            },
        ),
        migrations.CreateModel(
            name="Machine",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("name", models.CharField(help_text="Its tokens bear the same name.", max_length=100)),
                ("client_id", models.CharField(blank=True, max_length=100, verbose_name="client")),
                ("client", models.CharField(blank=True, max_length=200, verbose_name="User-Agent")),
                (
                    "address",
                    models.GenericIPAddressField(
                        blank=True, help_text="Where the sign-in was begun.", null=True
                    ),
                ),
                ("signed_in_at", models.DateTimeField(default=django.utils.timezone.now)),
                ("refreshed_at", models.DateTimeField(blank=True, null=True)),
                (
                    "ends_at",
                    models.DateTimeField(
                        help_text="Each refresh moves it: it ends by itself when it is not used."
                    ),
                ),
                ("signed_out_at", models.DateTimeField(blank=True, null=True)),
                ("signed_out_why", models.CharField(blank=True, max_length=200)),
                (
                    "user",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="machines",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={
                "verbose_name": "signed-in machine",
                "ordering": ["-pk"],
            },
        ),
        migrations.CreateModel(
            name="RefreshToken",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "digest",
                    models.CharField(
                        editable=False, max_length=64, unique=True, verbose_name="SHA-256 of the secret"
                    ),
                ),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now)),
                ("used_at", models.DateTimeField(blank=True, null=True)),
                (
                    "follows",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="followers",
                        to="access_requests.refreshtoken",
                    ),
                ),
                (
                    "machine",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="refresh_tokens",
                        to="access_requests.machine",
                    ),
                ),
                (
                    "token",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="refresh",
                        to="access_requests.accesstoken",
                    ),
                ),
            ],
            options={
                "ordering": ["-pk"],
            },
        ),
        migrations.CreateModel(
            name="TrustedRepository",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("issuer", models.CharField(max_length=200)),
                ("repository", models.CharField(help_text="owner/name, as the CI names it.", max_length=255)),
                (
                    "repository_id",
                    models.CharField(
                        blank=True,
                        editable=False,
                        help_text="Its number, kept from the first exchange: another repository that takes over the name is refused.",
                        max_length=40,
                    ),
                ),
                (
                    "ref",
                    models.CharField(
                        blank=True,
                        help_text="refs/heads/main; empty: any.",
                        max_length=255,
                        verbose_name="branch or tag",
                    ),
                ),
                (
                    "environment",
                    models.CharField(blank=True, help_text="Empty: any, or none.", max_length=255),
                ),
                (
                    "workflow",
                    models.CharField(
                        blank=True, help_text="Empty: any.", max_length=255, verbose_name="workflow file"
                    ),
                ),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now)),
                ("last_used_at", models.DateTimeField(blank=True, null=True)),
                ("removed_at", models.DateTimeField(blank=True, null=True)),
                (
                    "model",
                    models.ForeignKey(
                        blank=True,
                        help_text="Empty: every model that the person may read.",
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="trusted_repositories",
                        to="access_requests.gatedmodel",
                    ),
                ),
                (
                    "user",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="trusted_repositories",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={
                "verbose_name_plural": "trusted repositories",
                "ordering": ["-pk"],
            },
        ),
        migrations.CreateModel(
            name="TokenExchange",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "identity",
                    models.CharField(
                        editable=False, max_length=64, unique=True, verbose_name="SHA-256 of issuer and jti"
                    ),
                ),
                ("at", models.DateTimeField(default=django.utils.timezone.now)),
                ("address", models.GenericIPAddressField(blank=True, null=True)),
                (
                    "claims",
                    models.JSONField(
                        default=dict, help_text="What the issuer said about the job, as far as it matters."
                    ),
                ),
                (
                    "token",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="exchange",
                        to="access_requests.accesstoken",
                    ),
                ),
                (
                    "trusted",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="exchanges",
                        to="access_requests.trustedrepository",
                    ),
                ),
            ],
            options={
                "ordering": ["-pk"],
            },
        ),
        migrations.CreateModel(
            name="DeviceCode",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "digest",
                    models.CharField(
                        editable=False, max_length=64, unique=True, verbose_name="SHA-256 of the device code"
                    ),
                ),
                ("user_code", models.CharField(editable=False, max_length=8, unique=True)),
                ("client_id", models.CharField(blank=True, max_length=100)),
                ("client", models.CharField(blank=True, max_length=200, verbose_name="User-Agent")),
                ("address", models.GenericIPAddressField(blank=True, null=True)),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now)),
                ("expires_at", models.DateTimeField()),
                (
                    "interval",
                    models.PositiveSmallIntegerField(help_text="Seconds that must lie between two polls."),
                ),
                ("polled_at", models.DateTimeField(blank=True, null=True)),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("waiting", "waiting for a person"),
                            ("approved", "approved, not fetched yet"),
                            ("denied", "denied"),
                            ("used", "fetched"),
                        ],
                        default="waiting",
                        max_length=10,
                    ),
                ),
                ("decided_at", models.DateTimeField(blank=True, null=True)),
                (
                    "machine",
                    models.OneToOneField(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="device_code",
                        to="access_requests.machine",
                    ),
                ),
            ],
            options={
                "ordering": ["-pk"],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("machine__isnull", False), ("state__in", ["approved", "used"])),
                            models.Q(("machine__isnull", True), ("state__in", ["waiting", "denied"])),
                            _connector="OR",
                        ),
                        name="device_code_approved_has_machine",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("decided_at__isnull", True), ("state", "waiting")),
                            models.Q(
                                models.Q(("state", "waiting"), _negated=True), ("decided_at__isnull", False)
                            ),
                            _connector="OR",
                        ),
                        name="device_code_decided_has_date",
                    ),
                ],
            },
        ),
        migrations.AddIndex(
            model_name="trustedrepository",
            index=models.Index(fields=["issuer", "user"], name="trusted_by_issuer"),
        ),
    ]
