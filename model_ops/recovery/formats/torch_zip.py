"""Read PyTorch `.bin` checkpoints: zips of stored entries, one of them a pickle that names the tensors."""

from __future__ import annotations

import math
import zlib
from pathlib import Path

from model_ops.recovery.errors import Refusal
from model_ops.recovery.formats.dtypes import ITEM_SIZE
from model_ops.recovery.formats.folder import open_regular
from model_ops.recovery.formats.tensors import StoredEntry, TensorRef
from model_ops.recovery.formats.torch_pickle import MAX_PICKLE, StoredTensor, read_state_dict
from model_ops.recovery.formats.zip_directory import ZipEntry, read_zip_directory


def read_torch_zip(path: Path) -> dict[str, TensorRef]:
    """Return name -> place, in the state dict's order. Several names may share one range (tied weights)."""
    entries = read_zip_directory(path)
    pickles = [name for name in entries if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(pickles) != 1:
        raise Refusal(f"{path.name} is a zip file, but not one that torch.save wrote (no single data.pkl).")
    prefix = pickles[0].removesuffix("data.pkl")
    if stranger := next((name for name in entries if not name.startswith(prefix)), None):
        raise Refusal(
            f"{path.name} holds {stranger[:200]!r} beside {prefix}, which torch.save does not write."
        )
    checked = _has_checksums(entries, prefix)
    # Files from before PyTorch 2.1 carry no such entry; those were little-endian in practice.
    order = entries.get(f"{prefix}byteorder")
    if order is not None and _read_entry(path, order, checked) != b"little":
        raise Refusal(f"{path.name} was saved on a big-endian machine, which is not read.")
    stored = read_state_dict(_read_entry(path, entries[pickles[0]], checked), path.name)
    return {
        name: _locate_tensor(path, name, tensor, entries, prefix, checked) for name, tensor in stored.items()
    }


def _has_checksums(entries: dict[str, ZipEntry], prefix: str) -> bool:
    """Return False where every storage says 0: torch.save writes that under `set_crc32_options(False)` and `skip_data`.

    A damaged file is not mistaken for one of these: what the directory says stands beside the storages a second time.
    """
    storages = [
        entry for name, entry in entries.items() if name.startswith(f"{prefix}data/") and entry.nbytes
    ]
    return any(entry.crc32 for entry in storages) or not storages


def _read_entry(path: Path, entry: ZipEntry, checked: bool) -> bytes:
    if entry.nbytes > MAX_PICKLE:
        raise Refusal(
            f"{entry.name} inside {path.name} is {entry.nbytes} bytes long; at most {MAX_PICKLE} are read."
        )
    try:
        with open_regular(path) as file:
            file.seek(entry.offset)
            data = file.read(entry.nbytes)
    except OSError as error:
        raise Refusal(f"{path.name} cannot be read: {error.strerror}.") from error
    if zlib.crc32(data) != entry.crc32 and (checked or entry.crc32):
        raise Refusal(
            f"{path.name} is damaged: {entry.name} inside it does not match the checksum that torch.save stored; "
            "download the file again."
        )
    return data


def _locate_tensor(
    path: Path,
    name: str,
    tensor: StoredTensor,
    entries: dict[str, ZipEntry],
    prefix: str,
    checked: bool,
) -> TensorRef:
    where = f"Tensor {name[:200]!r} in {path.name}"
    entry = entries.get(f"{prefix}data/{tensor.storage.key}")
    if entry is None:
        raise Refusal(f"{where} refers to a storage that is not in the file.")
    item = ITEM_SIZE[tensor.storage.dtype]
    if entry.nbytes != tensor.storage.elements * item:
        raise Refusal(
            f"{where} lies in a storage of {entry.nbytes} bytes that claims {tensor.storage.elements} values."
        )
    if not _is_contiguous(tensor):
        raise Refusal(f"{where} is not contiguous, which is not read; save it again after .contiguous().")
    elements = math.prod(tensor.shape)
    if tensor.offset + elements > tensor.storage.elements:
        raise Refusal(f"{where} reaches beyond the end of its storage.")
    return TensorRef(
        name,
        str(path),
        entry.offset + tensor.offset * item,
        elements * item,
        tensor.storage.dtype,
        tensor.shape,
        entry=StoredEntry(entry.offset, entry.nbytes, entry.crc32) if checked else None,
    )


def _is_contiguous(tensor: StoredTensor) -> bool:
    expected = 1
    for size, stride in zip(reversed(tensor.shape), reversed(tensor.strides), strict=True):
        if size != 1 and stride != expected:
            return math.prod(tensor.shape) == 0
        expected *= max(size, 1)
    return True
