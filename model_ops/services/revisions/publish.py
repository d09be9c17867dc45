"""Publish revisions: rows that point at stored content, and only after all of it is in the store."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import filterfalse
from typing import TYPE_CHECKING, Any

from django.utils import timezone

from access_requests.models import GatedModel, LicenceVersion
from access_requests.services.event_log.append import append_event, recorded
from access_requests.services.locks import share_store
from model_ops.enums import Method, RecoveryState
from model_ops.models import Blob, Recovery, Ref, RepoFile, Revision
from model_ops.queries import MAIN, current_recovery, main_revision
from model_ops.recovery.formats.folder import LOADED_SUFFIXES
from model_ops.services.store.blobs import store_bytes
from model_ops.services.store.bucket import expect_copies
from model_ops.services.store.git_objects import StoredFile, commit_id, gitattributes, is_lfs

if TYPE_CHECKING:
    from portal.accounts.models import User

CARD = "README.md"
GITATTRIBUTES = ".gitattributes"
TITLES = {
    Method.RECOVER: "Add the weights recovered from base and diff",
    Method.COPY: "Add the weights",
}


@dataclass(frozen=True)
class Content:
    """The files of `main` below the portal's card and licences: of a recovery, of an upload, or none yet."""

    recovery: Recovery | None
    upload: Revision | None = None


def publish_revision(*, model: GatedModel, actor: User | None = None) -> Revision:
    """Publish the model as it is now and move `main` to it, in one transaction.

    The files come from the current recovery if it is ready, else from `main`, else there are none yet. The content must
    already be in the store. If nothing changed, `main` stays where it is.
    """
    with recorded():
        share_store()
        model = GatedModel.objects.select_for_update(no_key=True).get(pk=model.pk)
        before, current = main_revision(model), current_recovery(model)
        shown = before.recovery_id if before else None
        if current and current.state == RecoveryState.READY and current.pk != shown:
            content = Content(current)
        elif before is None:
            content = Content(None)
        else:
            content = Content(before.recovery, before.upload or (before if before.uploader_id else None))
        return publish_content(model=model, content=content, actor=actor)


def publish_content(
    *, model: GatedModel, content: Content, title: str = "", actor: User | None = None
) -> Revision:
    """Move `main` to this content under the portal's card and licences; the caller has locked the model's row."""
    with recorded():
        before = main_revision(model)
        files = collect_files(model=model, content=content)
        had = dict(before.files.order_by().values_list("path", "blob_id")) if before else None
        if before and had == {file.path: file.sha256 for file in files}:
            return before
        if content.recovery and (before is None or before.recovery_id != content.recovery.pk):
            usual = TITLES[Method(content.recovery.method)]
        else:
            usual = "Update the card and licences" if before else "Add the card and licences"
        revision = write_revision(
            model=model,
            files=files,
            parent=before,
            title=title or usual,
            author=actor.username if actor else "Gatehouse",
            recovery=content.recovery,
            upload=content.upload,
        )
        Ref.objects.update_or_create(model=model, name=MAIN, defaults={"revision": revision})
        recovery = content.recovery.pk if content.recovery else None
        data = {"commit": revision.commit, "files": len(files), "recovery": recovery}
        append_event(kind="revision.published", actor=actor, model=model, data=data)
    return revision


def collect_files(*, model: GatedModel, content: Content) -> list[StoredFile]:
    """Return the revision's files: the weights and the files with them, below the portal's card and licences."""
    found: list[StoredFile] = []
    if content.upload:  # without the card and licences of the portal at that time
        licences = LicenceVersion.objects.filter(model=content.upload.model)
        texts = {(name, text.sha256) for text in licences for name in (text.name, in_language(text))}
        found = [
            file
            for file in revision_files(content.upload)
            if file.path not in {CARD, GITATTRIBUTES} and (file.path, file.sha256) not in texts
        ]
    elif content.recovery:
        found = recovered_files(content.recovery)
    attributes = content.upload is None or content.upload.files.filter(path=GITATTRIBUTES).exists()
    return with_own_files(model=model, files={file.path: file for file in found}, attributes=attributes)


