"""Lay out the recovered tensors in files: the order, the shards, the headers, the index.

It is the layout of `save_pretrained` in transformers 5, so that files are identical byte for byte.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TypeVar

from model_ops.recovery.errors import Refusal

CLIENT_LIMIT = 50 * 10**9  # bytes; current Hub clients refuse larger files
_UNITS = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_TRAILING_DIGITS = re.compile(r"(.*?)([0-9]{1,18})?", re.DOTALL)

Item = TypeVar("Item")


def parse_size(text: str) -> int:
    """Return the bytes in `5GB`, `2500MB`, `200KB` (powers of ten) or a plain number."""
    match = re.fullmatch(r"\s*(\d{1,15}(?:\.\d{1,9})?)\s*([KMGT]B)?\s*", text, re.IGNORECASE)
    size = int(float(match[1]) * _UNITS[match[2].upper()] if match[2] else float(match[1])) if match else 0
    if size <= 0:
        raise Refusal(f"The size {text!r} is not understood; write it like 5GB, 2500MB or 200KB.")
    return size


def parse_shard_size(text: str) -> int:
    """Return the largest size of one weight file, which no client refuses."""
    size = parse_size(text)
    if size > CLIENT_LIMIT:
        raise Refusal(f"The shard size {text!r} is over 50GB, more than Hugging Face clients download.")
    return size


def natural_order(name: str) -> list[tuple[object, ...]]:
    """Return the sort key for filling shards: the parts between dots, with numbers compared as numbers.

    `save_pretrained` of a loaded model sorts like this before it splits (so lm_head comes before model).
    """
    return [_part_key(part) for part in name.split(".")]


@lru_cache(maxsize=4096)  # the parts of a model's names repeat often
def _part_key(part: str) -> tuple[object, ...]:
    match = _TRAILING_DIGITS.fullmatch(part)
    if match is None or match[2] is None:
        return (1, part)
    if not match[1]:
        return (0, int(match[2]))
    return (1, match[1], int(match[2]))


def split_into_shards(items: Sequence[Item], size_of: Callable[[Item], int], limit: int) -> list[list[Item]]:
    """Fill shards greedily in order; an item over the limit gets its own shard, which is added at once."""
    shards: list[list[Item]] = []
    current: list[Item] = []
    filled = 0
    for item in items:
        size = size_of(item)
        if size > limit:
            shards.append([item])
            continue
        if filled + size > limit:
            shards.append(current)
            current, filled = [], 0
        current.append(item)
        filled += size
    return [*shards, current] if current else shards


def shard_name(number: int, total: int) -> str:
    """Return `model.safetensors` or `model-00002-of-00005.safetensors`; `number` counts from 0."""
    return "model.safetensors" if total == 1 else f"model-{number + 1:05d}-of-{total:05d}.safetensors"


def build_index(weight_map: dict[str, str], total_size: int, total_parameters: int) -> bytes:
    """Return the content of model.safetensors.index.json."""
    index = {
        "metadata": {"total_parameters": total_parameters, "total_size": total_size},
        "weight_map": weight_map,
    }
    return (json.dumps(index, indent=2, sort_keys=True) + "\n").encode("utf-8")
