"""Let emails be claimed before they are sent, and pressing ones go first; pause a failing mail server."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('access_requests', '0018_drift_indexes'),
    ]

    operations = [
        migrations.AddField(
            model_name='outgoingmail',
            name='pressing',
            field=models.BooleanField(db_default=False, default=False, help_text='A code or a link that someone waits for: sent before the others, its text kept only until then.'),
        ),
        migrations.AddField(
            model_name='outgoingmail',
            name='useless_after',
            field=models.DateTimeField(blank=True, help_text='Not sent any more after this, because its code has ended by then.', null=True),
        ),
        migrations.AddField(
            model_name='outgoingmail',
            name='lease_owner',
            field=models.CharField(blank=True, db_default='', default='', editable=False, max_length=32),
        ),
        migrations.AddField(
            model_name='outgoingmail',
            name='lease_until',
            field=models.DateTimeField(blank=True, editable=False, null=True),
        ),
        migrations.AlterField(
            model_name='outgoingmail',
            name='state',
            field=models.CharField(choices=[('waiting', 'waiting'), ('sent', 'sent'), ('failed', 'given up'), ('expired', 'not sent in time')], default='waiting', max_length=10),
        ),
        migrations.CreateModel(
            name='MailServer',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('failures', models.PositiveIntegerField(default=0, help_text='In a row; 0 while it answers.')),
                ('failing_since', models.DateTimeField(blank=True, null=True)),
                ('paused_until', models.DateTimeField(blank=True, help_text='Nothing is sent before this.', null=True)),
                ('last_error', models.TextField(blank=True)),
            ],
            options={
                'constraints': [models.CheckConstraint(condition=models.Q(('pk', 1)), name='one_mail_server')],
            },
        ),
    ]
