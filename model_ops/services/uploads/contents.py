"""Find the contents that a commit's operations name. All slow work is done before the event log is locked."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from access_requests.models import GatedModel
from model_ops.models import RepoFile
from model_ops.recovery.formats.git_ids import blob_id, in_lfs, pointer_id
from model_ops.services.store.blobs import blob_path, link_files
from model_ops.services.store.git_objects import StoredFile
from model_ops.services.uploads.errors import NoFile, NotSent
from model_ops.services.uploads.objects import contents_of
from model_ops.services.uploads.operations import Added, AddedLarge, Copied, Operation
from model_ops.services.uploads.staging import is_staged, staged_path

ABSENT = "A file with this name doesn't exist"  # the client looks for these words


class Contents:
    """The contents of one commit; refuse at once what was not sent or is in none of the named revisions."""

    def __init__(self, model: GatedModel, operations: Sequence[Operation]) -> None:
        self._model_id = model.pk
        self._git_ids: dict[str, str] = {}
        large = [one for one in operations if isinstance(one, AddedLarge)]
        copied = [one for one in operations if isinstance(one, Copied) and one.commit]
        held = contents_of(model, sorted({one.sha256 for one in large}))
        sources = _find_copied_files(model, copied)
        self._known: dict[Operation, StoredFile] = {}
        for one in large:
            size = one.size if one.size is not None else held.get(one.sha256)
            here = size is not None and (
                held.get(one.sha256) == size or is_staged(model.pk, one.sha256, size)
            )
            if size is None or not here:
                raise NotSent(
                    f"The content of {one.path[:300]} ({one.sha256}) has not been sent for this model: upload it again."
                )
            self._known[one] = self._named_file(one.path, one.sha256, size)
        self._known |= {one: self._copied_file(one, sources.get((one.commit, one.source))) for one in copied}
        self._known |= {one: one.content.as_file(one.path) for one in operations if isinstance(one, Added)}

    def of(self, one: Added | AddedLarge | Copied, files: Mapping[str, StoredFile]) -> StoredFile:
        """Return the file that the operation makes; `files` is the result of the operations before it."""
        if isinstance(one, Copied) and not one.commit:
            return self._copied_file(one, files.get(one.source))
        return self._known[one]

    @property
    def files(self) -> list[StoredFile]:
        """Return the files that are added, or copied from a commit."""
        return list(self._known.values())

    def store(self) -> None:
        """Link staged contents into the store; they stay staged, so that after a refusal they need not be sent again."""
        link_files({file: staged_path(self._model_id, file.sha256) for file in self._known.values()})

    def forget(self) -> None:
        """Remove the staged contents after the commit."""
        for file in self._known.values():
            staged_path(self._model_id, file.sha256).unlink(missing_ok=True)

    def _copied_file(self, one: Copied, found: StoredFile | None) -> StoredFile:
        if found is None:
            raise NoFile(f"{ABSENT}: {one.source[:300]}")
        if not in_lfs(found.path, found.size):
            self._git_ids[found.sha256] = found.git_oid
        return self._named_file(one.path, found.sha256, found.size)

    def _named_file(self, path: str, sha256: str, size: int) -> StoredFile:
        """Return the named file. A large file has its pointer's Git id; a small file sent as a large one is read for its own."""
        if in_lfs(path, size):
            return StoredFile(path, sha256, pointer_id(sha256, size), size)
        if sha256 not in self._git_ids:
            try:
                content = blob_path(sha256).read_bytes()
            except FileNotFoundError:
                content = staged_path(self._model_id, sha256).read_bytes()
            self._git_ids[sha256] = blob_id(content)
        return StoredFile(path, sha256, self._git_ids[sha256], size)


def _find_copied_files(model: GatedModel, copied: Sequence[Copied]) -> dict[tuple[str, str], StoredFile]:
    """Return the files that are copied from commits, by commit and path."""
    paths: dict[str, set[str]] = defaultdict(set)
    for one in copied:
        paths[one.commit].add(one.source)
    found = {}
    for commit, wanted in paths.items():
        rows = RepoFile.objects.filter(revision__model=model, revision__commit=commit, path__in=wanted)
        for row in rows.select_related("blob"):
            file = StoredFile(row.path, row.blob_id, row.blob.git_oid, row.blob.size)
            found[commit, row.path] = file
    return found
