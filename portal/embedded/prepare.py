"""Tasks for the supervisor that need Django: migrations, the owner's link, gaps in the log's protection.

Run as ``python -m portal.embedded.prepare migrate|owner|report`` by the supervisor, which does not import
Django itself.
"""

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

from portal.embedded.state import write_private
from portal.parts import OWNER_DATABASE

CHECKOUT = Path(__file__).resolve().parent.parent.parent
SCHEMA_FILES = (
    *("*/migrations/*.py", "*/*/migrations/*.py", "*/apps.py", "*/*/apps.py"),
    *("portal/database_rights.py", "portal/embedded/roles.py", "portal/management/commands/migrate.py"),
)


def schema_fingerprint() -> str:
    """Return one hash over our migrations and rights, and the versions of all packages they come from."""
    digest = hashlib.sha256()
    parts = [CHECKOUT / "requirements.lock", CHECKOUT / "portal" / "settings.py"]
    for pattern in SCHEMA_FILES:
        parts += sorted(CHECKOUT.glob(pattern))
    for part in parts:
        digest.update(f"{part.relative_to(CHECKOUT)}\0".encode() + hashlib.sha256(part.read_bytes()).digest())
    return digest.hexdigest()


def migrated(state: Path, dsn: str) -> bool:
    """Return whether the embedded database of `state` has all current migrations, without importing Django.

    A database that was restored or migrated by hand since then has a different list of migrations from the
    one recorded.
    """
    try:
        return (state / "pg" / "migrated").read_text() == f"{schema_fingerprint()} {_applied_migrations(dsn)}"
    except OSError:
        return False


def _applied_migrations(dsn: str) -> str:
    """Return how many migrations the database has and when the last one was applied.

    Return "none" without tables or rights to them.
    """
    import psycopg

    query = "SELECT count(*) || ' ' || max(applied) FROM django_migrations"
    try:
        with psycopg.connect(dsn) as connection:
            row = connection.execute(query).fetchone()
    except (psycopg.errors.UndefinedTable, psycopg.errors.InsufficientPrivilege):
        return "none"
    return str(row[0]) if row else "none"


def migrate(state: Path | None, dsn: str = "") -> None:
    """Apply every migration and the rights, and record in `state` that the embedded database has them.

    Raises CommandError if the server allows fewer connections than the portal may hold.
    """
    import django
    from django.core.management import CommandError, call_command

    django.setup()
    call_command("migrate", interactive=False, verbosity=0)
    from portal.database.checks import too_many_connections

    if sentence := too_many_connections():
        raise CommandError(sentence)
    if state is not None:
        write_private(state / "pg" / "migrated", f"{schema_fingerprint()} {_applied_migrations(dsn)}")


def owner_link() -> str:
    """Return a new one-time link if there is no superuser, or else ""."""
    import django

    django.setup()
    from portal.accounts.owner import owner_link

    return owner_link() or ""


def report() -> dict[str, Any]:
    """Return `owner_link`, the event log's gaps in protection (`unprotected`), and `outbox`.

    Each gap is a sentence; `outbox` is whether emails stay on the outbox page.
    """
    link = owner_link()  # sets up Django
    from django.conf import settings
    from django.utils.translation import gettext

    from access_requests.services.event_log.protection import ADVICE, unprotected

    found = unprotected()
    return {
        "owner_link": link,
        "unprotected": [*found, gettext(ADVICE)] if found else [],
        "outbox": settings.OUTBOX_PAGE,
    }


def main(action: str, state: str = "", dsn: str = "") -> int:
    """Run one action. An unreadable setting and a database that does not answer are one sentence each."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "portal.settings")
    from django.core.exceptions import ImproperlyConfigured
    from django.core.management import CommandError
    from django.db import OperationalError

    try:
        if action == "migrate":
            migrate(Path(state) if state else None, dsn)
        else:
            print(json.dumps(report()) if action == "report" else owner_link())
    except (ImproperlyConfigured, CommandError) as refusal:
        print(refusal, file=sys.stderr)
        return 1
    except OperationalError as error:
        owned = action == "migrate" and os.environ.get(OWNER_DATABASE)
        name = OWNER_DATABASE if owned else "DATABASE_URL"
        what = "The database" if dsn else f"The database that {name} names"
        why = str(error).strip().splitlines()[0]
        print(
            f"{what} does not accept the connection ({why}): is it running, and are the address and password right?",
            file=sys.stderr,
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
