"""What is sent next, and what is deleted, is found by an index; made without locking out writers."""

from django.contrib.postgres.operations import AddIndexConcurrently, RemoveIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):

    atomic = False

    dependencies = [
        ('access_requests', '0019_mail_server'),
    ]

    operations = [
        AddIndexConcurrently(
            model_name='outgoingmail',
            index=models.Index(condition=models.Q(('state', 'waiting')), fields=['pressing', 'next_try_at'], name='mail_next'),
        ),
        AddIndexConcurrently(
            model_name='outgoingmail',
            index=models.Index(condition=models.Q(('state__in', ['waiting', 'failed']), ('useless_after__isnull', False)), fields=['useless_after'], name='mail_useless'),
        ),
        AddIndexConcurrently(
            model_name='outgoingmail',
            index=models.Index(condition=models.Q(('state__in', ['sent', 'expired'])), fields=['created_at'], name='mail_done'),
        ),
        AddIndexConcurrently(
            model_name='outgoingmail',
            index=models.Index(models.OrderBy(models.F('id'), descending=True), condition=models.Q(('state', 'failed')), name='mail_given_up'),
        ),
        RemoveIndexConcurrently(
            model_name='outgoingmail',
            name='mail_due',
        ),
        AddIndexConcurrently(
            model_name='devicecode',
            index=models.Index(fields=['expires_at'], name='device_code_ended'),
        ),
        AddIndexConcurrently(
            model_name='devicecode',
            index=models.Index(condition=models.Q(('state', 'approved')), fields=['expires_at'], name='device_code_unfetched'),
        ),
        AddIndexConcurrently(
            model_name='tokenexchange',
            index=models.Index(fields=['at'], name='exchange_at'),
        ),
    ]
