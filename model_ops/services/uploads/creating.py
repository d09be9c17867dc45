"""Create repositories and branches for a client, and delete branches."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from django.db import IntegrityError, transaction

from access_requests.access.catalogue import find_model
from access_requests.enums import Gate
from access_requests.errors import Conflict, Invalid, NotAllowed
from access_requests.models import GatedModel
from access_requests.services.catalogue import gated_models
from access_requests.services.event_log.append import append_event, recorded
from access_requests.services.locks import share_store
from model_ops.models import Ref, Revision
from model_ops.queries import MAIN
from model_ops.services.revisions.publish import with_own_files, write_revision
from model_ops.services.sources.rights import owns_in
from model_ops.services.uploads.errors import NoBranch

if TYPE_CHECKING:
    from portal.accounts.models import User

FIRST_COMMIT = "initial commit"  # as on the Hub
BRANCH = re.compile(r"(?!.*(?:\.\.|//|@\{))(?![/.-])[A-Za-z0-9_./-]{1,100}(?<![/.])")


def check_namespace(*, user: User, namespace: str) -> None:
    """Refuse people who may not add models there: only superusers and owners of a model in the namespace may."""
    if not user.is_superuser and not owns_in(user, namespace):
        raise NotAllowed(
            f"You own no model in {namespace[:96]}: ask an administrator to add the first one there and to make you its owner."
        )


def create_repository(*, repo_id: str, user: User, listed: bool = False) -> GatedModel:
    """Create an empty model with its first commit, owned by its creator; gated, so that no one reads it by accident."""
    check_namespace(user=user, namespace=repo_id.partition("/")[0])
    if known := find_model(repo_id):
        raise Conflict(f"You already created this model repo: {known.repo_id} is in the catalogue.")
    with recorded():
        share_store()
        model = gated_models.add_model(
            repo_id=repo_id, card="", gate=Gate.MANUAL, listed=listed, owner=user, actor=user
        )
        first = write_revision(
            model=model,
            files=with_own_files(model=model, files={}),
            parent=None,
            title=FIRST_COMMIT,
            author=user.username,
        )
        Ref.objects.create(model=model, name=MAIN, revision=first)
        data = {"commit": first.commit, "files": 1, "recovery": None}
        append_event(kind="revision.published", actor=user, model=model, data=data)
    return model


def create_branch(*, model: GatedModel, name: str, start: str, user: User) -> Ref:
    """Create a branch at another branch, a tag or a commit of the model."""
    if not BRANCH.fullmatch(name) or re.fullmatch(r"[0-9a-f]{40}", name) or name.startswith("refs/"):
        raise Invalid(f"{name[:100]!r} cannot be a branch: use letters, digits, '_', '.', '-' and '/'.")
    start = start or MAIN
    ref = Ref.objects.filter(model=model, name=start).select_related("revision").first()
    revision = (
        ref.revision if ref else Revision.objects.filter(model=model, commit=start, held_at=None).first()
    )
    if revision is None:
        raise NoBranch(f"Invalid rev id: {start[:100]}. {model.repo_id} has no such revision to start from.")
    try:
        with recorded(), transaction.atomic():
            made = Ref.objects.create(model=model, name=name, revision=revision)
            data = {"branch": name, "commit": revision.commit}
            append_event(kind="branch.created", actor=user, model=model, data=data)
    except IntegrityError as error:
        raise Conflict(
            f"Reference already exists: {model.repo_id} has a branch or tag {name[:100]}."
        ) from error
    return made


def delete_branch(*, model: GatedModel, name: str, user: User) -> None:
    """Delete the branch; its published revisions stay readable by their commits.

    Refused while uploads to it are held: they could not be published any more.
    """
    if name == MAIN:
        raise Invalid(f"{MAIN} is what readers of {model.repo_id} get, and cannot be deleted.")
    with recorded():
        model = GatedModel.objects.select_for_update(no_key=True).get(pk=model.pk)
        ref = Ref.objects.filter(model=model, name=name, is_tag=False).select_related("revision").first()
        if ref is None:
            raise NoBranch(f"Invalid rev id: {name[:100]}. {model.repo_id} has no branch of that name.")
        held = Revision.objects.filter(model=model, branch=name, held_at__isnull=False).count()
        if held:
            raise Conflict(
                f"{held} uploaded {'revision is' if held == 1 else 'revisions are'} held on {name[:100]}: publish or "
                f"discard {'it' if held == 1 else 'them'} before the branch is deleted (one that is a weight source stays, and the "
                f"branch with it); see {model.address()}"
            )
        ref.delete()
        data = {"branch": name, "commit": ref.revision.commit}
        append_event(kind="branch.deleted", actor=user, model=model, data=data)
