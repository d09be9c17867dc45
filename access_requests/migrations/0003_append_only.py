"""Make the database refuse changes and deletions of events, licence texts and acceptances."""

from django.db import migrations

FUNCTION = """
CREATE FUNCTION gatehouse_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only: % refused', TG_TABLE_NAME, TG_OP USING ERRCODE = 'restrict_violation';
END $$;
"""
IMMUTABLE_TEXT = """
CREATE FUNCTION gatehouse_immutable_text() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND NEW.text = OLD.text AND NEW.sha256 = OLD.sha256 AND NEW.name = OLD.name
       AND NEW.language = OLD.language AND NEW.model_id = OLD.model_id THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'a licence version is immutable: % refused', TG_OP USING ERRCODE = 'restrict_violation';
END $$;
"""


def append_only(table: str) -> str:
    return f"""
CREATE TRIGGER {table}_rows BEFORE UPDATE OR DELETE ON {table} FOR EACH ROW EXECUTE FUNCTION gatehouse_append_only();
CREATE TRIGGER {table}_all BEFORE TRUNCATE ON {table} FOR EACH STATEMENT EXECUTE FUNCTION gatehouse_append_only();
"""


def back(table: str) -> str:
    return f"DROP TRIGGER {table}_rows ON {table}; DROP TRIGGER {table}_all ON {table};"


class Migration(migrations.Migration):
    dependencies = [("access_requests", "0002_initial")]
    operations = [
        migrations.RunSQL(FUNCTION, "DROP FUNCTION gatehouse_append_only();"),
        migrations.RunSQL(IMMUTABLE_TEXT, "DROP FUNCTION gatehouse_immutable_text();"),
        migrations.RunSQL(append_only("access_requests_event"), back("access_requests_event")),
        migrations.RunSQL(
            append_only("access_requests_licenceacceptance"), back("access_requests_licenceacceptance")
        ),
        migrations.RunSQL(
            "CREATE TRIGGER licence_text_immutable BEFORE UPDATE OR DELETE ON access_requests_licenceversion "
            "FOR EACH ROW EXECUTE FUNCTION gatehouse_immutable_text();",
            "DROP TRIGGER licence_text_immutable ON access_requests_licenceversion;",
        ),
    ]
