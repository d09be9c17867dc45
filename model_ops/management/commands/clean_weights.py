"""`manage.py clean_weights [--dry-run]`"""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from access_requests.management.operator import Answer, OperatorCommand
from model_ops.recovery.planning.plan import human
from model_ops.services.clean import clean_weights


class Command(OperatorCommand):
    help = "Removes contents that no revision and no recovery uses, and fetched sources that can be fetched again."

    def options(self, parser: CommandParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="only show what would be removed")

    def answer(self, *, dry_run: bool, **_: Any) -> Answer:
        found = clean_weights(dry_run=dry_run)
        total = sum(unused.size for unused in found)
        lines = [f"{unused.size:>16,}  {unused.path}" for unused in found]
        said = "would be" if dry_run else "were"
        lines.append(f"{len(found)} files and folders of {human(total)} {said} removed.")
        data = {"removed": [str(unused.path) for unused in found], "bytes": total, "dry_run": dry_run}
        return Answer(data, "\n".join(lines))
