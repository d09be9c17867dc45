"""Act for the remote portal's people through its own services: request access, decide, withdraw.

Runs as a process on that portal's database: one JSON order per line, one answer each.
"""

from __future__ import annotations

import json
import sys
from functools import cache
from typing import Any

from django.db import close_old_connections

from access_requests.access.access import open_request
from access_requests.access.review_lists import review_entry
from access_requests.enums import Place, TokenKind
from access_requests.models import Decision, GatedModel
from access_requests.services import tokens
from access_requests.services.catalogue.gated_models import add_model
from access_requests.services.catalogue.roles import assign_role
from access_requests.services.requests import move_between_lists, submit
from portal.accounts.models import User


def model(repo_id: str, card: str) -> dict[str, Any]:
    add_model(repo_id=repo_id, card=card)
    return {}


def reviewer(name: str, repo_id: str) -> dict[str, Any]:
    """Make a person an owner there and return their token."""
    assign_role(model=_model(repo_id), user=_user(name), role="owner")
    return {"token": _token(name, TokenKind.REVIEWER)}


def reader(name: str) -> dict[str, Any]:
    """Return a token that may not decide."""
    return {"token": _token(name, TokenKind.USER)}


def ask(
    name: str, repo_id: str, answers: dict[str, Any], first_name: str = "", last_name: str = ""
) -> dict[str, Any]:
    user = _user(name)
    User.objects.filter(pk=user.pk).update(first_name=first_name, last_name=last_name)
    user.refresh_from_db()
    draft = submit.start_request(model=_model(repo_id), applicant=user)
    submitted = submit.submit_request(request=draft, applicant=user, answers=answers)
    return {"request": submitted.pk}


def put(name: str, repo_id: str, to: str, by: str, words: str = "") -> dict[str, Any]:
    """Move a person to another list there."""
    move_between_lists.change_place(
        model=_model(repo_id), person=_user(name), to=Place(to), reviewer=_user(by), words=words
    )
    return {}


def withdraw(name: str, repo_id: str) -> dict[str, Any]:
    user = _user(name)
    request = open_request(user, _model(repo_id))
    assert request
    submit.withdraw_request(request=request, applicant=user)
    return {}


def rename(name: str, to: str) -> dict[str, Any]:
    User.objects.filter(username=name).update(username=to)
    return {}


def place(name: str, repo_id: str) -> dict[str, Any]:
    return {"place": review_entry(_user(name), _model(repo_id)).place}


def decisions(name: str, repo_id: str) -> list[list[str]]:
    """Return every decision ever made there about the person, as outcome and message."""
    rows = Decision.objects.filter(request__applicant=_user(name), request__model=_model(repo_id)).order_by(
        "pk"
    )
    return [[row.outcome, row.words] for row in rows]


@cache
def _token(name: str, kind: TokenKind) -> str:
    return tokens.issue_person_token(user=_user(name), kind=kind, name="sync").secret


def _user(name: str) -> User:
    found = User.objects.filter(username=name).first()
    return found or User.objects.create_user(f"{name}@far.example.org", name)


def _model(repo_id: str) -> GatedModel:
    return GatedModel.objects.get(repo_id=repo_id)


ORDERS = {
    order.__name__: order for order in (model, reviewer, reader, ask, put, withdraw, rename, place, decisions)
}


def main() -> None:
    for line in sys.stdin:
        order = json.loads(line)
        close_old_connections()  # a test may have restarted the server since the last order
        print(json.dumps(ORDERS[order.pop("op")](**order)), flush=True)  # noqa: T201 - the answer
