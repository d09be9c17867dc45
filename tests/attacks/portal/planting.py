"""Plant a hidden model full of marked data in a live portal's database, and create people in every role.

Runs as its own process with the portal's environment (`hostile_site.SEEDER`): one JSON order a line, one
answer.
"""

from __future__ import annotations

import base64
import json
import sys
from datetime import timedelta
from typing import Any

from allauth.mfa.models import Authenticator
from allauth.usersessions.models import UserSession
from django.apps import apps
from django.conf import settings
from django.contrib import admin
from django.db import close_old_connections
from django.test import Client
from django.utils import timezone

from access_requests.enums import FarStatus, ReasonCode, Role
from access_requests.models import (
    AccessRequest,
    AccessToken,
    FollowedRepo,
    GatedModel,
    Grant,
    Machine,
    OutgoingMail,
    TokenExchange,
    TrustedRepository,
)
from access_requests.services.catalogue.roles import assign_role
from access_requests.services.following.importing import import_request
from access_requests.services.following.reading import FarItem
from access_requests.services.following.troubles import note_trouble
from access_requests.services.requests import submit
from access_requests.services.requests.decide import record_decision
from model_ops.models import Download, Recovery, UploadRule, WeightSource
from portal.accounts.models import User
from tests.model_ops.hub import seeder, seeding_tokens

OPEN, HIDDEN = "maker/open", "vault/hidden"
MARK = "zq9x"  # in every planted value, and in no request
STAFF = ("reviewer", "owner", "auditor", "root")
DECIDE = ("reviewer", "owner", "keeper", "root")
ROLES = ("stranger", "pending", "granted", "expired", "reviewer", "owner", "auditor", "keeper", "root")
CARD = f"---\nlicense: other\nextra_gated_fields:\n  Why: text\n---\n# Card {MARK}card\n\nWords.\n"


def plant() -> dict[str, Any]:
    """Create people, sessions, tokens, the marked values and the rows that hold them."""
    seeder.model(OPEN)
    seeder.commit(OPEN, {"config.json": "e30=", "model.safetensors": "AgAAAAAAAAB7fQ=="})
    tokens = {
        role: seeder.person(role, OPEN, role if role in seeder.STATES else "stranger")["token"]
        for role in ROLES
    }
    _plant_hidden()
    User.objects.filter(username="root").update(is_superuser=True)
    heal()
    for role in ROLES:
        tokens[f"{role}-person"] = seeding_tokens.token(role, kind="reviewer" if role in DECIDE else "user")[
            "token"
        ]
    return {"tokens": tokens, **ids(), **sessions()}


def _plant_hidden() -> None:
    texts = [("licence.txt", "en", f"Be good, {MARK}licence.\n")]
    seeder.model(HIDDEN, card=CARD, licences=texts, listed=False)
    note = base64.b64encode(f"{MARK}content".encode()).decode()
    seeder.commit(
        HIDDEN, {f"{MARK}file.json": note, "model.safetensors": "AgAAAAAAAAB7fQ=="}, message=f"{MARK}commit"
    )
    model = GatedModel.objects.get(repo_id=HIDDEN)
    keeper = User.objects.get(username="keeper")
    assign_role(model=model, user=keeper, role=Role.OWNER)
    reader = User.objects.create_user(
        f"{MARK}mail@example.org", f"{MARK}reader", first_name=f"{MARK}first", last_name=f"{MARK}last"
    )
    _plant_request(model, reader, keeper)
    seeder.stand(f"{MARK}waits", HIDDEN, "pending")
    _plant_sign_ins(model, reader)
    _plant_weights(model, reader)
    OutgoingMail.objects.create(
        key=f"{MARK}key", to=reader.email, subject=f"{MARK}subject", text=f"{MARK}text"
    )
    _plant_following(model)


def _plant_request(model: GatedModel, reader: User, keeper: User) -> None:
    draft = submit.start_request(model=model, applicant=reader)
    shown = list(model.licence_versions.values_list("pk", flat=True))
    submit.submit_request(
        request=draft, applicant=reader, licences_shown=shown, address="203.0.113.77",
        answers={field["key"]: f"{MARK}answer" for field in draft.form.schema["fields"]},
    )  # fmt: skip
    record_decision(
        request=AccessRequest.objects.get(pk=draft.pk), reviewer=keeper, outcome="approved",
        reason_code=ReasonCode.USE_UNCLEAR, words=f"{MARK}words",
    )  # fmt: skip
    seeding_tokens.token(reader.username, called=f"{MARK}token", repo_id=HIDDEN)
    seeding_tokens.token(reader.username, called=f"{MARK}personal")


