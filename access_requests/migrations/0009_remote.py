import django.db.models.deletion
import django.db.models.functions.text
import django.utils.timezone
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("access_requests", "0008_reset"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='FarSide',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('endpoint', models.URLField(unique=True)),
                ('window_started_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('calls', models.PositiveIntegerField(default=0)),
                ('closed_until', models.DateTimeField(blank=True, null=True)),
            ],
        ),
        migrations.CreateModel(
            name='FollowedRepo',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('endpoint', models.URLField()),
                ('far_id', models.CharField(max_length=193, verbose_name='repository there')),
                ('state', models.CharField(choices=[('following', 'following'), ('paused', 'paused'), ('refused', 'refused: waits for another token'), ('ended', 'not followed any more')], default='following', max_length=10)),
                ('problem', models.TextField(blank=True, help_text='Why the last poll was not what it should be.')),
                ('refused_token', models.CharField(blank=True, editable=False, help_text='Mark of the token that was refused.', max_length=64)),
                ('mail_applicants', models.BooleanField(default=False, help_text='Email decisions from here too, if the remote gave an address. The remote sends its own emails.')),
                ('poll_every', models.PositiveIntegerField(default=300, help_text='Seconds between two polls.')),
                ('next_poll_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('polled_at', models.DateTimeField(blank=True, null=True, verbose_name='last polled')),
                ('failures', models.PositiveIntegerField(default=0, help_text='Polls that failed, one after the other.')),
                ('unread', models.PositiveIntegerField(default=0, help_text='Entries of the last poll that could not be understood.')),
                ('lease_owner', models.CharField(blank=True, editable=False, max_length=32)),
                ('lease_until', models.DateTimeField(blank=True, editable=False, null=True)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('model', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='followed_repos', to='access_requests.gatedmodel')),
            ],
            options={
                'verbose_name': 'followed repository',
                'verbose_name_plural': 'followed repositories',
                'ordering': ['model__repo_id'],
            },
        ),
        migrations.CreateModel(
            name='RemotePerson',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('endpoint', models.URLField()),
                ('far_user_id', models.CharField(blank=True, help_text='Stays when the name changes.', max_length=64)),
                ('name', models.CharField(blank=True, help_text='Empty if the remote hides names.', max_length=96)),
                ('full_name', models.CharField(blank=True, max_length=200)),
                ('email', models.EmailField(blank=True, max_length=254, verbose_name='email, as given')),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('user', models.OneToOneField(on_delete=django.db.models.deletion.PROTECT, related_name='remote_person', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'verbose_name': 'person from elsewhere',
                'verbose_name_plural': 'people from elsewhere',
            },
        ),
        migrations.CreateModel(
            name='RemoteRequest',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('far_request_id', models.CharField(blank=True, max_length=100, verbose_name='request id there')),
                ('far_status', models.CharField(choices=[('pending', 'pending'), ('accepted', 'accepted'), ('rejected', 'rejected'), ('reset', 'reset'), ('missing', 'not there')], max_length=10, verbose_name='state there')),
                ('far_asked_at', models.DateTimeField(help_text='The newest time that the remote gave.', verbose_name='asked there')),
                ('far_fields', models.JSONField(blank=True, default=dict, help_text='Label -> answer, as last seen.')),
                ('answered_at', models.DateTimeField(help_text='The time of asking that the request here stands for.')),
                ('other_answers', models.JSONField(blank=True, default=dict, help_text='Answers under labels that the form here does not have.')),
                ('missed', models.PositiveIntegerField(default=0, help_text='Polls in a row that did not show it.')),
                ('seen_at', models.DateTimeField(blank=True, null=True)),
                ('wrote_at', models.DateTimeField(blank=True, help_text='Last write there; lists lag behind it.', null=True)),
                ('drifted_at', models.DateTimeField(blank=True, help_text='Since when both sides say different things.', null=True, verbose_name='drifted')),
                ('followed', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='remote_requests', to='access_requests.followedrepo')),
                ('person', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='remote_requests', to='access_requests.remoteperson')),
                ('request', models.OneToOneField(on_delete=django.db.models.deletion.PROTECT, related_name='remote', to='access_requests.accessrequest')),
            ],
            options={
                'verbose_name': 'request from elsewhere',
                'verbose_name_plural': 'requests from elsewhere',
                'ordering': ['-pk'],
            },
        ),
        migrations.CreateModel(
            name='RemotePush',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('status', models.CharField(choices=[('pending', 'pending'), ('accepted', 'accepted'), ('rejected', 'rejected'), ('reset', 'reset'), ('missing', 'not there')], max_length=10, verbose_name='to be')),
                ('expects', models.CharField(choices=[('pending', 'pending'), ('accepted', 'accepted'), ('rejected', 'rejected'), ('reset', 'reset'), ('missing', 'not there')], help_text='What it may replace; anything else is drift.', max_length=10, verbose_name='was')),
                ('words', models.CharField(blank=True, help_text='The reason that is reported to the remote.', max_length=200)),
                ('state', models.CharField(choices=[('due', 'to be told'), ('claimed', 'being told'), ('done', 'told'), ('failed', 'given up'), ('replaced', 'replaced by a later one')], default='due', max_length=10)),
                ('attempts', models.PositiveIntegerField(default=0)),
                ('last_error', models.TextField(blank=True)),
                ('actor_name', models.CharField(blank=True, max_length=200)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('next_try_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('done_at', models.DateTimeField(blank=True, null=True)),
                ('lease_owner', models.CharField(blank=True, editable=False, max_length=32)),
                ('lease_until', models.DateTimeField(blank=True, editable=False, null=True)),
                ('remote', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='pushes', to='access_requests.remoterequest')),
            ],
            options={
                'verbose_name': 'decision to be told',
                'verbose_name_plural': 'decisions to be told',
                'ordering': ['pk'],
            },
        ),
        migrations.AddIndex(
            model_name='followedrepo',
            index=models.Index(fields=['state', 'next_poll_at'], name='poll_due'),
        ),
        migrations.AddConstraint(
            model_name='followedrepo',
            constraint=models.UniqueConstraint(models.F('endpoint'), django.db.models.functions.text.Lower('far_id'), condition=models.Q(('state', 'ended'), _negated=True), name='far_repository_followed_once'),
        ),
        migrations.AddConstraint(
            model_name='followedrepo',
            constraint=models.UniqueConstraint(condition=models.Q(('state', 'ended'), _negated=True), fields=('model',), name='one_followed_repository_per_model'),
        ),
        migrations.AddIndex(
            model_name='remoteperson',
            index=models.Index(models.F('endpoint'), django.db.models.functions.text.Lower('name'), name='far_person_by_name'),
        ),
        migrations.AddConstraint(
            model_name='remoteperson',
            constraint=models.UniqueConstraint(condition=models.Q(('far_user_id', ''), _negated=True), fields=('endpoint', 'far_user_id'), name='far_person_imported_once'),
        ),
        migrations.AddConstraint(
            model_name='remoterequest',
            constraint=models.UniqueConstraint(fields=('followed', 'person'), name='one_far_request_per_person'),
        ),
        migrations.AddConstraint(
            model_name='remoterequest',
            constraint=models.UniqueConstraint(condition=models.Q(('far_request_id', ''), _negated=True), fields=('followed', 'far_request_id'), name='far_request_imported_once'),
        ),
        migrations.AddIndex(
            model_name='remotepush',
            index=models.Index(fields=['state', 'next_try_at'], name='push_due'),
        ),
        migrations.AddConstraint(
            model_name='remotepush',
            constraint=models.UniqueConstraint(condition=models.Q(('state', 'due')), fields=('remote',), name='one_push_due_per_far_request'),
        ),
    ]
