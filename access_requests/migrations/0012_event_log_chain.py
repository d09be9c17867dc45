"""Let the database link events at commit, and let only it erase texts; close the chain of format 1.

The chain's lock is taken after all other checks of a commit, so that no foreign key waits for a row while it
is held. Deferred triggers run in the order in which their rows were written; rows that they write themselves
are checked after all of them. So an event's own trigger only notes the event in `access_requests_eventtolink`,
and that row's trigger takes the lock, links the event and removes the row.
"""

import hashlib
import json
from datetime import UTC

from django.db import migrations
from django.utils import timezone

CHAIN_LOCK = 0x6761746568  # "gateh"; held from the first link of a transaction to the end of its commit

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
CREATE FUNCTION gatehouse_link_event() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
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
ERASE = """
CREATE FUNCTION gatehouse_erase_event_texts(wanted bigint[], by bigint) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, {schema}, pg_temp AS $$
DECLARE
    erased bigint[];
    moment timestamptz := clock_timestamp();
    salt bytea := decode(replace(gen_random_uuid()::text, '-', ''), 'hex');
    by_name text;
    name_digest text;
    content text;
    appended bigint;
BEGIN
    SELECT to_json(username)::text INTO STRICT by_name FROM accounts_user WHERE id = by;
    SELECT array_agg(t.id ORDER BY t.id) INTO erased FROM (
        SELECT id FROM access_requests_eventtext WHERE id = ANY(wanted) AND text IS NOT NULL
        ORDER BY id FOR NO KEY UPDATE) t;
    IF erased IS NULL THEN
        RETURN 0;
    END IF;
    UPDATE access_requests_eventtext SET salt = NULL, text = NULL WHERE id = ANY(erased);
    name_digest := encode(sha256(salt || convert_to(by_name, 'UTF8')), 'hex');
    content := '{{"actor":' || by || ',"at":"' || to_char(moment AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US')
        || '+00:00","data":{{"erased":[' || array_to_string(erased, ',')
        || ']}},"format":2,"grant":null,"kind":"text.erased","model":null,"request":null,"texts":{{"actor_name":"'
        || name_digest || '"}},"writer":""}}';
    INSERT INTO access_requests_event
        (format, at, kind, actor_id, writer, facts, digests, digest, old_previous_hash, old_hash)
    VALUES (2, moment, 'text.erased', by, '', jsonb_build_object('erased', to_jsonb(erased)),
        jsonb_build_object('actor_name', name_digest), encode(sha256(convert_to(content, 'UTF8')), 'hex'), '', '')
    RETURNING id INTO appended;
    INSERT INTO access_requests_eventtext (event_id, name, salt, text) VALUES (appended, 'actor_name', salt, by_name);
    RETURN cardinality(erased);
END $$;
REVOKE ALL ON FUNCTION gatehouse_erase_event_texts(bigint[], bigint) FROM PUBLIC;
"""
ONLY_ERASED = """
CREATE FUNCTION gatehouse_only_erased() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND NEW.salt IS NULL AND NEW.text IS NULL
       AND NEW.id = OLD.id AND NEW.event_id = OLD.event_id AND NEW.name = OLD.name THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION '% is append-only: % refused', TG_TABLE_NAME, TG_OP USING ERRCODE = 'restrict_violation';
END $$;
"""
# Texts are added with their event; with one added later, verification would report the event as changed.
WITH_ITS_EVENT = """
CREATE FUNCTION gatehouse_text_with_its_event() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, {schema}, pg_temp AS $$
BEGIN
    IF EXISTS (SELECT 1 FROM access_requests_eventlink WHERE event_id = NEW.event_id) THEN
        RAISE EXCEPTION '% is append-only: a text of an earlier event is refused', TG_TABLE_NAME
            USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END $$;
"""
TRIGGERS = """
CREATE TRIGGER access_requests_eventtext_new BEFORE INSERT ON access_requests_eventtext
    FOR EACH ROW EXECUTE FUNCTION gatehouse_text_with_its_event();
CREATE TRIGGER access_requests_event_format BEFORE INSERT ON access_requests_event
    FOR EACH ROW WHEN (NEW.format <> 2) EXECUTE FUNCTION gatehouse_append_only();
CREATE CONSTRAINT TRIGGER zz_link AFTER INSERT ON access_requests_event DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (NEW.format = 2) EXECUTE FUNCTION gatehouse_note_event();
CREATE CONSTRAINT TRIGGER zz_link AFTER INSERT ON access_requests_eventtolink DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION gatehouse_link_event();
CREATE TRIGGER access_requests_eventtext_rows BEFORE UPDATE OR DELETE ON access_requests_eventtext
    FOR EACH ROW EXECUTE FUNCTION gatehouse_only_erased();
CREATE TRIGGER access_requests_eventtext_all BEFORE TRUNCATE ON access_requests_eventtext
    FOR EACH STATEMENT EXECUTE FUNCTION gatehouse_append_only();
CREATE TRIGGER access_requests_eventlink_rows BEFORE UPDATE OR DELETE ON access_requests_eventlink
    FOR EACH ROW EXECUTE FUNCTION gatehouse_append_only();
CREATE TRIGGER access_requests_eventlink_all BEFORE TRUNCATE ON access_requests_eventlink
    FOR EACH STATEMENT EXECUTE FUNCTION gatehouse_append_only();
"""
BACK = """
DROP TRIGGER access_requests_eventtext_new ON access_requests_eventtext;
DROP FUNCTION gatehouse_text_with_its_event();
DROP TRIGGER access_requests_event_format ON access_requests_event;
DROP TRIGGER zz_link ON access_requests_event;
DROP TRIGGER access_requests_eventtext_rows ON access_requests_eventtext;
DROP TRIGGER access_requests_eventtext_all ON access_requests_eventtext;
DROP TRIGGER access_requests_eventlink_rows ON access_requests_eventlink;
DROP TRIGGER access_requests_eventlink_all ON access_requests_eventlink;
DROP FUNCTION gatehouse_only_erased();
DROP FUNCTION gatehouse_erase_event_texts(bigint[], bigint);
DROP TABLE access_requests_eventtolink;
DROP FUNCTION gatehouse_note_event();
DROP FUNCTION gatehouse_link_event();
"""


