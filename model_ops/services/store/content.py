"""Read metadata of stored files: safetensors headers, an index of shards, a config.json.

Only a limited part at the start of a file is read. Results are cached by SHA-256, so they never change.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import prod
from typing import Any, BinaryIO

from django.core.cache import cache

from access_requests.strict_json import NotJson, read_json
from model_ops.models import Blob
from model_ops.services.store.blobs import blob_path

LARGEST_HEADER = 16 * 2**20  # bytes; the format allows 100 MB, and a shard of 5 GB has less than 1 MB
LARGEST_INDEX = 32 * 2**20
LARGEST_CONFIG = 2**20
KEPT = 24 * 3600  # seconds
LARGEST_KEPT = 2**20  # bytes; larger ones are not cached


class Unreadable(Exception):
    """The content does not fit its name; the text says why."""


def safetensors_header(blob: Blob) -> dict[str, Any]:
    """Return the header of a safetensors file: tensor name to dtype, shape and place. Nothing after it is read."""
    return _read_cached(blob, "safetensors", _header_bytes)


def parameter_count(blob: Blob) -> dict[str, int]:
    """Return the number of parameters in a safetensors file by dtype, from its header; cached on its own, since it is small."""
    counts = _read_cached(
        blob, "parameters", lambda blob: json.dumps(_count_parameters(safetensors_header(blob))).encode()
    )
    return {str(dtype): int(count) for dtype, count in counts.items()}


def _count_parameters(header: Mapping[str, Any]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for name, tensor in header.items():
        if name == "__metadata__":
            continue
        dtype, shape = (
            (tensor.get("dtype"), tensor.get("shape")) if isinstance(tensor, dict) else (None, None)
        )
        if not isinstance(dtype, str) or not isinstance(shape, list):
            raise Unreadable("a tensor has no dtype and shape")
        if not all(type(length) is int and 0 <= length < 2**63 for length in shape) or len(shape) > 100:
            raise Unreadable("a tensor's shape contains something other than sizes")
        counts[dtype] = counts.get(dtype, 0) + prod(shape)
    return counts


def header_size(blob: Blob) -> int:
    """Return how many bytes `safetensors_header` would read."""
    with blob_path(blob.sha256).open("rb") as stream:
        return _header_length(stream, blob)


def shard_index(blob: Blob) -> dict[str, Any]:
    """Return a `model.safetensors.index.json`, with a `weight_map` of tensor names to file names."""
    index = _read_cached(blob, "index", lambda blob: _read_whole(blob, LARGEST_INDEX))
    shards = index.get("weight_map")
    if not isinstance(shards, dict) or not all(isinstance(name, str) for name in shards.values()):
        raise Unreadable("it has no weight_map from tensors to files")
    return index


def config_facts(blob: Blob) -> dict[str, Any]:
    """Return what the Hub shows of a config.json: `architectures` and `model_type`; nothing if it can't be read."""
    try:
        config = _read_cached(blob, "config", lambda blob: _read_whole(blob, LARGEST_CONFIG))
    except (Unreadable, OSError):
        return {}
    facts: dict[str, Any] = {}
    architectures = config.get("architectures")
    if isinstance(architectures, list) and all(isinstance(name, str) for name in architectures):
        facts["architectures"] = architectures
    if isinstance(config.get("model_type"), str):
        facts["model_type"] = config["model_type"]
    return facts


def _read_cached(blob: Blob, kind: str, read: Any) -> dict[str, Any]:
    key = f"content:{kind}:{blob.sha256}"
    text = cache.get(key)
    if text is None:
        text = read(blob)
        if len(text) <= LARGEST_KEPT:
            cache.set(key, text, timeout=KEPT)
    try:
        found = read_json(text, largest=LARGEST_INDEX)
    except NotJson as error:
        raise Unreadable("it does not hold JSON where it should") from error
    if not isinstance(found, dict):
        raise Unreadable("it holds no JSON object")
    return found


def _header_bytes(blob: Blob) -> bytes:
    with blob_path(blob.sha256).open("rb") as stream:
        return stream.read(_header_length(stream, blob))


def _header_length(stream: BinaryIO, blob: Blob) -> int:
    length = int.from_bytes(stream.read(8), "little")
    if not 2 <= length <= min(blob.size - 8, LARGEST_HEADER):
        raise Unreadable("it does not begin with the length of a header")
    return length


def _read_whole(blob: Blob, most: int) -> bytes:
    if blob.size > most:
        raise Unreadable(f"it is larger than {most:,} bytes")
    return blob_path(blob.sha256).read_bytes()
