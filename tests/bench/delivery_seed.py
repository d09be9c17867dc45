"""Create the files and people for the delivery benchmark. Runs with the portal's environment and prints one JSON object.

python -m tests.bench.delivery_seed SIZE_IN_MB SMALL_FILES PERSONS
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import django

django.setup()

from django.conf import settings  # noqa: E402 - needs the setup
from django.db import connection  # noqa: E402
from django.test import Client  # noqa: E402
from django.test.utils import CaptureQueriesContext  # noqa: E402

from access_requests.services.catalogue.gated_models import add_model  # noqa: E402
from access_requests.services.grants import grant_access  # noqa: E402
from model_ops.models import Blob, Ref, RepoFile, Revision  # noqa: E402
from model_ops.recovery.formats.git_ids import pointer_id  # noqa: E402
from model_ops.services.store.blobs import store_bytes, store_file  # noqa: E402
from model_ops.services.store.git_objects import StoredFile, is_lfs  # noqa: E402
from portal.accounts.models import User  # noqa: E402

REPO = "bench/weights"
BLOCK = 2**20


def large_file(megabytes: int) -> StoredFile:
    """Return random bytes, repeated with a different number each time."""
    path = Path(settings.WEIGHTS_ROOT) / "large"
    path.parent.mkdir(parents=True, exist_ok=True)
    block, whole = os.urandom(BLOCK - 8), hashlib.sha256()
    with path.open("wb") as stream:
        for number in range(megabytes):
            piece = number.to_bytes(8, "big") + block
            whole.update(piece)
            stream.write(piece)
    size = megabytes * BLOCK
    file = StoredFile("large.safetensors", whole.hexdigest(), pointer_id(whole.hexdigest(), size), size)
    store_file(file=file, source=path)
    return file


def seed(megabytes: int, small: int, persons: int) -> dict[str, Any]:
    """Add a model with a large file and many small ones, and people with a token each."""
    model = add_model(repo_id=REPO, card="---\nlicense: other\n---\n# Bench\n")
    files = [large_file(megabytes)]
    files += [store_bytes(path=f"small/{n:04}.json", content=b'{"n": %d}\n' % n * 100) for n in range(small)]
    Blob.objects.bulk_create([Blob(sha256=f.sha256, git_oid=f.git_oid, size=f.size) for f in files])
    revision = Revision.objects.create(
        model=model, commit=hashlib.sha1(b"bench", usedforsecurity=False).hexdigest(),
        has_weights=True, title="Bench", author="bench",
    )  # fmt: skip
    RepoFile.objects.bulk_create(
        [RepoFile(revision=revision, path=f.path, blob_id=f.sha256, is_lfs=is_lfs(f)) for f in files]
    )
    Ref.objects.update_or_create(model=model, name="main", defaults={"revision": revision})
    tokens = []
    for number in range(persons):
        user = User.objects.create_user(f"p{number}@example.org", f"p{number}")
        tokens.append(grant_access(model=model, email=user.email, days=9, token_name="bench").secret)
    path = f"/{REPO}/resolve/{revision.commit}"
    return {
        "path": path,
        "large": files[0].path,
        "size": files[0].size,
        "blob": str(Path(settings.WEIGHTS_ROOT) / "blobs" / files[0].sha256[:2] / files[0].sha256),
        "small": {f.path: f.size for f in files[1:]},
        "tokens": tokens,
        "queries": {
            method: queries(method, f"{path}/small/0000.json", str(tokens[0])) for method in ("HEAD", "GET")
        },
    }


def queries(method: str, path: str, token: str) -> int:
    """Return how many database queries a request makes."""
    client = Client(headers={"Authorization": f"Bearer {token}", "Host": "127.0.0.1"})
    with CaptureQueriesContext(connection) as asked:
        response = client.generic(method, path)
        b"".join(response)
    response.close()
    if response.status_code != 200:
        raise SystemExit(f"{method} {path}: {response.status_code} {response.headers}")
    return len(asked)


if __name__ == "__main__":
    print(json.dumps(seed(*map(int, sys.argv[1:4]))))
