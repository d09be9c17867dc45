"""Add folders assigned to namespaces, and repositories allowed for the portal's Hub token.

Sources that models already have stay: `by_owner` is False, as if an operator had named them, and `with_token`
is True, so that fetched files stay where they are and are used as before.
"""

import django.db.models.deletion
import django.db.models.functions.text
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('model_ops', '0004_uploads'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='AllowedRepository',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('endpoint', models.CharField(max_length=300, verbose_name='Hub')),
                ('repo_id', models.CharField(max_length=193, verbose_name='repository id')),
                ('namespace', models.CharField(blank=True, help_text='Only for models of this namespace; empty: for every model.', max_length=96)),
                ('created_at', models.DateTimeField(auto_now_add=True, verbose_name='allowed at')),
            ],
            options={
                'verbose_name': 'allowed repository',
                'verbose_name_plural': 'allowed repositories',
                'ordering': ['repo_id', 'namespace'],
            },
        ),
        migrations.CreateModel(
            name='AssignedFolder',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('path', models.CharField(help_text='Absolute, at or below a folder of GATEHOUSE_SOURCES, without links.', max_length=1000)),
                ('namespace', models.CharField(help_text="The part of a model's id before the slash.", max_length=96)),
                ('created_at', models.DateTimeField(auto_now_add=True, verbose_name='assigned at')),
            ],
            options={
                'verbose_name': 'assigned folder',
                'ordering': ['namespace', 'path'],
            },
        ),
        migrations.RemoveConstraint(
            model_name='weightsource',
            name='one_row_per_source',
        ),
        migrations.AddField(
            model_name='modelweights',
            name='by_owner',
            field=models.BooleanField(default=False, help_text='An owner named the sources: their right to them is checked again before anything is read.'),
        ),
        migrations.AddField(
            model_name='weightsource',
            name='with_token',
            field=models.BooleanField(default=True, help_text="The portal's Hub token may be used for it. Kept apart from what was fetched without."),
        ),
        migrations.AddConstraint(
            model_name='weightsource',
            constraint=models.UniqueConstraint(fields=('spec', 'fingerprint', 'with_token'), name='one_row_per_source'),
        ),
        migrations.AddField(
            model_name='allowedrepository',
            name='allowed_by',
            field=models.ForeignKey(blank=True, help_text='Empty: an operator, by command.', null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='allowed_repositories', to=settings.AUTH_USER_MODEL),
        ),
        migrations.AddField(
            model_name='assignedfolder',
            name='assigned_by',
            field=models.ForeignKey(blank=True, help_text='Empty: an operator, by command.', null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='assigned_folders', to=settings.AUTH_USER_MODEL),
        ),
        migrations.AddConstraint(
            model_name='allowedrepository',
            constraint=models.UniqueConstraint(models.F('endpoint'), django.db.models.functions.text.Lower('repo_id'), django.db.models.functions.text.Lower('namespace'), name='repository_allowed_once_per_namespace'),
        ),
        migrations.AddConstraint(
            model_name='assignedfolder',
            constraint=models.UniqueConstraint(models.F('path'), django.db.models.functions.text.Lower('namespace'), name='folder_assigned_once_per_namespace'),
        ),
    ]
