"""A process with the portal's services on a live portal's database: one JSON order a line, one answer.

Started by `conftest.SEEDER` with the portal's environment. The hub's tests use it because they talk HTTP to a
gunicorn, which does not see their transactions.
"""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.db import close_old_connections
from django.utils import timezone

from access_requests.enums import Gate, Outcome, ReasonCode, Role, TokenKind
from access_requests.models import AccessToken, Event, GatedModel, Grant, ModelRole
from access_requests.services import grants, tokens
from access_requests.services.catalogue import edit, gated_models, names, roles
from access_requests.services.requests import submit
from access_requests.services.requests.decide import record_decision
from model_ops import tasks
from model_ops.enums import DownloadState, Method, RecoveryState, SourceKind
from model_ops.models import Blob, Download, ModelWeights, Recovery, Ref, RepoFile, Revision, WeightSource
from model_ops.services.revisions.publish import publish_revision
from model_ops.services.store.blobs import blob_path, store_bytes
from model_ops.services.store.git_objects import commit_id, is_lfs
from portal.accounts.models import User
from tests.model_ops.hub.seeding_tokens import TOKEN_ORDERS

ELSEWHERE = "elsewhere/open-door"  # a model that everyone has a grant for, so that strangers have a token
ANSWERS = {"f1": "To test."}
CARD = "---\nlicense: other\ntags: [tiny]\nlibrary_name: transformers\npipeline_tag: text-generation\nextra_gated_fields:\n  Why: text\n---\n# Tiny\n"


def model(repo_id: str, **options: Any) -> dict[str, Any]:
    """Add a model with its card and licence published, and no weights."""
    texts = [
        gated_models.LicenceText(*text)
        for text in options.pop("licences", [("tiny_license.txt", "en", "Be kind.\n")])
    ]
    made = gated_models.add_model(repo_id=repo_id, card=options.pop("card", CARD), licences=texts, **options)
    return {"commit": publish_revision(model=made).commit}


def commit(
    repo_id: str,
    add: dict[str, str],
    delete: list[str] | None = None,
    revision: str = "main",
    message: str = "Add files",
    author: str = "Gatehouse",
    weights: bool = True,
) -> dict[str, Any]:
    """Publish a revision: the branch's files without `delete`, and with `add` (path: base64)."""
    owner = GatedModel.objects.get(repo_id=repo_id)
    ref = Ref.objects.filter(model=owner, name=revision).select_related("revision").first()
    files = {
        file.path: (file.blob.sha256, file.blob.git_oid, file.blob.size, file.is_lfs)
        for file in (ref.revision.files.select_related("blob") if ref else [])
        if file.path not in (delete or [])
    }
    stored = [store_bytes(path=path, content=base64.b64decode(content)) for path, content in add.items()]
    files |= {file.path: (file.sha256, file.git_oid, file.size, is_lfs(file)) for file in stored}
    Blob.objects.bulk_create(
        [Blob(sha256=s, git_oid=g, size=n) for s, g, n, _ in files.values()], ignore_conflicts=True
    )
    parent = ref.revision.commit if ref else None
    made = Revision.objects.create(
        model=owner,
        commit=commit_id(files=stored, parent=parent, author=author, at=timezone.now(), message=message),
        parent=ref.revision if ref else None,
        has_weights=weights,
        title=message,
        author=author,
        branch="" if revision == "main" else revision,
    )
    RepoFile.objects.bulk_create(
        [RepoFile(revision=made, path=path, blob_id=f[0], is_lfs=f[3]) for path, f in files.items()]
    )
    Ref.objects.update_or_create(model=owner, name=revision, defaults={"revision": made})
    return {"commit": made.commit}


def folder(repo_id: str, path: str) -> dict[str, Any]:
    """Publish a folder's files as a revision."""
    root = Path(path)
    found = [file for file in root.rglob("*") if file.is_file()]
    content = {str(file.relative_to(root)): base64.b64encode(file.read_bytes()).decode() for file in found}
    return commit(repo_id, content)


