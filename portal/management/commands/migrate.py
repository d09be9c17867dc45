"""Run Django's migrate as the owner of the database, then grant the portal's role its rights."""

from __future__ import annotations

from typing import Any

from django.core.management.commands import migrate
from django.db import connections
from django.utils.translation import gettext

from access_requests.services.event_log.protection import ADVICE, unprotected
from portal.database_rights import as_owner, grant_rights, make_role


class Command(migrate.Command):
    """Django's migrate under `GATEHOUSE_OWNER_DATABASE_URL`.

    If unset, the portal's own role owns the tables.
    """

    help = f"{migrate.Command.help} Then give the portal's role its rights."

    def handle(self, *arguments: Any, **options: Any) -> None:
        connection = connections[options["database"]]
        changes = not (options["plan"] or options["check_unapplied"])
        with as_owner(connection) as role:
            if role and changes:
                make_role(connection, role)
            super().handle(*arguments, **options)
            if role and changes:
                grant_rights(connection, role)
        if not role and changes and options["verbosity"]:
            for sentence in [*unprotected(), gettext(ADVICE)]:
                self.stderr.write(sentence)
