"""`manage.py add_reviewer REPO_ID --email ADDRESS [--role ROLE]`"""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from access_requests.enums import Role
from access_requests.management.operator import Answer, OperatorCommand, known_model
from access_requests.services.catalogue.roles import add_person


class Command(OperatorCommand):
    help = "Makes a person reviewer, owner or auditor of a model, and emails them."

    def options(self, parser: CommandParser) -> None:
        parser.add_argument("repo_id", metavar="REPO_ID")
        parser.add_argument("--email", required=True, metavar="ADDRESS", help="invited if it has no account")
        parser.add_argument("--role", choices=Role.values, default=Role.REVIEWER.value)

    def answer(self, *, repo_id: str, email: str, role: str, **options: Any) -> Answer:
        model = known_model(repo_id)
        added = add_person(model=model, email=email, role=role)
        data = {
            "model": model.repo_id,
            "email": added.person.email,
            "role": added.role,
            "changed": added.changed,
            "invited": added.invited,
        }
        if added.invited:
            how = " and gets an email with a link to set a password"
        else:
            how = " and has been informed" if added.changed else " already"
        return Answer(data, f"{added.person.email} is {added.role} of {model}{how}.")
