"""Commit: apply a client's operations to the files of a branch, as one new revision with Git's own ids."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.utils import timezone

from access_requests.access.permissions import people_to_tell
from access_requests.errors import Conflict, Invalid
from access_requests.models import GatedModel
from access_requests.services.catalogue.gated_models import (
    ReadCard,
    prepare_card,
    understand_card,
    update_card,
)
from access_requests.services.emails.write import queue_mail
from access_requests.services.event_log.append import append_event, recorded
from access_requests.services.locks import lock_model, share_store
from model_ops.models import Ref, Revision
from model_ops.queries import MAIN
from model_ops.recovery.formats.folder import LOADED_SUFFIXES
from model_ops.recovery.formats.git_ids import blob_id
from model_ops.services.revisions.publish import (
    CARD,
    GITATTRIBUTES,
    own_files,
    revision_files,
    with_own_files,
    write_revision,
)
from model_ops.services.store.blobs import is_stored, store_bytes, store_file
from model_ops.services.store.git_objects import StoredFile, gitattributes
from model_ops.services.uploads.contents import ABSENT, Contents
from model_ops.services.uploads.errors import NoBranch, NoFile, Stale, full_disk_refused
from model_ops.services.uploads.files import Files
from model_ops.services.uploads.holding import card_text, newest_held, publish_upload
from model_ops.services.uploads.inspecting import check_contents, check_indexes_of
from model_ops.services.uploads.operations import Deleted, Header, Operation
from model_ops.services.uploads.paths import check_path, check_together
from model_ops.services.uploads.rules import publishes_uploads
from model_ops.services.uploads.staging import staged_path

if TYPE_CHECKING:
    from portal.accounts.models import User

MOST_FILES = 100_000  # of one revision
TRIES = 5  # times that files are checked again while others change the branch
LONGEST_TITLE = 200
LONGEST_MESSAGE = 65_536


@dataclass(frozen=True)
class Committed:
    """The branch's newest revision; `notes` are sentences for the uploader."""

    revision: Revision
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Looked:
    """The result of checking a commit's files before the transaction, and the state of the branch that it is valid for."""

    head: int
    at_once: bool
    card_before: str
    content: Mapping[str, str]  # path to SHA-256 of the files that the commit makes, without the portal's own
    card: ReadCard | None = None


@full_disk_refused()
def commit_files(
    *, model: GatedModel, branch: str, header: Header, operations: Sequence[Operation], user: User
) -> Committed:
    """Add one revision to the branch, held unless the model publishes uploads; all or nothing.

    Of two commits at the same time the second one sees the first: with a `parent` it is `Stale`, else it goes on top.
    A commit that changes nothing makes no revision. Files are read before a row is locked; if the branch has moved
    in the meantime, they are checked again.
    """
    _check_parent(upload_head(model, branch), header, branch)
    contents = Contents(model, operations)
    contents.store()
    for _ in range(TRIES):
        looked = _check_unlocked(GatedModel.objects.get(pk=model.pk), branch, contents, operations)
        with recorded():
            share_store()
            locked = lock_model(model.pk)
            head = upload_head(locked, branch)
            _check_parent(head, header, branch)
            rule_and_card = publishes_uploads(locked), locked.card
            if looked.head != head.pk or (looked.at_once, looked.card_before) != rule_and_card:
                continue
            done = _add_revision(locked, branch, head, header, contents, operations, user, looked)
        contents.forget()
        return done
    raise Conflict(f"Others are changing {model.repo_id} at the same time: upload again.")


def _check_unlocked(
    model: GatedModel, branch: str, contents: Contents, operations: Sequence[Operation]
) -> Looked:
    """Check untrusted content: the card, the beginnings of files, indexes. No lock is held."""
    head, at_once = upload_head(model, branch), publishes_uploads(model)
    before = {file.path: file for file in revision_files(head)}
    files, _ = _apply_operations(contents, before, operations)
    if at_once:
        check_contents(model=model, files=contents.files)
        old = _hashes_by_path(before)
        fresh = [path for path, sha256 in _hashes_by_path(files).items() if old.get(path) != sha256]
        check_indexes_of(model=model, files=files, fresh=fresh)
    card = None
    if branch == MAIN and CARD in files and files[CARD].git_oid != blob_id(model.card.encode()):
        # A card that would lose the gate is refused, also if the upload is only held.
        text = card_text(model, files[CARD])
        if at_once:
            card = prepare_card(text, repo_id=model.repo_id, replaces=model.card)
        else:
            understand_card(text)  # it is rendered when the upload is published
    return Looked(head.pk, at_once, model.card, _hashes_by_path(files), card)