def branch(repo_id: str, name: str, source: str = "main", tag: bool = False) -> dict[str, Any]:
    owner = GatedModel.objects.get(repo_id=repo_id)
    revision = Revision.objects.filter(model=owner, commit=source).first()
    revision = revision or Ref.objects.get(model=owner, name=source).revision
    if not tag:  # as if it had been published there: only owners see an empty branch
        Revision.objects.filter(pk=revision.pk).update(branch=name)
    Ref.objects.update_or_create(model=owner, name=name, defaults={"revision": revision, "is_tag": tag})
    return {"commit": revision.commit}


def recovery(
    repo_id: str, state: str = RecoveryState.PLANNED, done: int = 0, total: int = 100
) -> dict[str, Any]:
    """Add a recovery that no worker will run."""
    sources = [
        WeightSource.objects.get_or_create(
            spec=f"/nowhere/{repo_id}/{part}", defaults={"kind": SourceKind.FOLDER}
        )[0]
        for part in ("base", "diff")
    ]
    made, _ = Recovery.objects.update_or_create(
        method=Method.RECOVER,
        base=sources[0],
        diff=sources[1],
        defaults={
            "state": state,
            "bytes_done": done,
            "bytes_total": total,
            "lease_owner": "nobody" if state == RecoveryState.RUNNING else "",
            "lease_until": timezone.now() + timedelta(hours=1) if state == RecoveryState.RUNNING else None,
        },
    )
    ModelWeights.objects.get_or_create(model=GatedModel.objects.get(repo_id=repo_id), recovery=made)
    return {"recovery": made.pk}


def person(name: str, repo_id: str, state: str) -> dict[str, Any]:
    """Bring a person into a state towards the model and return a token.

    The token is for the model if there ever was a grant, otherwise for another model.
    """
    user = User.objects.filter(username=name).first() or User.objects.create_user(f"{name}@example.org", name)
    towards = GatedModel.objects.get(repo_id=repo_id)
    secret = STATES[state](user, towards)
    return {"token": secret or elsewhere(user, towards), "email": user.email}


def person_token(user: User, kind: TokenKind) -> str:
    return tokens.issue_person_token(user=user, kind=kind, name="by hand").secret


def elsewhere(user: User, towards: GatedModel) -> str:
    other = GatedModel.objects.filter(repo_id=ELSEWHERE).first()
    other = other or gated_models.add_model(repo_id=ELSEWHERE, card=CARD)
    grant = Grant.objects.filter(user=user, model=other).first()
    if grant is None:
        return _granted(user, other)
    return tokens.issue_token(grant=grant, user=user, name="another").secret


def _granted(user: User, towards: GatedModel) -> str:
    made = grants.grant_access(model=towards, email=user.email, days=90, token_name="laptop")
    assert made.secret
    return made.secret


def _expired(user: User, towards: GatedModel) -> str:
    secret, now = _granted(user, towards), timezone.now()
    past = {"starts_at": now - timedelta(days=90), "ends_at": now - timedelta(days=1)}
    Grant.objects.filter(user=user, model=towards).update(**past)
    return secret


def _ends_soon(user: User, towards: GatedModel) -> str:
    secret = _granted(user, towards)
    Grant.objects.filter(user=user, model=towards).update(ends_at=timezone.now() + timedelta(days=2))
    return secret


def _revoked(user: User, towards: GatedModel) -> str:
    secret = _granted(user, towards)
    grants.revoke_access(model=towards, user=user, reason="The project ended.")
    return secret


def _draft(user: User, towards: GatedModel) -> None:
    submit.start_request(model=towards, applicant=user)


def _pending(user: User, towards: GatedModel) -> None:
    draft = submit.start_request(model=towards, applicant=user)
    answers = {field["key"]: "To test." for field in draft.form.schema["fields"]}
    licences = list(towards.licence_versions.filter(retired_at=None).values_list("pk", flat=True))
    submit.submit_request(request=draft, applicant=user, answers=answers, licences_shown=licences)


