"""Distinguish sign-ins that ended before the machine fetched its token; record who fetches an issuer's keys."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('access_requests', '0009_remote'),
    ]

    operations = [
        migrations.RemoveConstraint(
            model_name='devicecode',
            name='device_code_approved_has_machine',
        ),
        migrations.AddField(
            model_name='issuerkeys',
            name='fetching_until',
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AlterField(
            model_name='devicecode',
            name='state',
            field=models.CharField(choices=[('waiting', 'waiting for a person'), ('approved', 'approved, not fetched yet'), ('denied', 'denied'), ('used', 'fetched'), ('ended', 'ended before it was fetched')], default='waiting', max_length=10),
        ),
        migrations.AddConstraint(
            model_name='devicecode',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('machine__isnull', False), ('state__in', ['approved', 'used', 'ended'])), models.Q(('machine__isnull', True), ('state__in', ['waiting', 'denied'])), _connector='OR'), name='device_code_approved_has_machine'),
        ),
    ]
