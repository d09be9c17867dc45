"""The hub's seeder, plus what only these tests need: a person's tokens, browser and trusted repositories."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.utils import timezone

from access_requests.access.review_lists import Place
from access_requests.enums import TokenKind
from access_requests.models import AccessToken, GatedModel, Machine
from access_requests.services import tokens
from access_requests.services.catalogue import edit
from access_requests.services.catalogue.gated_models import LicenceText
from access_requests.services.oauth import codes, trusted
from access_requests.services.requests import move_between_lists
from portal.accounts.models import User
from tests.model_ops.hub import seeder
from tests.model_ops.hub.uploads import seeder as uploads_seeder


def approve(name: str, user_code: str, machine: str) -> dict[str, Any]:
    """Approve a device code, as the person's click does."""
    user = User.objects.get(username=name)
    code = codes.find_waiting(typed=user_code, user=user, address=None)
    return {"machine": codes.approve(code=code, user=user, name=machine).pk, "client": code.client}


def deny(name: str, user_code: str) -> dict[str, Any]:
    user = User.objects.get(username=name)
    codes.deny(code=codes.find_waiting(typed=user_code, user=user, address=None), user=user)
    return {}


def machines(name: str) -> list[dict[str, Any]]:
    """Return the person's machines, each with its number of tokens."""
    return [
        {"name": machine.name, "live": machine.is_live(), "tokens": machine.refresh_tokens.count()}
        for machine in Machine.objects.filter(user__username=name).order_by("pk")
    ]


def trust(name: str, **fields: str) -> dict[str, Any]:
    made = trusted.trust_repository(user=User.objects.get(username=name), **fields)
    return {"trusted": made.pk}


def expire(secret: str) -> dict[str, Any]:
    """Let the token have expired an hour ago."""
    found = AccessToken.objects.filter(digest=tokens.digest(secret))
    return {"tokens": found.update(expires_at=timezone.now() - timedelta(hours=1))}


def person_token(name: str, kind: str) -> dict[str, Any]:
    made = tokens.issue_person_token(
        user=User.objects.get(username=name),
        kind=TokenKind(kind),
        name=f"{kind} {AccessToken.objects.count()}",
    )
    return {"token": made.secret}


def demand_licence(repo_id: str) -> dict[str, Any]:
    """Add a new text that holders must accept before they can download again."""
    text = LicenceText("tiny_license.txt", "en", "Be kinder.\n")
    model = GatedModel.objects.get(repo_id=repo_id)
    return {"asked": edit.add_licence(model=model, licence=text, must_accept=True).asked}


def reset(name: str, repo_id: str) -> dict[str, Any]:
    reviewer = User.objects.get(username="decider")
    model = GatedModel.objects.get(repo_id=repo_id)
    person = User.objects.get(username=name)
    move_between_lists.change_place(model=model, person=person, to=Place.RESET, reviewer=reviewer)
    return {}


def main() -> None:
    seeder.ORDERS["empty"] = uploads_seeder.empty
    seeder.ORDERS |= {
        order.__name__: order
        for order in (approve, deny, machines, trust, expire, person_token, demand_licence, reset)
    }
    seeder.main()
