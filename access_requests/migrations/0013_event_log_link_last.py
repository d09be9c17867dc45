"""The chain's lock is taken after every other check of a commit: no foreign key waits for a row while it is held.

Deferred triggers run in the order in which their rows were written, and what they write themselves is checked after all
of them. So an event's own trigger only notes the event in `access_requests_eventtolink`; that row's trigger takes the
lock and links the event. The row is gone again before the commit ends.
"""

from django.db import migrations

CHAIN_LOCK = 0x6761746568  # as in 0012

NOTE = """
CREATE UNLOGGED TABLE access_requests_eventtolink (event_id bigint PRIMARY KEY);
CREATE FUNCTION gatehouse_note_event() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, {schema}, pg_temp AS $$
BEGIN
    INSERT INTO access_requests_eventtolink (event_id) VALUES (NEW.id);
    RETURN NULL;
END $$;
"""
LINK = """
CREATE OR REPLACE FUNCTION gatehouse_link_event() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, {schema}, pg_temp AS $$
DECLARE
    place bigint;
    before text;
    content text;
BEGIN
    DELETE FROM access_requests_eventtolink WHERE event_id = NEW.event_id;
    SELECT digest INTO STRICT content FROM access_requests_event WHERE id = NEW.event_id;
    PERFORM pg_advisory_xact_lock({lock});
    SELECT number, hash INTO place, before FROM access_requests_eventlink ORDER BY number DESC LIMIT 1;
    IF place IS NULL THEN
        SELECT old_number, old_hash INTO place, before FROM access_requests_event
            WHERE old_number IS NOT NULL ORDER BY old_number DESC LIMIT 1;
    END IF;
    place := coalesce(place, 0) + 1;
    before := coalesce(before, repeat('0', 64));
    INSERT INTO access_requests_eventlink (number, event_id, previous_hash, hash) VALUES (
        place, NEW.event_id, before,
        encode(sha256(convert_to(place || ' ' || before || ' ' || content, 'UTF8')), 'hex'));
    RETURN NULL;
END $$;
"""
TRIGGERS = """
DROP TRIGGER zz_link ON access_requests_event;
CREATE CONSTRAINT TRIGGER zz_link AFTER INSERT ON access_requests_event DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (NEW.format = 2) EXECUTE FUNCTION gatehouse_note_event();
CREATE CONSTRAINT TRIGGER zz_link AFTER INSERT ON access_requests_eventtolink DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION gatehouse_link_event();
"""
LINK_BEFORE = """
DROP TRIGGER zz_link ON access_requests_event;
DROP TABLE access_requests_eventtolink;
DROP FUNCTION gatehouse_note_event();
CREATE OR REPLACE FUNCTION gatehouse_link_event() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, {schema}, pg_temp AS $$
DECLARE
    place bigint;
    before text;
BEGIN
    PERFORM pg_advisory_xact_lock({lock});
    SELECT number, hash INTO place, before FROM access_requests_eventlink ORDER BY number DESC LIMIT 1;
    IF place IS NULL THEN
        SELECT old_number, old_hash INTO place, before FROM access_requests_event
            WHERE old_number IS NOT NULL ORDER BY old_number DESC LIMIT 1;
    END IF;
    place := coalesce(place, 0) + 1;
    before := coalesce(before, repeat('0', 64));
    INSERT INTO access_requests_eventlink (number, event_id, previous_hash, hash) VALUES (
        place, NEW.id, before,
        encode(sha256(convert_to(place || ' ' || before || ' ' || NEW.digest, 'UTF8')), 'hex'));
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER zz_link AFTER INSERT ON access_requests_event DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (NEW.format = 2) EXECUTE FUNCTION gatehouse_link_event();
"""


def link_last(apps, schema_editor):
    """As in 0012, the functions name the schema whose tables they mean."""
    run(schema_editor, NOTE + LINK + TRIGGERS)


def link_as_before(apps, schema_editor):
    run(schema_editor, LINK_BEFORE)


def run(schema_editor, text):
    with schema_editor.connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")  # events of this transaction are linked as they were until now
        cursor.execute("SELECT quote_ident(current_schema())")
        (schema,) = cursor.fetchone()
        cursor.execute(text.format(schema=schema, lock=CHAIN_LOCK))
        cursor.execute("SET CONSTRAINTS ALL DEFERRED")


class Migration(migrations.Migration):
    dependencies = [("access_requests", "0012_event_log_chain")]
    operations = [migrations.RunPython(link_last, link_as_before)]
