"""One language of each licence binds; an acceptance names the text shown and the binding text."""

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

# The text that holders must accept, or else English, or else the first one.
CHOOSE = """
UPDATE access_requests_licenceversion SET binding = false WHERE retired_at IS NULL AND id NOT IN (
    SELECT DISTINCT ON (model_id, name) id FROM access_requests_licenceversion WHERE retired_at IS NULL
    ORDER BY model_id, name, must_accept_at IS NULL, language <> 'en', id);
"""
IMMUTABLE_TEXT = """
CREATE OR REPLACE FUNCTION gatehouse_immutable_text() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND NEW.text = OLD.text AND NEW.sha256 = OLD.sha256 AND NEW.name = OLD.name
       AND NEW.language = OLD.language AND NEW.model_id = OLD.model_id{more} THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'a licence version is immutable: % refused', TG_OP USING ERRCODE = 'restrict_violation';
END $$;
"""


class Migration(migrations.Migration):

    dependencies = [
        ('access_requests', '0031_messages'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.RemoveConstraint(
            model_name='licenceacceptance',
            name='one_acceptance_per_request_and_text',
        ),
        migrations.RemoveConstraint(
            model_name='licenceacceptance',
            name='one_acceptance_per_person_and_text',
        ),
        migrations.AddField(
            model_name='licenceacceptance',
            name='binding',
            field=models.ForeignKey(blank=True, db_index=False, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='access_requests.licenceversion'),
        ),
        migrations.AddField(
            model_name='licenceacceptance',
            name='binding_sha256',
            field=models.CharField(blank=True, db_default='', max_length=64, verbose_name='SHA-256 of the binding text'),
        ),
        migrations.AddField(
            model_name='licenceversion',
            name='binding',
            field=models.BooleanField(db_default=True, default=True, help_text='Whether this language binds; the other texts of this name are translations.'),
        ),
        migrations.RunSQL(CHOOSE, migrations.RunSQL.noop),
        migrations.RunSQL(
            IMMUTABLE_TEXT.replace("{more}", " AND NEW.binding = OLD.binding"), IMMUTABLE_TEXT.replace("{more}", "")
        ),
        migrations.AlterField(
            model_name='licenceversion',
            name='must_accept_at',
            field=models.DateTimeField(blank=True, editable=False, help_text='Holders of grants who have not accepted this licence since then are refused until they do.', null=True),
        ),
        migrations.AddConstraint(
            model_name='licenceacceptance',
            constraint=models.UniqueConstraint(fields=('request', 'binding'), name='one_acceptance_per_request_and_binding'),
        ),
        migrations.AddConstraint(
            model_name='licenceacceptance',
            constraint=models.UniqueConstraint(condition=models.Q(('request__isnull', True)), fields=('user', 'binding'), name='one_acceptance_per_person_and_binding'),
        ),
        migrations.AddConstraint(
            model_name='licenceversion',
            constraint=models.UniqueConstraint(condition=models.Q(('binding', True), ('retired_at__isnull', True)), fields=('model', 'name'), name='one_binding_language_per_licence'),
        ),
    ]
