"""A person with an empty repository, and commits to it without a client."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from access_requests.models import GatedModel
from model_ops.models import Revision
from model_ops.recovery.formats.git_ids import in_lfs
from model_ops.services.store.blobs import blob_path
from model_ops.services.uploads import staging
from model_ops.services.uploads.committing import Committed, commit_files
from model_ops.services.uploads.operations import Added, AddedLarge, Deleted, Header

WEIGHTS = b"\x08\0\0\0\0\0\0\0{}      "


@dataclass
class Uploads:
    """A model and the owner who uploads to it."""

    model: GatedModel
    owner: Any

    def stage(self, content: bytes) -> str:
        """Stage the content as if a client had sent the object, and return its SHA-256."""
        sha256 = hashlib.sha256(content).hexdigest()
        staging.receive_object(
            model_id=self.model.pk, sha256=sha256, size=len(content), pieces=iter([content])
        )
        return sha256

    def commit(
        self,
        add: dict[str, bytes] | None = None,
        *,
        delete: tuple[str, ...] = (),
        branch: str = "main",
        parent: str = "",
        title: str = "Upload",
    ) -> Committed:
        """Commit small files inline and the rest as large objects."""
        operations: list[Any] = [Deleted(path.rstrip("/"), path.endswith("/")) for path in delete]
        for path, content in (add or {}).items():
            if in_lfs(path, len(content)) and content:
                operations.append(AddedLarge(path, self.stage(content), len(content)))
            else:
                staged = staging.stage_bytes(model_id=self.model.pk, content=content)
                operations.append(Added(path, staged))
        return commit_files(
            model=self.model,
            branch=branch,
            header=Header(title, "", parent),
            operations=operations,
            user=self.owner,
        )

    def content(self, revision: Revision) -> dict[str, bytes]:
        """Return the revision's files as stored, except `.gitattributes`."""
        files = revision.files.exclude(path=".gitattributes")
        return {file.path: blob_path(file.blob_id).read_bytes() for file in files}