def _add_revision(
    model: GatedModel, branch: str, head: Revision, header: Header, contents: Contents,
    operations: Sequence[Operation], user: User, looked: Looked,
) -> Committed:  # fmt: skip
    """Write the revision; the model is locked, and `looked` is valid for the head."""
    before = {file.path: file for file in revision_files(head)}
    files, notes = _apply_operations(contents, before, operations)
    if _hashes_by_path(files) != looked.content:
        raise Conflict(f"The files of {model.repo_id} changed while they were looked at: upload again.")
    at_once = looked.at_once
    if at_once and branch == MAIN:
        if looked.card is not None:
            update_card(model=model, card=looked.card, actor=user)
        notes += [  # people agreed to the portal's licence texts
            f"{path} is the licence that people accept and stays as it is: change it in the admin."
            for path, text in own_files(model).items()
            if path != CARD and path in files and files[path].git_oid != blob_id(text)
        ]
        own = with_own_files(model=model, files=files, attributes=GITATTRIBUTES in files)
        files = {file.path: file for file in own}
    if len(files) > MOST_FILES:
        raise Invalid(
            f"The revision would have {len(files):,} files, but at most {MOST_FILES:,} are allowed."
        )
    check_together(files)
    if _hashes_by_path(files) == _hashes_by_path(before):
        notes.append("Nothing was changed, so there is no new commit.")
        return Committed(head, notes)
    revision = _write_held(model, branch, head, header, files, user)
    if at_once:
        revision = publish_upload(revision=revision, actor=user, looked_at=True)
    elif head.held_at is None:  # they already know that uploads wait on this branch
        _tell_owners(revision, user, len(files))
    return Committed(revision, notes)


def upload_head(model: GatedModel, branch: str) -> Revision:
    """Return the parent of the next upload to the branch: its newest held revision, else its head.

    If uploads are published at once, held revisions are skipped: no one has checked them, and publishing includes
    everything below.
    """
    ref = Ref.objects.filter(model=model, name=branch, is_tag=False).select_related("revision").first()
    if ref is None:
        raise NoBranch(
            f"Invalid rev id: {branch[:100]}. {model.repo_id} has no branch of that name to upload to."
        )
    held = None if publishes_uploads(model) else newest_held(ref)
    return held or ref.revision


def _check_parent(head: Revision, header: Header, branch: str) -> None:
    if header.parent and header.parent != head.commit:
        waits = " (held: publish or discard it first)" if head.held_at else ""
        raise Stale(
            f"A commit has happened since: {branch} is at {head.commit}{waits}, not at {header.parent[:40]}; "
            "look at it and upload again."
        )


def _apply_operations(
    contents: Contents, before: dict[str, StoredFile], operations: Sequence[Operation]
) -> tuple[dict[str, StoredFile], list[str]]:
    """Return the files after applying the operations in order."""
    files, notes, attributes = Files(before.values()), list[str](), GITATTRIBUTES in before
    for one in operations:
        if one.path == GITATTRIBUTES:
            attributes = not isinstance(one, Deleted)
            notes += (
                [f"{GITATTRIBUTES} is written by the portal and was left as it is."] if attributes else []
            )
        elif isinstance(one, Deleted):
            path = one.path.rstrip("/")
            gone = files.delete_folder(path) if one.is_folder else files.pop(path, None)
            if not gone:
                raise NoFile(f"{ABSENT}: {one.path[:300]}")
        else:
            files[check_path(one.path)] = contents.of(one, files)
    if CARD in before and CARD not in files:
        files[CARD] = before[CARD]
        notes.append(f"{CARD} holds the gate and was not deleted.")
    files.pop(GITATTRIBUTES, None)
    if attributes:
        files[GITATTRIBUTES] = store_bytes(path=GITATTRIBUTES, content=gitattributes(files.values()))
    return dict(files), notes


def _hashes_by_path(files: dict[str, StoredFile]) -> dict[str, str]:
    return {path: file.sha256 for path, file in files.items()}


def _write_held(
    model: GatedModel, branch: str, head: Revision, header: Header, files: dict[str, StoredFile], user: User
) -> Revision:
    ordered = [files[path] for path in sorted(files)]
    for file in ordered:  # cleaning is locked out; most contents were stored before
        if is_stored(file):
            continue
        source = staged_path(model.pk, file.sha256)
        if not source.is_file():
            raise Conflict(f"The content of {file.path} is gone from the server: upload it again.")
        store_file(file=file, source=source)
    revision = write_revision(
        model=model,
        files=ordered,
        parent=head,
        title=header.summary[:LONGEST_TITLE],
        message=header.description,
        author=user.username,
        recovery=head.recovery
        if _weight_files(files.values()) == _weight_files(revision_files(head))
        else None,
        uploader=user,
        branch=branch,
        held_at=timezone.now(),
    )
    data = {"commit": revision.commit, "parent": head.commit, "branch": branch, "files": len(files)}
    append_event(kind="revision.uploaded", actor=user, model=model, data=data)
    return revision


def _tell_owners(revision: Revision, uploader: User, files: int) -> None:
    """Email each owner except the uploader, whose client has already shown it."""
    model = revision.model
    for person in people_to_tell(model, owners_only=True).exclude(pk=uploader.pk):
        queue_mail(
            key=f"upload-held:{revision.pk}:{person.pk}",
            to=person.email,
            template="mails/upload_held.txt",
            context={"person": person, "model": model, "revision": revision, "files": files},
        )


def _weight_files(files: Iterable[StoredFile]) -> set[tuple[str, str]]:
    return {(file.path, file.sha256) for file in files if file.path.endswith(LOADED_SUFFIXES)}