def _plant_sign_ins(model: GatedModel, reader: User) -> None:
    now = timezone.now()
    Machine.objects.create(user=reader, name=f"{MARK}machine", client="hf", ends_at=now + timedelta(days=9))
    trusted = TrustedRepository.objects.create(
        user=reader, issuer="https://issuer.example.org", repository=f"{MARK}/ci", ref="refs/heads/main", model=model
    )  # fmt: skip
    token = AccessToken.objects.filter(user=reader).order_by("pk")[0]
    TokenExchange.objects.create(
        trusted=trusted, token=token, identity="0" * 64, claims={"sub": f"{MARK}claim"}
    )
    UserSession.objects.create(
        user=reader, ip="203.0.113.77", user_agent=f"{MARK}agent", session_key="0" * 32
    )
    Authenticator.objects.create(user=reader, type=Authenticator.Type.TOTP, data={"secret": f"{MARK}secret"})


def _plant_weights(model: GatedModel, reader: User) -> None:
    number = seeder.recovery(HIDDEN)["recovery"]
    for source in WeightSource.objects.filter(spec__contains=HIDDEN):
        WeightSource.objects.filter(pk=source.pk).update(spec=f"/nowhere/{MARK}source{source.pk}")
    Recovery.objects.filter(pk=number).update(plan={"text": f"{MARK}plan"}, error=f"{MARK}error")
    UploadRule.objects.get_or_create(model=model)
    grant = Grant.objects.get(user=reader, model=model)
    Download.objects.create(
        model=model, grant=grant, user=reader, commit="0" * 40, path=f"{MARK}path", bytes_asked=7, status=200,
        started_at=timezone.now(), client=f"{MARK}client",
    )  # fmt: skip


def _plant_following(model: GatedModel) -> None:
    followed = FollowedRepo.objects.create(
        model=model, endpoint="http://127.0.0.1:9", far_id=f"{MARK}/far", problem=f"{MARK}problem"
    )
    note_trouble(followed, f"{MARK}trouble")
    item = FarItem(
        status=FarStatus.PENDING, name=f"{MARK}clem", full_name=f"{MARK}Clem", email=f"{MARK}far@example.org",
        fields={"Why": f"{MARK}why", "Other": f"{MARK}other"}, asked_at=timezone.now(),
    )  # fmt: skip
    import_request(followed=followed, item=item)


def ids() -> dict[str, Any]:
    """Return up to 40 primary keys for each model of the admin, and the field names of every model."""
    found: dict[str, list[str]] = {}
    for model in admin.site._registry:
        rows = model._default_manager.order_by("pk").values_list("pk", flat=True)
        found[model._meta.label_lower] = [str(pk) for pk in rows[:40]]
    fields = {
        model._meta.label_lower: [field.name for field in model._meta.get_fields()]
        for model in apps.get_models()
    }
    return {"ids": found, "fields": fields}


def heal() -> dict[str, Any]:
    """Undo what earlier requests may have changed about people: staff, active, role and second factor."""
    for role in ROLES:
        User.objects.filter(username=role).update(is_active=True, is_superuser=role == "root")
        user = User.objects.get(username=role)
        if user.is_staff:
            Authenticator.objects.get_or_create(
                user=user, type=Authenticator.Type.TOTP, defaults={"data": {}}
            )
    for role in ("reviewer", "owner", "auditor"):
        assign_role(
            model=GatedModel.objects.get(repo_id=OPEN), user=User.objects.get(username=role), role=role
        )
    return {}


def sessions() -> dict[str, Any]:
    """Restore the people, and return a new session for each role."""
    heal()
    made = {}
    for role in ROLES:
        client = Client()
        client.force_login(User.objects.get(username=role))
        made[role] = client.cookies[settings.SESSION_COOKIE_NAME].value
    return {"sessions": made}


ORDERS = {order.__name__: order for order in (plant, sessions)}


def main() -> None:
    for line in sys.stdin:
        order = json.loads(line)
        close_old_connections()
        print(json.dumps(ORDERS[order.pop("op")](**order)), flush=True)  # noqa: T201 - the answer
