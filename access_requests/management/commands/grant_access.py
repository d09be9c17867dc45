"""`manage.py grant_access REPO_ID --email ADDRESS --days N [--token NAME]`"""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import CommandParser
from django.core.validators import validate_email

from access_requests.errors import Invalid
from access_requests.management.operator import Answer, OperatorCommand, known_model, moment
from access_requests.services.grants import grant_access


class Command(OperatorCommand):
    help = "Grants access without a request; the operator vouches for the person."

    def options(self, parser: CommandParser) -> None:
        parser.add_argument("repo_id", metavar="REPO_ID")
        parser.add_argument("--email", required=True, metavar="ADDRESS")
        parser.add_argument("--days", required=True, type=int, metavar="N")
        parser.add_argument("--token", metavar="NAME", help="make a token of that name too; it is shown once")

    def answer(self, *, repo_id: str, email: str, days: int, token: str | None, **options: Any) -> Answer:
        email = check_address(email)
        granted = grant_access(model=known_model(repo_id), email=email, days=days, token_name=token)
        model, grant = granted.grant.model, granted.grant
        data = {
            "model": model.repo_id,
            "email": granted.user.email,
            "grant": grant.pk,
            "until": moment(grant.ends_at),
            "token": granted.secret,
        }
        lines = [f"{granted.user.email} may read {model} until {grant.ends_at:%Y-%m-%d} (grant {grant.pk})."]
        if granted.new_account:
            lines.append(
                "There was no account with that address. One was created, and an invitation is on its way."
            )
        if granted.secret:
            lines.append(f"Token, shown only once: {granted.secret}")
        return Answer(data, "\n".join(lines))


def check_address(email: str) -> str:
    """Return the address without surrounding spaces. Raises `Invalid` if it is not one."""
    try:
        validate_email(email.strip())
    except ValidationError as error:
        raise Invalid(f"{email!r} is not an email address: write it like name@example.org.") from error
    return email.strip()
