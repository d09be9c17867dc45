"""`manage.py remove_reviewer REPO_ID --email ADDRESS [--role ROLE]`"""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.base import CommandParser
from django.utils.module_loading import import_string

from access_requests.enums import Role
from access_requests.errors import NotFound
from access_requests.management.operator import Answer, OperatorCommand, known_model
from access_requests.services.catalogue.roles import remove_person


class Command(OperatorCommand):
    help = "Takes a person's role for a model away at once, and emails them."

    def options(self, parser: CommandParser) -> None:
        parser.add_argument("repo_id", metavar="REPO_ID")
        parser.add_argument("--email", required=True, metavar="ADDRESS")
        parser.add_argument("--role", choices=Role.values, default="", help="only if this is their role")

    def answer(self, *, repo_id: str, email: str, role: str, **options: Any) -> Answer:
        model = known_model(repo_id)
        person = import_string(settings.GATEHOUSE_FIND_PERSON)(email)
        if person is None:
            raise NotFound(f"There is no account for {email}: check the address.")
        ended = remove_person(model=model, user=person, role=role)
        data = {"model": model.repo_id, "email": person.email, "role": ended, "removed": True}
        return Answer(data, f"{person.email} is no longer {ended} of {model} and has been informed.")
