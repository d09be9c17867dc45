import django.db.models.functions.text
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("accounts", "0001_initial")]
    operations = [
        migrations.RemoveConstraint(model_name="user", name="user_email_unique"),
        migrations.AddField(
            model_name="user",
            name="imported",
            field=models.BooleanField(
                default=False,
                editable=False,
                help_text="Asked at a followed repository, and has no sign-in here.",
            ),
        ),
        migrations.AlterField(
            model_name="user",
            name="email",
            field=models.EmailField(blank=True, max_length=254, verbose_name="email address"),
        ),
        migrations.AddConstraint(
            model_name="user",
            constraint=models.UniqueConstraint(
                django.db.models.functions.text.Lower("email"),
                condition=~models.Q(email=""),
                name="user_email_unique",
                violation_error_message="This email address has an account.",
            ),
        ),
        migrations.AddConstraint(
            model_name="user",
            constraint=models.CheckConstraint(
                condition=(models.Q(imported=False) & ~models.Q(email=""))
                | models.Q(
                    imported=True, email="", is_staff=False, is_superuser=False, password__startswith="!"
                ),
                name="imported_people_cannot_sign_in",
                violation_error_message="Someone imported from elsewhere has no address, password or rights here.",
            ),
        ),
    ]
