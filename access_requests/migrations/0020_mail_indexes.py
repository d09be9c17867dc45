"""Index emails by what is sent next and what is deleted, without blocking writers."""

from django.db import migrations, models

from access_requests.indexing import AddIndex, RemoveIndex


class Migration(migrations.Migration):

    atomic = False

    dependencies = [
        ('access_requests', '0019_mail_server'),
    ]

    operations = [
        AddIndex(
            model_name='outgoingmail',
            index=models.Index(condition=models.Q(('state', 'waiting')), fields=['pressing', 'next_try_at'], name='mail_next'),
        ),
        AddIndex(
            model_name='outgoingmail',
            index=models.Index(condition=models.Q(('state__in', ['waiting', 'failed']), ('useless_after__isnull', False)), fields=['useless_after'], name='mail_useless'),
        ),
        AddIndex(
            model_name='outgoingmail',
            index=models.Index(condition=models.Q(('state__in', ['sent', 'expired'])), fields=['created_at'], name='mail_done'),
        ),
        AddIndex(
            model_name='outgoingmail',
            index=models.Index(models.OrderBy(models.F('id'), descending=True), condition=models.Q(('state', 'failed')), name='mail_given_up'),
        ),
        RemoveIndex(
            model_name='outgoingmail',
            name='mail_due',
        ),
        AddIndex(
            model_name='devicecode',
            index=models.Index(fields=['expires_at'], name='device_code_ended'),
        ),
        AddIndex(
            model_name='devicecode',
            index=models.Index(condition=models.Q(('state', 'approved')), fields=['expires_at'], name='device_code_unfetched'),
        ),
        AddIndex(
            model_name='tokenexchange',
            index=models.Index(fields=['at'], name='exchange_at'),
        ),
    ]
