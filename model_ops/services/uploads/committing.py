"""A commit: a client's operations on the files of a branch, as one new revision with git's own ids."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from django.utils import timezone

from access_requests.errors import Conflict, Invalid
from access_requests.models import GatedModel
from access_requests.services.audit import append_event, recorded
from access_requests.services.catalogue import understand_card, update_card
from model_ops.models import Ref, Revision
from model_ops.queries import MAIN
from model_ops.recovery.git_ids import blob_id, in_lfs, pointer_id
from model_ops.services.blobs import blob_path, is_stored, store_bytes, store_file
from model_ops.services.publishing import (
    CARD,
    GITATTRIBUTES,
    own_files,
    revision_files,
    with_own_files,
    write_revision,
)
from model_ops.services.repository import StoredFile, gitattributes
from model_ops.services.sources import WEIGHT_SUFFIXES
from model_ops.services.uploads.errors import NoBranch, NoFile, NotSent, Stale
from model_ops.services.uploads.holding import card_text, publish_upload
from model_ops.services.uploads.objects import contents_of
from model_ops.services.uploads.paths import check_path, check_together
from model_ops.services.uploads.rules import publishes_uploads
from model_ops.services.uploads.staging import Staged, is_staged, staged_path

if TYPE_CHECKING:
    from portal.accounts.models import User

MOST_FILES = 100_000  # of one revision
LONGEST_TITLE = 200
LONGEST_MESSAGE = 65_536
ABSENT = "A file with this name doesn't exist"  # the client looks for these words


@dataclass(frozen=True)
class Header:
    summary: str
    description: str = ""
    parent: str = ""


@dataclass(frozen=True)
class Added:
    """A small file whose content came within the commit and is staged."""

    path: str
    content: Staged


@dataclass(frozen=True)
class AddedLarge:
    """A file whose content was sent before, or is in the model already; a copy names no size."""

    path: str
    sha256: str
    size: int | None = None


@dataclass(frozen=True)
class Deleted:
    path: str
    is_folder: bool = False


@dataclass(frozen=True)
class Copied:
    """A file of a commit of the same model, or of the branch itself, under another name."""

    path: str
    source: str
    commit: str = ""


Operation = Added | AddedLarge | Deleted | Copied


@dataclass(frozen=True)
class Committed:
    """The branch's newest revision; `notes` are sentences for the uploader."""

    revision: Revision
    notes: Sequence[str] = ()


def commit_files(
    *, model: GatedModel, branch: str, header: Header, operations: Sequence[Operation], user: User
) -> Committed:
    """Puts one revision on the branch, held unless the model publishes uploads; all of it, or nothing.

    Of two commits at once the second one sees the first: with a `parent` it is `Stale`, without it comes on top.
    A commit that changes nothing makes no revision.
    """
    with recorded():
        model = GatedModel.objects.select_for_update().get(pk=model.pk)
        head = upload_head(model, branch)
        _check_parent(head, header, branch)
        before = {file.path: file for file in revision_files(head)}
        files, notes = _apply(model, before, operations)
        card = _new_card(model, files) if branch == MAIN else None
        at_once = publishes_uploads(model)
        if at_once and branch == MAIN:
            if card is not None:
                update_card(model=model, card=card, actor=user)
            notes += _kept(model, files)
            own = with_own_files(model=model, files=files, attributes=GITATTRIBUTES in files)
            files = {file.path: file for file in own}
        _check_files(files)
        if _content(files) == _content(before):
            return Committed(head, [*notes, "Nothing was changed, so there is no new commit."])
        revision = _write(model, branch, head, header, files, user)
        if at_once:
            return Committed(publish_upload(revision=revision, actor=user), notes)
    return Committed(revision, notes)


def upload_head(model: GatedModel, branch: str) -> Revision:
    """What the next upload to the branch comes on top of: its newest held revision, else what it points at.

    One that weights are made from is put aside: it was a diff or a base, and not what the branch shall show.
    """
    held = Revision.objects.filter(model=model, branch=branch, held_at__isnull=False, sources=None)
    newest = held.order_by("-pk").first()
    if newest is not None:
        return newest
    ref = Ref.objects.filter(model=model, name=branch, is_tag=False).select_related("revision").first()
    if ref is None:
        raise NoBranch(
            f"Invalid rev id: {branch[:100]}. {model.repo_id} has no branch of that name to upload to."
        )
    return ref.revision


def _check_parent(head: Revision, header: Header, branch: str) -> None:
    if header.parent and header.parent != head.commit:
        waits = " (held: publish or discard it first)" if head.held_at else ""
        raise Stale(
            f"A commit has happened since: {branch} is at {head.commit}{waits}, not at {header.parent[:40]}; "
            "look at it and upload again."
        )