def make_functions(apps, schema_editor):
    """Create the functions. They run with their owner's rights, so they name the schema of their tables."""
    with schema_editor.connection.cursor() as cursor:
        cursor.execute("SELECT quote_ident(current_schema())")
        (schema,) = cursor.fetchone()
        for text in (NOTE, LINK, ERASE, WITH_ITS_EVENT):
            cursor.execute(text.format(schema=schema, lock=CHAIN_LOCK))
        cursor.execute(ONLY_ERASED)
        cursor.execute(TRIGGERS)


def drop_functions(apps, schema_editor):
    with schema_editor.connection.cursor() as cursor:
        cursor.execute(BACK)


def close_old_chain(apps, schema_editor):
    """Close the old chain: the first event of the new one contains the last hash of the old."""
    Event = apps.get_model("access_requests", "Event")
    last = Event.objects.filter(old_number__isnull=False).order_by("-old_number").first()
    if last is None:
        return
    event = Event(
        format=2,
        at=timezone.now(),
        kind="log.closed",
        writer="system",
        facts={"head": {"number": last.old_number, "hash": last.old_hash}},
        digests={},
    )
    content = {
        "format": 2,
        "at": event.at.astimezone(UTC).isoformat(timespec="microseconds"),
        "kind": event.kind,
        "actor": None,
        "writer": event.writer,
        "model": None,
        "request": None,
        "grant": None,
        "data": event.facts,
        "texts": {},
    }
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    event.digest = hashlib.sha256(text.encode()).hexdigest()
    event.save(force_insert=True)


class Migration(migrations.Migration):
    dependencies = [("access_requests", "0011_event_log_2")]
    operations = [
        migrations.RunPython(make_functions, drop_functions),
        migrations.RunPython(close_old_chain, migrations.RunPython.noop),
    ]
