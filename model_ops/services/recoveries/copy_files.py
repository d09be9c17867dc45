"""Publish files as they are: copy and hash in one pass, file by file, so that a restart can continue."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from django.utils.translation import gettext as _

from access_requests.errors import Invalid
from model_ops.recovery import MANIFEST
from model_ops.recovery.formats.folder import open_regular
from model_ops.recovery.inspection.tree import is_diff_folder
from model_ops.recovery.workdir.output import Hashes
from model_ops.services.sources.spec import check_inside, list_files
from model_ops.services.store.blobs import sync_folder
from model_ops.services.store.git_objects import StoredFile

BLOCK = 8 * 2**20
DONE = ".copied.jsonl"  # a name that `list_files` never yields


class SourceChanged(Exception):
    """The source was changed while it was copied; the message is a sentence."""


def listed_files(folder: Path) -> dict[str, int]:
    """Return path -> bytes of everything that is published from the folder.

    A diff keeps its manifest, which names its base. The manifest of recovered weights is left out, since it does not list
    the card and licences that the portal adds.
    """
    left_out = () if is_diff_folder(folder) else (MANIFEST,)
    sizes = {path: size for path, (size, _changed) in list_files(folder).items() if path not in left_out}
    if not sizes:
        raise Invalid(_("The folder %(folder)s holds no file to publish.") % {"folder": folder})
    return sizes


def copy_files(*, source: Path, target: Path, on_bytes: Callable[[int, int], None]) -> list[StoredFile]:
    """Copy the folder and return what was copied; files that an earlier run finished are kept.

    `source` is a real path: a file that turns out to be elsewhere when it is opened, because of a new link, is refused.
    `on_bytes(done, total)` is called after each block and stops the copy by raising. Everything is synced.
    """
    target.mkdir(parents=True, exist_ok=True)
    sizes, finished = listed_files(source), _finished_files(target)
    total, done, files = sum(sizes.values()), 0, []
    if shutil.disk_usage(target).free < total - sum(file.size for file in finished.values()):
        raise OSError(28, f"the disk has not enough room for {total:,} bytes")
    with (target / DONE).open("a") as journal:
        for path, size in sizes.items():
            file = finished.get(path)
            if file is None or file.size != size:
                file = _copy_file(source, target / path, path, on_bytes, copied=done, total=total)
                journal.write(json.dumps(file.to_json()) + "\n")
                journal.flush()
                os.fsync(journal.fileno())
            files.append(file)
            done += size
            on_bytes(done, total)
    return files


def _finished_files(target: Path) -> dict[str, StoredFile]:
    found = {}
    with contextlib.suppress(FileNotFoundError):
        for line in (target / DONE).read_text().splitlines():
            with contextlib.suppress(ValueError, TypeError):  # a line that a crash cut
                file = StoredFile(**json.loads(line))
                found[file.path] = file
    return {
        path: file
        for path, file in found.items()
        if (target / path).is_file() and (target / path).stat().st_size == file.size
    }


def _copy_file(
    folder: Path, target: Path, path: str, on_bytes: Callable[[int, int], None], *, copied: int, total: int
) -> StoredFile:
    """Copy one file and return its record; `copied` bytes of earlier files count as done."""
    target.parent.mkdir(parents=True, exist_ok=True)
    source = folder / path
    with open_regular(source) as reader, target.open("wb", buffering=0) as writer:
        check_inside(folder, source, reader.fileno())
        before = os.fstat(reader.fileno())
        size = before.st_size
        hashes = Hashes(path, size)
        done = 0
        while block := reader.read(BLOCK):
            hashes.update(block)
            view = memoryview(block)
            while view:
                view = view[writer.write(view) :]
            done += len(block)
            on_bytes(copied + done, total)
        after = os.fstat(reader.fileno())
        if done != size or (after.st_size, after.st_mtime_ns) != (size, before.st_mtime_ns):
            raise SourceChanged(
                f"{source} was changed while it was copied: wait until it is complete, then try again."
            )
        os.fsync(writer.fileno())
    sync_folder(target.parent)
    line = hashes.line()
    return StoredFile(path, line["sha256"], line["git_sha1"], size)