def _apply(
    model: GatedModel, before: dict[str, StoredFile], operations: Sequence[Operation]
) -> tuple[dict[str, StoredFile], list[str]]:
    """The files after the operations, in their order."""
    files, notes, attributes = dict(before), [], GITATTRIBUTES in before
    large = {one.sha256 for one in operations if isinstance(one, AddedLarge)}
    held = contents_of(model, sorted(large))
    for one in operations:
        if one.path == GITATTRIBUTES:
            attributes = not isinstance(one, Deleted)
            notes += (
                [f"{GITATTRIBUTES} is written by the portal and was left as it is."] if attributes else []
            )
        elif isinstance(one, Deleted):
            _delete(files, one)
        elif isinstance(one, Copied):
            files[check_path(one.path)] = _copied(model, files, one)
        elif isinstance(one, Added):
            files[check_path(one.path)] = one.content.as_file(one.path)
        else:
            files[check_path(one.path)] = _large(model, one, held)
    if CARD in before and CARD not in files:
        files[CARD] = before[CARD]
        notes.append(f"{CARD} holds the gate and was not deleted.")
    files.pop(GITATTRIBUTES, None)
    if attributes:
        files[GITATTRIBUTES] = store_bytes(path=GITATTRIBUTES, content=gitattributes(files.values()))
    return files, notes


def _delete(files: dict[str, StoredFile], one: Deleted) -> None:
    path = one.path.rstrip("/")
    inside = [name for name in files if name.startswith(f"{path}/")] if one.is_folder else []
    gone = inside or ([path] if path in files and not one.is_folder else [])
    if not gone:
        raise NoFile(f"{ABSENT}: {one.path[:300]}")
    for name in gone:
        del files[name]


def _copied(model: GatedModel, files: dict[str, StoredFile], one: Copied) -> StoredFile:
    found = files.get(one.source)
    if one.commit:
        revision = Revision.objects.filter(model=model, commit=one.commit).first()
        rows = revision.files.select_related("blob").filter(path=one.source) if revision else []
        found = next((StoredFile(f.path, f.blob_id, f.blob.git_oid, f.blob.size) for f in rows), None)
    if found is None:
        raise NoFile(f"{ABSENT}: {one.source[:300]}")
    return _named(one.path, found.sha256, found.size, blob_path(found.sha256))


def _large(model: GatedModel, one: AddedLarge, held: dict[str, int]) -> StoredFile:
    size = one.size if one.size is not None else held.get(one.sha256)
    if size is not None and held.get(one.sha256) == size:
        return _named(one.path, one.sha256, size, blob_path(one.sha256))
    if size is not None and is_staged(model.pk, one.sha256, size):
        return _named(one.path, one.sha256, size, staged_path(model.pk, one.sha256))
    raise NotSent(
        f"The content of {one.path[:300]} ({one.sha256}) has not been sent for this model: upload it again."
    )


def _named(path: str, sha256: str, size: int, content: Path) -> StoredFile:
    """Git's id of a large file is its pointer's; a small one that came the large way is read for its own."""
    git_oid = pointer_id(sha256, size) if in_lfs(path, size) else blob_id(content.read_bytes())
    return StoredFile(path, sha256, git_oid, size)


def _new_card(model: GatedModel, files: dict[str, StoredFile]) -> str | None:
    """The uploaded card if it is another than the model's; one that would lose the gate is refused."""
    if CARD not in files:
        return None
    if files[CARD].git_oid == blob_id(model.card.encode()):
        return None
    text = card_text(model, files[CARD])
    understand_card(text)
    return text


def _kept(model: GatedModel, files: dict[str, StoredFile]) -> list[str]:
    """A note for each uploaded licence text that is not taken: people agreed to the portal's."""
    own = own_files(model)
    differ = [
        path for path in own if path != CARD and path in files and files[path].git_oid != blob_id(own[path])
    ]
    return [
        f"{path} is the licence that people accept and stays as it is: change it in the admin."
        for path in differ
    ]


def _check_files(files: dict[str, StoredFile]) -> None:
    if len(files) > MOST_FILES:
        raise Invalid(f"The revision would hold {len(files):,} files: {MOST_FILES:,} are the most.")
    check_together(files)


def _content(files: dict[str, StoredFile]) -> dict[str, str]:
    return {path: file.sha256 for path, file in files.items()}


def _write(
    model: GatedModel, branch: str, head: Revision, header: Header, files: dict[str, StoredFile], user: User
) -> Revision:
    ordered = [files[path] for path in sorted(files)]
    _store(model, ordered)
    revision = write_revision(
        model=model,
        files=ordered,
        parent=head,
        title=header.summary[:LONGEST_TITLE],
        message=header.description,
        author=user.username,
        recovery=head.recovery if _weights(files.values()) == _weights(revision_files(head)) else None,
        uploader=user,
        branch=branch,
        held_at=timezone.now(),
    )
    data = {"commit": revision.commit, "parent": head.commit, "branch": branch, "files": len(files)}
    append_event(kind="revision.uploaded", actor=user, model=model, data=data)
    return revision


def _weights(files: Iterable[StoredFile]) -> set[tuple[str, str]]:
    return {(file.path, file.sha256) for file in files if file.path.endswith(WEIGHT_SUFFIXES)}


def _store(model: GatedModel, files: Sequence[StoredFile]) -> None:
    """Moves what was staged into the store; after a failure from here on, the client sends it again."""
    for file in files:
        source = staged_path(model.pk, file.sha256)
        if source.is_file():
            store_file(file=file, source=source)
        elif not is_stored(file):
            raise Conflict(f"The content of {file.path} is gone from the server: upload it again.")
