"""`manage.py revoke_access REPO_ID --email ADDRESS [--reason TEXT]`"""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.base import CommandParser
from django.utils.module_loading import import_string

from access_requests.errors import NotFound
from access_requests.management.operator import Answer, OperatorCommand, known_model
from access_requests.services.grants import revoke_access


class Command(OperatorCommand):
    help = "Ends a person's access at once, together with all its tokens."

    def options(self, parser: CommandParser) -> None:
        parser.add_argument("repo_id", metavar="REPO_ID")
        parser.add_argument("--email", required=True, metavar="ADDRESS")
        parser.add_argument("--reason", default="", metavar="TEXT", help="the person sees it")

    def answer(self, *, repo_id: str, email: str, reason: str, **options: Any) -> Answer:
        model = known_model(repo_id)
        person = import_string(settings.GATEHOUSE_FIND_PERSON)(email)
        if person is None:
            raise NotFound(f"There is no account for {email}: check the address.")
        try:
            revoke_access(model=model, user=person, reason=reason)
        except NotFound:
            raise NotFound(
                f"{person.email} does not have access to {model}, so there is nothing to revoke."
            ) from None
        data = {"model": model.repo_id, "email": person.email, "revoked": True}
        return Answer(data, f"{person.email} may not read {model} any more and has been informed.")