def _decided(outcome: str) -> Callable[[User, GatedModel], None]:
    def decide(user: User, towards: GatedModel) -> None:
        _pending(user, towards)
        judge = User.objects.filter(username="judge").first() or User.objects.create_user(
            "judge@example.org", "judge"
        )
        roles.assign_role(model=towards, user=judge, role=Role.REVIEWER)
        record_decision(
            request=submit.open_request(user, towards),
            reviewer=judge,
            outcome=outcome,
            reason_code=ReasonCode.USE_UNCLEAR,
            words="Say more.",
        )

    return decide


def _withdrawn(user: User, towards: GatedModel) -> None:
    _draft(user, towards)
    submit.withdraw_request(request=submit.open_request(user, towards), applicant=user)


def _reviewer(user: User, towards: GatedModel) -> str:
    roles.assign_role(model=towards, user=user, role=Role.REVIEWER)
    return _granted(user, towards)


def _decides(role: Role) -> Callable[[User, GatedModel], str]:
    def assign(user: User, towards: GatedModel) -> str:
        """Assign the role and return a token for it."""
        roles.assign_role(model=towards, user=user, role=role)
        return person_token(user, TokenKind.REVIEWER)

    return assign


def _auditor(user: User, towards: GatedModel) -> str:
    """Make the person a reviewer with a token, and then an auditor: the token must follow the role."""
    secret = _decides(Role.REVIEWER)(user, towards)
    roles.assign_role(model=towards, user=user, role=Role.AUDITOR)
    return secret


def _user_token(user: User, towards: GatedModel) -> str:
    """Grant access and return a token of the person rather than of the grant."""
    _granted(user, towards)
    return person_token(user, TokenKind.USER)


def _superuser(user: User, towards: GatedModel) -> str:
    User.objects.filter(pk=user.pk).update(is_superuser=True)
    user.refresh_from_db()
    return person_token(user, TokenKind.REVIEWER)


def _ended_token(user: User, towards: GatedModel) -> str:
    """Grant access and return a token that was revoked."""
    secret = _granted(user, towards)
    token = tokens.authenticate(secret)
    tokens.revoke_token(token=token, user=user)
    return secret


def _disabled(user: User, towards: GatedModel) -> str:
    secret = _granted(user, towards)
    User.objects.filter(pk=user.pk).update(is_active=False)
    return secret


def _out_of_scope(user: User, towards: GatedModel) -> None:
    """Grant access; the token will be for another model."""
    _granted(user, towards)


STATES: dict[str, Callable[[User, GatedModel], str | None]] = {
    "stranger": lambda user, towards: None,
    "draft": _draft,
    "pending": _pending,
    "changes_requested": _decided(Outcome.CHANGES_REQUESTED),
    "rejected": _decided(Outcome.REJECTED),
    "reset": _decided(Outcome.RESET),
    "withdrawn": _withdrawn,
    "expired": _expired,
    "revoked": _revoked,
    "granted": _granted,
    "ends_soon": _ends_soon,
    "reviewer": _reviewer,
    "decider": _decides(Role.REVIEWER),
    "owner": _decides(Role.OWNER),
    "auditor": _auditor,
    "user_token": _user_token,
    "superuser": _superuser,
    "ended_token": _ended_token,
    "disabled": _disabled,
    "out_of_scope": _out_of_scope,
}


def revoke(name: str, repo_id: str) -> dict[str, Any]:
    grants.revoke_access(model=GatedModel.objects.get(repo_id=repo_id), user=User.objects.get(username=name))
    return {}


def end(name: str, repo_id: str, how: str) -> dict[str, Any]:
    """Remove a person's right to a model in one of the ways of `ENDS`."""
    user = User.objects.filter(username=name).first()
    ENDS[how](user, GatedModel.objects.get(repo_id=repo_id))
    return {}


def _end_tokens(user: User | None, towards: GatedModel) -> None:
    assert user
    for token in AccessToken.objects.filter(user=user):
        tokens.revoke_token(token=token, user=user)


