"""Add submissions, votes, claims and holds. Existing rows are filled in and checked by the next migration."""

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

from access_requests.indexing import AddCheck


class Migration(migrations.Migration):

    dependencies = [
        ('access_requests', '0028_card_renderer'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='Submission',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('number', models.PositiveIntegerField(help_text='1, 2, 3 ... within the request.')),
                ('at', models.DateTimeField()),
            ],
            options={
                'ordering': ['pk'],
            },
        ),
        migrations.CreateModel(
            name='Vote',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('words', models.TextField(blank=True, help_text='Reaches the applicant with the decision.')),
                ('at', models.DateTimeField(auto_now_add=True)),
                ('ended_at', models.DateTimeField(blank=True, help_text='Set by a decision, a newer submission or a reopening: it does not count any more.', null=True)),
            ],
            options={
                'ordering': ['pk'],
            },
        ),
        migrations.AddField(
            model_name='accessrequest',
            name='assignee',
            field=models.ForeignKey(blank=True, db_index=False, help_text='The reviewer who claimed it.', null=True, on_delete=django.db.models.deletion.PROTECT, related_name='claimed_requests', to=settings.AUTH_USER_MODEL),
        ),
        migrations.AddField(
            model_name='accessrequest',
            name='claimed_at',
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name='accessrequest',
            name='draft',
            field=models.JSONField(blank=True, help_text='Changed answers that are saved, but not submitted.', null=True),
        ),
        migrations.AddField(
            model_name='accessrequest',
            name='held_at',
            field=models.DateTimeField(blank=True, help_text='On hold since.', null=True),
        ),
        migrations.AddField(
            model_name='accessrequest',
            name='held_by',
            field=models.ForeignKey(blank=True, db_index=False, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL),
        ),
        migrations.AddField(
            model_name='accessrequest',
            name='hold_reason',
            field=models.TextField(blank=True, db_default='', help_text='For reviewers.'),
        ),
        migrations.AddField(
            model_name='accessrequest',
            name='predecessor',
            field=models.ForeignKey(blank=True, db_index=False, help_text='The rejected request that this one corrects.', null=True, on_delete=django.db.models.deletion.PROTECT, related_name='successors', to='access_requests.accessrequest'),
        ),
        migrations.AddField(
            model_name='gatedmodel',
            name='approvals',
            field=models.PositiveSmallIntegerField(choices=[(1, 'one reviewer'), (2, 'two reviewers')], db_default=1, default=1, help_text='How many people must approve a request; one rejection is enough.'),
        ),
        migrations.AlterField(
            model_name='accessrequest',
            name='answers',
            field=models.JSONField(blank=True, default=dict, help_text='Input key -> answer, of the newest submission; the form version has the labels.'),
        ),
        migrations.AlterField(
            model_name='accessrequest',
            name='state',
            field=models.CharField(choices=[('draft', 'draft'), ('submitted', 'submitted'), ('in_review', 'in review'), ('changes_requested', 'changes requested'), ('approved', 'approved'), ('rejected', 'rejected'), ('appealed', 'appealed'), ('withdrawn', 'withdrawn'), ('reset', 'closed without decision')], default='draft', max_length=20),
        ),
        migrations.AlterField(
            model_name='decision',
            name='outcome',
            field=models.CharField(choices=[('approved', 'approved'), ('rejected', 'rejected'), ('changes_requested', 'changes requested'), ('reset', 'closed without decision'), ('reopened', 'reopened')], max_length=20),
        ),
        migrations.AlterField(
            model_name='listplace',
            name='place',
            field=models.CharField(blank=True, choices=[('pending', 'waiting for a decision, or for the person to change something'), ('accepted', 'a live grant'), ('rejected', 'rejected'), ('reset', 'access ended, or the request was closed without a decision: may ask again')], help_text='Empty while nothing counts.', max_length=10),
        ),
        AddCheck(
            model_name='accessrequest',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('assignee__isnull', True), ('claimed_at__isnull', True)), models.Q(('assignee__isnull', False), ('claimed_at__isnull', False)), _connector='OR'), name='request_claimed_has_date'),
        ),
        AddCheck(
            model_name='accessrequest',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('held_at__isnull', True), ('held_by__isnull', True), ('hold_reason', '')), models.Q(('held_at__isnull', False), ('held_by__isnull', False), ('state__in', ('submitted', 'in_review', 'appealed', 'changes_requested')), models.Q(('hold_reason', ''), _negated=True)), _connector='OR'), name='request_held_is_open_with_reason'),
        ),
        migrations.AddField(
            model_name='submission',
            name='event',
            field=models.OneToOneField(on_delete=django.db.models.deletion.PROTECT, related_name='submission', to='access_requests.event'),
        ),
        migrations.AddField(
            model_name='submission',
            name='form',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='submissions', to='access_requests.formversion'),
        ),
        migrations.AddField(
            model_name='submission',
            name='request',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='submissions', to='access_requests.accessrequest'),
        ),
        migrations.AddField(
            model_name='decision',
            name='submission',
            field=models.ForeignKey(blank=True, db_index=False, help_text='What was decided about; empty for access given without a request.', null=True, on_delete=django.db.models.deletion.PROTECT, related_name='decisions', to='access_requests.submission'),
        ),
        migrations.AddField(
            model_name='vote',
            name='request',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='votes', to='access_requests.accessrequest'),
        ),
        migrations.AddField(
            model_name='vote',
            name='reviewer',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='votes', to=settings.AUTH_USER_MODEL),
        ),
        migrations.AddField(
            model_name='vote',
            name='submission',
            field=models.ForeignKey(blank=True, db_index=False, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='votes', to='access_requests.submission'),
        ),
        migrations.AddConstraint(
            model_name='submission',
            constraint=models.UniqueConstraint(fields=('request', 'number'), name='one_submission_per_number'),
        ),
        migrations.AddConstraint(
            model_name='submission',
            constraint=models.CheckConstraint(condition=models.Q(('number__gte', 1)), name='submission_counts_from_1'),
        ),
        migrations.AddConstraint(
            model_name='vote',
            constraint=models.UniqueConstraint(condition=models.Q(('ended_at__isnull', True)), fields=('request', 'reviewer'), name='one_counting_vote_per_person'),
        ),
    ]
