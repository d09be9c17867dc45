"""The hub's seeder with additional orders for uploads."""

from __future__ import annotations

from typing import Any

from access_requests.enums import Role, TokenKind
from access_requests.models import Event, GatedModel
from access_requests.services import tokens
from access_requests.services.catalogue import roles
from model_ops.models import Revision, UploadRule
from model_ops.services.uploads.addresses import Address, sign
from model_ops.services.uploads.creating import create_repository
from model_ops.services.uploads.holding import publish_upload
from portal.accounts.models import User
from tests.model_ops.hub import seeder


def token(name: str, kind: str = TokenKind.REVIEWER) -> dict[str, Any]:
    """Issue a token of that kind for a person, who is created if necessary."""
    user = User.objects.filter(username=name).first() or User.objects.create_user(f"{name}@example.org", name)
    return {"token": tokens.issue_person_token(user=user, kind=kind, name=f"to upload as {kind}").secret}


def empty(repo_id: str, owner: str, at_once: bool = False) -> dict[str, Any]:
    """Create an empty repository and an upload token for a person; with `at_once`, uploads are published."""
    if not User.objects.filter(username=owner).exists():
        User.objects.create_user(f"{owner}@example.org", owner)
    root = User.objects.filter(is_superuser=True, username="root").first()
    root = root or User.objects.create_superuser("root@example.org", "root")
    model = create_repository(repo_id=repo_id, user=root)
    roles.assign_role(model=model, user=User.objects.get(username=owner), role=Role.OWNER)
    UploadRule.objects.create(model=model, publish_uploads=at_once)
    return token(owner) | {"pk": model.pk}


def rule(repo_id: str, at_once: bool) -> dict[str, Any]:
    model = GatedModel.objects.get(repo_id=repo_id)
    UploadRule.objects.update_or_create(model=model, defaults={"publish_uploads": at_once})
    return {"pk": model.pk}


def publish(commit: str, licences: list[str] | None = None) -> dict[str, Any]:
    """Publish a revision, as an operator does."""
    revision = publish_upload(revision=Revision.objects.get(commit=commit), licences=licences or ())
    return {"commit": revision.commit}


def role(repo_id: str, name: str, given: str) -> dict[str, Any]:
    model, user = GatedModel.objects.get(repo_id=repo_id), User.objects.get(username=name)
    roles.assign_role(model=model, user=user, role=given)
    return {}


def address(repo_id: str, secret: str, sha256: str, size: int, age: int = 0) -> dict[str, Any]:
    """Return a signed address that was created `age` seconds ago."""
    import time

    made = Address(tokens.authenticate(secret).pk, GatedModel.objects.get(repo_id=repo_id).pk, sha256, size)
    return {"signed": sign(made, now=time.time() - age)}


def facts(repo_id: str) -> dict[str, Any]:
    """Return the model's settings, its revisions with parents, and the kinds of its events, oldest first."""
    model = GatedModel.objects.get(repo_id=repo_id)
    revisions = Revision.objects.filter(model=model).order_by("pk").select_related("parent")
    return {
        "gate": model.gate,
        "listed": model.listed,
        "card": model.card,
        "questions": [field["label"] for field in model.form.schema["fields"]] if model.form else [],
        "revisions": [
            [one.commit, one.parent.commit if one.parent else None, bool(one.held_at)] for one in revisions
        ],
        "events": list(Event.objects.filter(model=model).order_by("pk").values_list("kind", flat=True)),
    }


def main() -> None:
    seeder.ORDERS.update(
        {order.__name__: order for order in (token, empty, rule, publish, role, address, facts)}
    )
    seeder.main()
