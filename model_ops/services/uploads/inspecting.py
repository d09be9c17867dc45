"""Check uploaded files before they are published: each must be the file that its name promises."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping
from functools import partial
from pathlib import Path

from access_requests.models import GatedModel
from model_ops.models import Revision
from model_ops.recovery.errors import RecoveryError
from model_ops.recovery.inspection.reading import read_part
from model_ops.recovery.inspection.tree import check_indexes, inspect_contents, inspect_files
from model_ops.services.revisions.publish import revision_files
from model_ops.services.store.blobs import blob_path
from model_ops.services.store.git_objects import StoredFile
from model_ops.services.uploads.errors import NotTheFile
from model_ops.services.uploads.staging import staged_path


def check_contents(*, model: GatedModel, files: Collection[StoredFile]) -> None:
    """Refuse a commit's files that are pointers, pages or unfinished downloads."""
    known = {file.path: file for file in files}
    with _wrong_files_refused():
        inspect_contents(_file_sizes(known), partial(_read_bytes, model, known), role="upload")


def check_indexes_of(*, model: GatedModel, files: Mapping[str, StoredFile], fresh: Collection[str]) -> None:
    """Refuse an index that does not fit the weights next to it. The next commit may bring missing files."""
    with _wrong_files_refused():
        check_indexes(
            _file_sizes(files), partial(_read_bytes, model, files), role="upload", fresh=fresh, whole=False
        )


def check_upload(*, revision: Revision, published: Revision | None) -> None:
    """Refuse to publish a held revision with wrong files. Files that the branch already has are not checked again."""
    files = {file.path: file for file in revision_files(revision)}
    old = {file.path: file.sha256 for file in revision_files(published)} if published else {}
    fresh = [path for path, file in files.items() if old.get(path) != file.sha256]
    if fresh:
        with _wrong_files_refused():
            read = partial(_read_bytes, revision.model, files)
            inspect_files(_file_sizes(files), read, role="upload", fresh=fresh)


@contextlib.contextmanager
def _wrong_files_refused() -> Iterator[None]:
    try:
        yield
    except RecoveryError as error:
        raise NotTheFile(str(error)) from error


def _file_sizes(files: Mapping[str, StoredFile]) -> dict[str, int]:
    return {path: file.size for path, file in files.items()}


def _read_bytes(
    model: GatedModel, files: Mapping[str, StoredFile], path: str, offset: int, size: int
) -> bytes:
    """Return bytes of a file, from the store or from where it was staged."""
    sha256 = files[path].sha256
    places: tuple[Path, ...] = (blob_path(sha256), staged_path(model.pk, sha256))
    return next((part for place in places if (part := read_part(place, offset, size))), b"")
