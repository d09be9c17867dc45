"""Remove unused files from `WEIGHTS_ROOT`: contents of no revision and no recovery, and fetched sources.

Everything that writes references shares the store's lock, and a recovery is claimed by a write to its row. So with the
exclusive lock, the table locked and nothing running, unused files stay unused until they are moved aside. They are
moved under the locks and deleted after that.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings
from django.db import connection

from access_requests.errors import Conflict
from access_requests.ids import SHA256
from access_requests.services.event_log.append import append_event, recorded
from access_requests.services.locks import lock_store
from model_ops.enums import RecoveryState, SourceKind
from model_ops.models import Blob, Recovery, RepoFile, WeightSource
from model_ops.services.revisions.publish import recovered_files
from model_ops.services.sources.spec import fetched_folder

KEPT = 24 * 3600  # seconds since it was put there: it may be about to be used
ASIDE = ".cleaned"
STILL_NEEDED = [state for state in RecoveryState if state != RecoveryState.READY]


@dataclass(frozen=True)
class Unused:
    """A file or folder below `WEIGHTS_ROOT`."""

    path: Path
    size: int


def clean_weights(*, dry_run: bool = False) -> list[Unused]:
    """Remove unused files and return them; with a dry run only return them. Refuses while a recovery runs."""
    root = Path(settings.WEIGHTS_ROOT)
    aside = root / ASIDE
    with recorded():
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL lock_timeout = '20s'")
            lock_store()
            cursor.execute(f"LOCK TABLE {Recovery._meta.db_table} IN SHARE MODE")  # no recovery starts now
        running = Recovery.objects.filter(state=RecoveryState.RUNNING).order_by("pk").first()
        if running:
            raise Conflict(f"Recovery {running.pk} is running: clean up when no recovery is running.")
        found = [*_unused_blobs(root), *_unused_sources(root)]
        if dry_run:
            return found
        for unused in found:
            aside.mkdir(parents=True, exist_ok=True)
            unused.path.rename(aside / secrets.token_hex(8))
        names = [unused.path.name for unused in found]
        Blob.objects.filter(pk__in=names, files=None, bucket="").delete()
        WeightSource.objects.filter(commit__in=names).update(checked="")
        if found:
            data = {"removed": len(found), "bytes": sum(unused.size for unused in found)}
            append_event(kind="weights.cleaned", by="operator", data=data)
    shutil.rmtree(aside, ignore_errors=True)
    return found


def _unused_blobs(root: Path) -> Iterator[Unused]:
    """Return contents that no revision and no recovery names, and the remains of interrupted writes."""
    used = set(RepoFile.objects.values_list("blob_id", flat=True).distinct())
    for recovery in Recovery.objects.exclude(manifest={}).only("manifest"):
        used |= {file.sha256 for file in recovered_files(recovery)}
    for path in sorted((root / "blobs").glob("*/*")):
        leftover = path.name.startswith(".") and SHA256.fullmatch(path.name[1:65])
        unnamed = SHA256.fullmatch(path.name) and path.name not in used
        if (leftover or unnamed) and path.is_file() and _is_old(path):
            yield Unused(path, path.stat().st_size)


def _unused_sources(root: Path) -> Iterator[Unused]:
    """Return fetched repositories that no unfinished recovery needs; they can be fetched again."""
    needed = set()
    for source in WeightSource.objects.exclude(kind=SourceKind.FOLDER):
        recoveries = (source.recoveries_as_base, source.recoveries_as_diff, source.recoveries_as_files)
        if any(rows.filter(state__in=STILL_NEEDED).exists() for rows in recoveries):
            needed.add(fetched_folder(source))
    uploads = root / "sources" / "uploads"
    fetched = [path for path in (root / "sources").glob("*/*/*") if not path.is_relative_to(uploads)]
    for path in sorted([*fetched, *uploads.glob("*")]):
        plain = path.with_name(path.name.removesuffix(".partial"))
        if path.is_dir() and plain not in needed and _is_old(path) and not _is_fetched_now(plain):
            files = (file for file in path.rglob("*") if file.is_file() and not file.is_symlink())
            yield Unused(path, sum(file.stat().st_size for file in files))


def _is_old(path: Path) -> bool:
    """Return whether the file is old, by its ctime, which a rename sets."""
    return time.time() - path.stat().st_ctime > KEPT


def _is_fetched_now(folder: Path) -> bool:
    """Return whether a process is fetching the repository: it holds a lock next to the folder."""
    lock = folder.with_name(f"{folder.name}.lock")
    if not lock.is_file():
        return False
    opened = os.open(lock, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(opened)
    return False