ENDS: dict[str, Callable[[Any, GatedModel], object]] = {
    "grant revoked": lambda user, towards: grants.revoke_access(model=towards, user=user),
    "grant over": lambda user, towards: Grant.objects.filter(user=user, model=towards).update(
        starts_at=timezone.now() - timedelta(days=9), ends_at=timezone.now() - timedelta(seconds=1)
    ),
    "token revoked": _end_tokens,
    "token over": lambda user, towards: AccessToken.objects.filter(user=user).update(
        expires_at=timezone.now() - timedelta(seconds=1)
    ),
    "account disabled": lambda user, towards: User.objects.filter(pk=user.pk).update(is_active=False),
    "role taken away": lambda user, towards: ModelRole.objects.filter(user=user, model=towards).delete(),
    "no superuser": lambda user, towards: User.objects.filter(pk=user.pk).update(is_superuser=False),
    "gate switched on": lambda user, towards: edit.change_some_settings(model=towards, gate=Gate.MANUAL),
    "nothing": lambda user, towards: None,
}


def downloads(repo_id: str) -> list[dict[str, Any]]:
    """Return the model's download log rows of finished bodies, oldest first."""
    ended = Download.objects.filter(model__repo_id=repo_id).exclude(state=DownloadState.RUNNING)
    rows = ended.order_by("pk").select_related("user")
    names = (
        "commit",
        "path",
        "first_byte",
        "bytes_asked",
        "bytes_sent",
        "status",
        "address",
        "client",
        "grant_id",
        "state",
        "mode",
        "request_id",
    )
    return [
        {name: getattr(row, name) for name in names} | {"user": row.user.username if row.user else None}
        for row in rows
    ]


def move_downloads() -> dict[str, Any]:
    """Run the scheduled job of the download log."""
    tasks.move_downloads()
    return {}


def blob(sha256: str) -> dict[str, Any]:
    """Return where that content is stored."""
    return {"path": str(blob_path(sha256))}


def approvals(repo_id: str, number: int) -> dict[str, Any]:
    model = GatedModel.objects.get(repo_id=repo_id)
    edit.change_settings(
        model=model, gate=model.gate, grant_days=model.grant_days, listed=model.listed, approvals=number
    )
    return {}


def namespace(name: str, full_name: str) -> dict[str, Any]:
    names.name_namespace(name=name, full_name=full_name)
    return {}


def stand(name: str, repo_id: str, state: str) -> dict[str, Any]:
    """Bring a new or known person into that state or role towards a model, without creating extra tokens."""
    user = User.objects.filter(username=name).first() or User.objects.create_user(f"{name}@example.org", name)
    towards = GatedModel.objects.get(repo_id=repo_id)
    if state in Role.values:
        roles.assign_role(model=towards, user=user, role=state)
    else:
        STATES[state](user, towards)
    return {}


def known(repo_id: str) -> dict[str, Any]:
    return {"known": GatedModel.objects.filter(repo_id=repo_id).exists()}


def rename(repo_id: str, to: str) -> dict[str, Any]:
    names.rename_model(model=GatedModel.objects.get(repo_id=repo_id), to=to)
    return {}


def events(repo_id: str) -> list[list[Any]]:
    """Return kind, actor and data of the model's events, oldest first."""
    rows = Event.objects.filter(model__repo_id=repo_id).order_by("pk")
    return [[event.kind, event.actor_name, event.data] for event in rows]


ORDERS = {
    order.__name__: order
    for order in (
        model,
        commit,
        folder,
        branch,
        recovery,
        person,
        revoke,
        end,
        downloads,
        move_downloads,
        blob,
        approvals,
        namespace,
        rename,
        known,
        stand,
        events,
    )
} | TOKEN_ORDERS


def main() -> None:
    for line in sys.stdin:
        order = json.loads(line)
        close_old_connections()  # a test may have restarted the server since the last order
        print(json.dumps(ORDERS[order.pop("op")](**order)), flush=True)  # noqa: T201 - the answer
