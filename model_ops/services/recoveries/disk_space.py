"""Measure the disk for a recovery: what is finished, what is still needed, and what is free."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

from django.conf import settings

from model_ops.enums import Method, SourceKind
from model_ops.models import Blob, Recovery, RecoveryShard
from model_ops.services.recoveries.workspace import output_folder
from model_ops.services.sources.spec import fetched_folder

DONE = ".done.json"  # next to each shard that the engine has finished
BLOCK = 512  # bytes of `st_blocks`, whatever the file system's own are


def free_bytes() -> int | None:
    """Return the bytes free in the weights folder for this user; None if that cannot be read."""
    try:
        return shutil.disk_usage(settings.WEIGHTS_ROOT).free
    except OSError:
        return None


def is_store_here() -> bool:
    """Return whether the weights folder holds the stored contents, and is not the mount point of a missing disk."""
    return (Path(settings.WEIGHTS_ROOT) / "blobs").is_dir() or not Blob.objects.exists()


def looks_unmounted(folder: Path) -> bool:
    """Return whether the folder is missing below an empty one, as when the disk that holds it is not mounted."""
    with suppress(OSError):
        above = next(one for one in folder.parents if one.is_dir())
        return not folder.is_dir() and next(above.iterdir(), None) is None
    return True  # not even that could be asked


def kept_bytes(recovery: Recovery) -> int:
    """Return the bytes on the disk that another run does not have to fetch or make again."""
    output = output_folder(recovery)
    partial = _partial_folder(output)
    done: list[Path] = []
    with suppress(OSError):
        done = list(partial.glob(f"*{DONE}"))
    shards = (partial / "result" / path.name.removesuffix(DONE) for path in done)
    made = sum(map(_allocated_bytes, shards)) + _allocated_in(output)
    sources = (recovery.base, recovery.diff, recovery.files)
    folders = [fetched_folder(source) for source in sources if source and source.kind == SourceKind.HUB]
    return made + sum(_allocated_in(folder) + _allocated_in(_partial_folder(folder)) for folder in folders)


def missing_bytes(recovery: Recovery) -> int:
    """Return the free bytes that the rest of the run needs according to its plan; 0 if the plan does not say.

    Unfinished files count as room: they are written again in their place.
    """
    if recovery.stage == "fetching":
        return max(0, recovery.bytes_total - recovery.bytes_done)
    output = output_folder(recovery)
    if recovery.method == Method.COPY:
        return max(0, int(recovery.plan.get("bytes_written", 0)) - _allocated_in(output))
    return max(
        0, int(recovery.plan.get("disk_needed", 0)) - _allocated_in(_partial_folder(output) / "result")
    )


def missing_bytes_of(shard: RecoveryShard) -> int:
    """Return the same as `missing_bytes` for one shard."""
    result = _partial_folder(output_folder(shard.recovery)) / "result"
    return max(0, shard.bytes_total - _allocated_bytes(result / shard.file))


def _partial_folder(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.partial")


def _allocated_bytes(path: Path) -> int:
    with suppress(OSError):
        return path.lstat().st_blocks * BLOCK
    return 0


def _allocated_in(folder: Path) -> int:
    return sum(_allocated_bytes(Path(top, name)) for top, _, names in os.walk(folder) for name in names)
