"""Revisions: rows that point at stored content. Nothing is reachable before all of it is in the store."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import filterfalse
from typing import TYPE_CHECKING

from django.utils import timezone

from access_requests.models import GatedModel, LicenceVersion
from access_requests.services.audit import append_event, recorded
from model_ops.enums import Method, RecoveryState
from model_ops.models import Blob, Recovery, Ref, RepoFile, Revision
from model_ops.queries import MAIN, current_recovery, main_revision
from model_ops.services.blobs import store_bytes
from model_ops.services.bucket import expect_copies
from model_ops.services.repository import StoredFile, commit_id, gitattributes, is_lfs

if TYPE_CHECKING:
    from portal.accounts.models import User

TITLES = {
    Method.RECOVER: "Add the weights recovered from base and diff",
    Method.COPY: "Add the weights",
}


def publish_revision(*, model: GatedModel, actor: User | None = None) -> Revision:
    """Publishes the model as it is now and moves `main` to it, in one transaction.

    Weights come from the current recovery once it is ready, else from what `main` has, else there are none yet.
    The content must be in the store already. When nothing changed, `main` stays where it is.
    """
    with recorded():
        model = GatedModel.objects.select_for_update().get(pk=model.pk)
        before = main_revision(model)
        recovery = _weights_for(model, before)
        files = collect_files(model=model, recovery=recovery)
        if before and _same_files(before, files):
            return before
        revision = _write(model, recovery, before, files, actor)
        Ref.objects.update_or_create(model=model, name=MAIN, defaults={"revision": revision})
        data = {"commit": revision.commit, "files": len(files), "recovery": recovery.pk if recovery else None}
        append_event(kind="revision.published", actor=actor, model=model, data=data)
    return revision


def _weights_for(model: GatedModel, before: Revision | None) -> Recovery | None:
    current = current_recovery(model)
    if current and current.state == RecoveryState.READY:
        return current
    return before.recovery if before and before.has_weights else None


def collect_files(*, model: GatedModel, recovery: Recovery | None) -> list[StoredFile]:
    """The revision's files: the weights and what came with them, below the portal's card and licences."""
    files = {file.path: file for file in recovered_files(recovery)} if recovery else {}
    files |= {path: store_bytes(path=path, content=content) for path, content in _own_files(model).items()}
    files[".gitattributes"] = store_bytes(path=".gitattributes", content=gitattributes(files.values()))
    return [files[path] for path in sorted(files)]


def recovered_files(recovery: Recovery) -> list[StoredFile]:
    """What a finished recovery made, from its row."""
    return [StoredFile(**entry) for entry in recovery.manifest.get("files", [])]


def _own_files(model: GatedModel) -> dict[str, bytes]:
    files = {"README.md": model.card.encode()}
    licences = LicenceVersion.objects.filter(model=model, retired_at=None).order_by("pk")
    for licence in licences:
        path = licence.name if licence.name not in files else in_language(licence)
        files[path] = licence.text.encode()
    return files


def in_language(licence: LicenceVersion) -> str:
    """`LICENSE.txt` in German is `LICENSE.de.txt` beside the first language's file."""
    stem, dot, suffix = licence.name.partition(".")
    return f"{stem}.{licence.language}{dot}{suffix}"


def _same_files(revision: Revision, files: list[StoredFile]) -> bool:
    had = revision.files.order_by().values_list("path", "blob_id")
    return dict(had) == {file.path: file.sha256 for file in files}


def _write(
    model: GatedModel,
    recovery: Recovery | None,
    before: Revision | None,
    files: list[StoredFile],
    actor: User | None,
) -> Revision:
    title, now = _title(recovery, before), timezone.now()
    author = actor.username if actor else "Gatehouse"
    parent = before.commit if before else None
    _write_blobs(files)
    revision = Revision.objects.create(
        model=model,
        commit=commit_id(files=files, parent=parent, author=author, at=now, message=title),
        parent=before,
        recovery=recovery,
        has_weights=recovery is not None,
        title=title,
        author=author,
    )
    RepoFile.objects.bulk_create(
        [RepoFile(revision=revision, path=f.path, blob_id=f.sha256, is_lfs=is_lfs(f)) for f in files]
    )
    return revision


def _write_blobs(files: list[StoredFile]) -> None:
    """Content that is new. An LFS file's pointer follows from its row: the id of the content itself goes before it."""
    of_lfs, others = _blobs(filter(is_lfs, files)), _blobs(filterfalse(is_lfs, files))
    Blob.objects.bulk_create(of_lfs, ignore_conflicts=True)
    Blob.objects.bulk_create(
        others, update_conflicts=True, unique_fields=["sha256"], update_fields=["git_oid"]
    )
    expect_copies()


def _blobs(files: Iterable[StoredFile]) -> list[Blob]:
    """One for each content."""
    found = {file.sha256: Blob(sha256=file.sha256, git_oid=file.git_oid, size=file.size) for file in files}
    return list(found.values())


def _title(recovery: Recovery | None, before: Revision | None) -> str:
    if recovery and (before is None or before.recovery_id != recovery.pk):
        return TITLES[Method(recovery.method)]
    return "Update the card and licences" if before else "Add the card and licences"
