"""`manage.py name_namespace NAME "FULL NAME"`"""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from access_requests.management.operator import Answer, OperatorCommand
from access_requests.services.catalogue.names import name_namespace


class Command(OperatorCommand):
    help = "Sets the full name that clients show for a namespace, as that of an organization."

    def options(self, parser: CommandParser) -> None:
        parser.add_argument("name", metavar="NAME")
        parser.add_argument("full_name", metavar="FULL_NAME")

    def answer(self, *, name: str, full_name: str, **options: Any) -> Answer:
        named = name_namespace(name=name, full_name=full_name)
        data = {"namespace": named.name, "full_name": named.full_name}
        return Answer(data, f"{named.name} is shown as {named.full_name}.")
