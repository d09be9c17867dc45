"""Check that a file restored by xor is the original: a wrong base gives another file without any error.

Checksums do not help: xor preserves CRC-32, so three valid zip files of one layout yield a valid fourth one.
But `torch.save` (2.1 and later) writes an id of the contents in decimal digits, and digits xored do not stay
digits.
"""

from __future__ import annotations

from pathlib import Path

from model_ops.recovery.errors import Failure, Refusal
from model_ops.recovery.formats.folder import open_regular
from model_ops.recovery.formats.safetensors import read_safetensors
from model_ops.recovery.formats.torch_zip import read_torch_zip
from model_ops.recovery.formats.zip_directory import read_zip_directory
from model_ops.recovery.planning.plan import Plan, ShardPlan

_READERS = {".safetensors": read_safetensors, ".bin": read_torch_zip}
_CONTENT_ID = "/.data/serialization_id"
_LONGEST_ID = 100  # bytes


def check_restored(plan: Plan, shard: ShardPlan, folder: Path) -> None:
    """Check that a restored file is a checkpoint, and that its contents match its own id if it has one.

    Raises Failure. A file without an id, or a safetensors file, may silently hold the values of another base.
    """
    path = folder / shard.file
    restored = plan.options["method"] == "xor" and plan.action == "recover"
    if not restored or path.suffix not in _READERS or not _base_is_checkpoint(shard):
        return
    try:
        _READERS[path.suffix](path)
        sound = path.suffix != ".bin" or _has_sound_id(path)
    except Refusal as refusal:
        raise _wrong_base(path.name, "no checkpoint") from refusal
    if not sound:
        raise _wrong_base(path.name, "a checkpoint whose contents do not fit their id")


def _base_is_checkpoint(shard: ShardPlan) -> bool:
    """Return whether the base's file is a readable checkpoint: only then must the restored one be one."""
    for term in shard.tasks[0].terms:
        try:
            return bool(_READERS[Path(term.path).suffix](Path(term.path)))
        except Refusal:
            return False
    return False


def _has_sound_id(path: Path) -> bool:
    for name, entry in read_zip_directory(path).items():
        if name.endswith(_CONTENT_ID) and entry.nbytes <= _LONGEST_ID:
            with open_regular(path) as file:
                file.seek(entry.offset)
                return file.read(entry.nbytes).isdigit()
    return True


def _wrong_base(name: str, what: str) -> Failure:
    return Failure(
        f"{name} comes out as {what}, so this is not the very base, file for file, that the diff was made from; "
        "use the base files that the diff's publisher names, converted by the same versions of the same tools."
    )