def with_own_files(
    *, model: GatedModel, files: Mapping[str, StoredFile], attributes: bool = True
) -> list[StoredFile]:
    """Return these files by path, overridden by the portal's card, licences and `.gitattributes`.

    Without `attributes` there is no `.gitattributes`: an uploader deleted it.
    """
    own = {path: store_bytes(path=path, content=content) for path, content in own_files(model).items()}
    found = {**files, **own}
    found.pop(GITATTRIBUTES, None)
    if attributes:
        found[GITATTRIBUTES] = store_bytes(path=GITATTRIBUTES, content=gitattributes(found.values()))
    return [found[path] for path in sorted(found)]


def revision_files(revision: Revision) -> list[StoredFile]:
    """Return a revision's files as they are stored."""
    files = revision.files.select_related("blob").order_by("path")
    return [StoredFile(file.path, file.blob_id, file.blob.git_oid, file.blob.size) for file in files]


def recovered_files(recovery: Recovery) -> list[StoredFile]:
    """Return the files of a finished recovery, from its row."""
    return [StoredFile(**entry) for entry in recovery.manifest.get("files", [])]


def own_files(model: GatedModel) -> dict[str, bytes]:
    """Return the portal's own files in `main`: the card, if there is one, and the current licence texts."""
    files = {CARD: model.card.encode()} if model.card else {}
    licences = LicenceVersion.objects.filter(model=model, retired_at=None).order_by("-binding", "pk")
    for licence in licences:
        path = licence.name if licence.name not in files else in_language(licence)
        files[path] = licence.text.encode()
    return files


def in_language(licence: LicenceVersion) -> str:
    """Return the file name for a language: in German, `LICENSE.txt` becomes `LICENSE.de.txt`."""
    stem, dot, suffix = licence.name.partition(".")
    return f"{stem}.{licence.language}{dot}{suffix}"


def write_revision(
    *,
    model: GatedModel,
    files: Sequence[StoredFile],
    parent: Revision | None,
    title: str,
    author: str,
    message: str = "",
    recovery: Recovery | None = None,
    **fields: Any,
) -> Revision:
    """Write the rows of a revision whose content is in the store; nothing points at it yet.

    `fields` are further fields of the row.
    """
    told = f"{title}\n\n{message}" if message else title
    commit, at = _free_commit(
        model, files=files, parent=parent.commit if parent else None, author=author, message=told
    )
    of_lfs, others = _blob_rows(filter(is_lfs, files)), _blob_rows(filterfalse(is_lfs, files))
    Blob.objects.bulk_create(of_lfs, ignore_conflicts=True)
    # Its own git id replaces an LFS pointer's, which can be computed from the row.
    Blob.objects.bulk_create(
        others, update_conflicts=True, unique_fields=["sha256"], update_fields=["git_oid"]
    )
    expect_copies()
    revision = Revision.objects.create(
        model=model,
        commit=commit,
        parent=parent,
        recovery=recovery,
        has_weights=recovery is not None or any(file.path.endswith(LOADED_SUFFIXES) for file in files),
        title=title,
        message=message,
        author=author,
        created_at=at,
        **fields,
    )
    RepoFile.objects.bulk_create(
        [RepoFile(revision=revision, path=f.path, blob_id=f.sha256, is_lfs=is_lfs(f)) for f in files]
    )
    return revision


def _free_commit(model: GatedModel, **facts: Any) -> tuple[str, datetime]:
    """Return the commit's id and time, one second later if the model has this very commit on another branch."""
    at = timezone.now()
    while True:
        commit = commit_id(at=at, **facts)
        if not Revision.objects.filter(model=model, commit=commit).exists():
            return commit, at
        at += timedelta(seconds=1)


def _blob_rows(files: Iterable[StoredFile]) -> list[Blob]:
    """Return a row for each content."""
    found = {file.sha256: Blob(sha256=file.sha256, git_oid=file.git_oid, size=file.size) for file in files}
    return list(found.values())
