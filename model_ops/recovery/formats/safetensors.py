"""Read and write safetensors headers: 8 bytes of length, JSON, then the tensors without a gap.

https://github.com/huggingface/safetensors#format. Everything that a hostile header could claim is checked
before any of its numbers are used; the data itself is never touched here.
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

from model_ops.recovery.errors import Refusal
from model_ops.recovery.formats.dtypes import ITEM_SIZE
from model_ops.recovery.formats.folder import UnfitJSONError, open_regular, parse_json
from model_ops.recovery.formats.tensors import TensorRef

MAX_HEADER = 32 * 1024 * 1024  # bytes; 700 tensors need about 80 KB
MAX_DIMENSIONS = 16


def read_safetensors(path: Path) -> dict[str, TensorRef]:
    """Return name -> place, in the header's order. Refuse anything the format does not allow."""
    try:
        size, raw = _read_header_bytes(path)
    except OSError as error:
        raise Refusal(f"{path.name} cannot be read: {error.strerror}.") from error
    start = 8 + len(raw)
    try:
        header = parse_json(raw, unique=True)
    except (ValueError, RecursionError) as error:
        why = str(error) if isinstance(error, UnfitJSONError) else "it is not valid JSON"
        raise Refusal(f"The header of {path.name} cannot be used: {why}.") from error
    if not raw.startswith(b"{") or not isinstance(header, dict):
        raise Refusal(f"The header of {path.name} is not a JSON object.")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise Refusal(f"The __metadata__ in the header of {path.name} is not a table of texts.")
    tensors = {name: _read_tensor(path, name, entry, start, size) for name, entry in header.items()}
    _check_places(path, tensors, start, size)
    return tensors


def _check_places(path: Path, tensors: dict[str, TensorRef], start: int, size: int) -> None:
    """Check that the tensors fill the file from `start` to its end, without a gap or an overlap.

    If tensors end beyond the file but have no gaps, it is an unfinished download; otherwise the header is
    wrong.
    """
    position, last, fault = start, "the header", ""
    for ref in sorted(tensors.values(), key=lambda ref: (ref.offset, ref.nbytes)):
        if ref.offset != position:
            how = "overlaps" if ref.offset < position else "leaves a gap after"
            fault = f"Tensor {ref.name[:200]!r} in {path.name} {how} {last}."
            break
        position, last = ref.offset + ref.nbytes, repr(ref.name[:200])
    if not fault and position > size:
        raise Refusal(unfinished(path.name, size, position))
    for name, ref in tensors.items():
        if ref.offset + ref.nbytes > size:
            raise _outside_refusal(
                path, name, ref.offset - start, ref.offset + ref.nbytes - start, size - start
            )
    if fault:
        raise Refusal(fault)
    if position != size:
        raise Refusal(
            f"{path.name} is {size} bytes long, but its header describes {position}; it is damaged."
        )


def _outside_refusal(path: Path, name: str, begin: int, end: int, room: int) -> Refusal:
    return Refusal(
        f"Tensor {name[:200]!r} in {path.name} lies at bytes {begin} to {end}, outside of the file's {room} data bytes."
    )


def unfinished(name: str, size: int, whole: int) -> str:
    """Return the sentence about a file of which only the beginning is there."""
    return (
        f"{name} is an unfinished download: {size} of {whole} bytes are there. Download it again, for instance with "
        "`hf download`, then try again."
    )


def _read_header_bytes(path: Path) -> tuple[int, bytes]:
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        prefix = file.read(8)
        if len(prefix) < 8:
            raise Refusal(
                f"{path.name} is too short for a safetensors file ({size} bytes). Download it again, then try again."
            )
        length = int.from_bytes(prefix, "little")
        if length > MAX_HEADER:
            raise Refusal(
                f"{path.name} claims a header of {length} bytes; at most {MAX_HEADER} are read, "
                "so it is damaged or not a safetensors file."
            )
        if length > size - 8:
            raise Refusal(
                f"{path.name} claims a header of {length} bytes but is only {size} bytes long, so its download did not "
                "finish. Download it again, then try again."
            )
        return size, file.read(length)


def _are_counts(value: Any) -> bool:
    return isinstance(value, list) and all(type(count) is int and 0 <= count < 2**63 for count in value)


def _read_tensor(path: Path, name: str, entry: Any, start: int, size: int) -> TensorRef:
    """Return where a tensor is, from its dtype, shape and data_offsets.

    Each is checked to be of the right type.
    """
    where = f"Tensor {name[:200]!r} in {path.name}"
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise Refusal(f"{where} must be described by exactly dtype, shape and data_offsets.")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if dtype == "" and offsets == [0, 0]:
        raise Refusal(
            f"{where} has no data: its entry has an empty dtype and no bytes, so the tool that saved the file left the tensor "
            "out. Save the checkpoint again with `save_pretrained`, which writes no such entry."
        )
    if not isinstance(dtype, str) or dtype not in ITEM_SIZE:
        raise Refusal(f"{where} has the unknown dtype {str(dtype)[:50]!r}.")
    if not _are_counts(shape) or len(shape) > MAX_DIMENSIONS:
        raise Refusal(f"{where} has a shape that is not a short list of sizes.")
    if not _are_counts(offsets) or len(offsets) != 2:
        raise Refusal(f"{where} has data_offsets that are not two positions.")
    begin, end = offsets
    if begin > end:
        raise _outside_refusal(path, name, begin, end, size - start)
    if math.prod(shape) * ITEM_SIZE[dtype] != end - begin:
        raise Refusal(
            f"{where} has dtype {dtype} and shape {shape}, which do not make its {end - begin} bytes."
        )
    return TensorRef(name, str(path), start + begin, end - begin, dtype, tuple(shape))


def build_header(tensors: list[tuple[str, str, tuple[int, ...], int]]) -> bytes:
    """Return the header of a new file for (name, dtype, shape, bytes) in file order.

    It is byte for byte what the safetensors library writes for `metadata={"format": "pt"}`: compact JSON with
    the metadata first, padded with spaces to a multiple of 8.
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    position = 0
    for name, dtype, shape, nbytes in tensors:
        header[name] = {
            "dtype": dtype,
            "shape": list(shape),
            "data_offsets": [position, position + nbytes],
        }
        position += nbytes
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text
