"""Django's migrate as the owner of the database, and the rights of the portal's role after it."""

from __future__ import annotations

from typing import Any

from django.core.management.commands import migrate
from django.db import connections
from django.utils.translation import gettext

from access_requests.services.event_log.protection import ADVICE, unprotected
from portal.database_rights import as_owner, grant_rights, make_role


class Command(migrate.Command):
    """With `GATEHOUSE_OWNER_DATABASE_URL` as that role; without it as the only one, which then owns the tables."""

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
