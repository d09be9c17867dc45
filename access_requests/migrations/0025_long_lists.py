"""Add indexes for lists with millions of rows, while the portal keeps running."""

import access_requests.search
import django.contrib.postgres.indexes
from django.conf import settings
from django.db import migrations, models

from access_requests.indexing import AddCheck, AddIndex, RemoveIndex


class Migration(migrations.Migration):
    atomic = False  # required by PostgreSQL for indexes created concurrently

    dependencies = [
        ('access_requests', '0024_search'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        AddIndex(
            model_name='accessrequest',
            index=models.Index(models.Case(models.When(state__in=('submitted', 'in_review', 'appealed'), then=models.Value(0)), default=models.Value(1), output_field=models.SmallIntegerField()), models.F('first_submitted_at'), models.F('id'), name='request_queue_order', include=['state']),
        ),
        AddIndex(
            model_name='accessrequest',
            index=models.Index(models.F('model'), models.Case(models.When(state__in=('submitted', 'in_review', 'appealed'), then=models.Value(0)), default=models.Value(1), output_field=models.SmallIntegerField()), models.F('first_submitted_at'), models.F('id'), name='request_queue_of_model', include=['state', 'country']),
        ),
        AddIndex(
            model_name='accessrequest',
            index=models.Index(models.F('country'), models.Case(models.When(state__in=('submitted', 'in_review', 'appealed'), then=models.Value(0)), default=models.Value(1), output_field=models.SmallIntegerField()), models.F('first_submitted_at'), models.F('id'), name='request_queue_of_country', include=['state']),
        ),
        AddIndex(
            model_name='accessrequest',
            index=models.Index(fields=['state', 'first_submitted_at', 'id'], name='request_by_state'),
        ),
        AddIndex(
            model_name='accessrequest',
            index=models.Index(fields=['model', 'country'], name='request_countries_of_model'),
        ),
        AddIndex(
            model_name='accessrequest',
            index=django.contrib.postgres.indexes.GinIndex(django.contrib.postgres.indexes.OpClass(access_requests.search.SearchText('first_name', access_requests.search.Glued('last_name', 'first_name'), 'institution', 'intended_use'), 'gin_trgm_ops'), name='request_search'),
        ),
        AddIndex(
            model_name='grant',
            index=models.Index(condition=models.Q(('revoked_at__isnull', True)), fields=['ends_at', 'id'], name='grant_by_end'),
        ),
        AddIndex(
            model_name='accesstoken',
            index=models.Index(condition=models.Q(('revoked_at__isnull', True)), fields=['expires_at', 'id'], name='token_by_end'),
        ),
        AddIndex(
            model_name='accesstoken',
            index=django.contrib.postgres.indexes.GinIndex(django.contrib.postgres.indexes.OpClass(access_requests.search.SearchText('name', 'hint'), 'gin_trgm_ops'), name='token_search'),
        ),
        AddIndex(
            model_name='accesstoken',
            index=models.Index(fields=['last_used_address'], name='token_by_address'),
        ),
        AddIndex(
            model_name='accesstoken',
            index=models.Index(fields=['kind', 'id'], name='token_by_kind'),
        ),
        AddIndex(
            model_name='accesstoken',
            index=models.Index(fields=['origin', 'id'], name='token_by_origin'),
        ),
        AddIndex(
            model_name='accesstoken',
            index=models.Index(condition=models.Q(('revoked_at__isnull', False)), fields=['id'], name='token_revoked'),
        ),
        AddIndex(
            model_name='event',
            index=models.Index(fields=['at', 'id'], name='event_by_time'),
        ),
        AddIndex(
            model_name='event',
            index=models.Index(fields=['model', 'at', 'id'], name='event_of_model'),
        ),
        AddIndex(
            model_name='event',
            index=models.Index(fields=['kind', 'at', 'id'], name='event_by_kind'),
        ),
        AddIndex(
            model_name='event',
            index=models.Index(condition=models.Q(('writer', ''), _negated=True), fields=['writer', 'id'], name='event_by_writer'),
        ),
        AddIndex(
            model_name='grant',
            index=models.Index(fields=['model', 'id'], name='grant_of_model'),
        ),
        AddIndex(
            model_name='grant',
            index=models.Index(fields=['source', 'id'], name='grant_by_source'),
        ),
        AddIndex(
            model_name='grant',
            index=models.Index(condition=models.Q(('revoked_at__isnull', False)), fields=['id'], name='grant_revoked'),
        ),
        AddIndex(
            model_name='outgoingmail',
            index=django.contrib.postgres.indexes.GinIndex(django.contrib.postgres.indexes.OpClass(access_requests.search.SearchText('to', 'subject', 'key'), 'gin_trgm_ops'), name='email_search'),
        ),
        RemoveIndex(
            model_name='accessrequest',
            name='request_queue',
        ),
        AddCheck(
            model_name='accessrequest',
            constraint=models.CheckConstraint(condition=models.Q(('submitted_at__isnull', True), ('first_submitted_at__isnull', False), _connector='OR'), name='request_submitted_has_first_date'),
        ),
    ]
