"""A process with our services on a live portal's database that creates what upstream's setup code asks for.

Started once with the portal's environment; one line of JSON per order and per answer. The tests of both
versions use it in turn.
"""

from __future__ import annotations

import base64
import json
import secrets
import sys
import traceback
from typing import Any

from django.db import close_old_connections

from access_requests.access.catalogue import find_model, find_renamed
from access_requests.enums import Gate, Role, TokenKind, TokenOrigin
from access_requests.models import GatedModel
from access_requests.services import tokens
from access_requests.services.catalogue import gated_models, names
from access_requests.services.catalogue.edit import change_some_settings
from model_ops.models import UploadRule
from model_ops.services.store.git_objects import gitattributes
from portal.accounts.models import User
from tests.model_ops.hub import seeder

CARD = ""  # a new repository has none


def user(name: str, full_name: str, org: str = "", org_name: str = "") -> dict[str, Any]:
    """Add a person with a token and, through a hidden model, a role, in the organization if there is one."""
    first, _, last = full_name.partition(" ")
    person = User.objects.filter(username=name).first() or User.objects.create_user(
        f"{name.strip('_').lower()}@example.org", name, first_name=first, last_name=last
    )
    hidden = f"{org or name}/hidden"
    if not find_model(hidden):
        gated_models.add_model(repo_id=hidden, card=CARD, listed=False, owner=person)
    if org:
        names.name_namespace(name=org, full_name=org_name)
    issued = tokens.issue_person_token(
        user=person, kind=TokenKind.REVIEWER, name="conformance", origin=TokenOrigin.OPERATOR
    )
    return {"token": issued.secret}


def create_repo(repo_id: str, private: bool, author: str) -> dict[str, Any]:
    """Add an open model as a new repository of the Hub: one commit that holds `.gitattributes`."""
    namespace = repo_id.partition("/")[0]
    owner = User.objects.filter(username=namespace).first() or User.objects.get(username=author)
    model = gated_models.add_model(
        repo_id=repo_id, card=CARD, gate=Gate.NONE, listed=not private, owner=owner
    )
    UploadRule.objects.create(model=model, publish_uploads=True)
    attributes = base64.b64encode(gitattributes([])).decode()
    return seeder.commit(repo_id, {".gitattributes": attributes}, message="initial commit", author=author)


def delete_repo(repo_id: str) -> dict[str, Any]:
    """Hide the model and free its name.

    A portal deletes no model, since its requests and its log are kept.
    """
    if model := find_model(repo_id):
        names.rename_model(model=model, to=f"trash/{secrets.token_hex(8)}", keep_old=False)
        change_some_settings(model=model, gate=Gate.MANUAL, listed=False)
        model.roles.filter(role=Role.OWNER).delete()
        for former in model.former_ids.all():
            names.let_go_of_name(repo_id=former.repo_id)
    elif find_renamed(repo_id):
        names.let_go_of_name(repo_id=repo_id)
    return {}


def move(repo_id: str, to: str) -> dict[str, Any]:
    names.rename_model(model=GatedModel.objects.get(repo_id=repo_id), to=to)
    return {}


ORDERS = {
    "user": user,
    "create_repo": create_repo,
    "commit": seeder.commit,
    "branch": seeder.branch,
    "delete_repo": delete_repo,
    "move": move,
}


def main() -> None:
    for line in sys.stdin:
        order = json.loads(line)
        close_old_connections()  # a test may have restarted the server since the last order
        try:
            answer = ORDERS[order.pop("op")](**order)
        except Exception:
            answer = {"error": traceback.format_exc()}
        print(json.dumps(answer), flush=True)  # noqa: T201 - the answer
