"""How the recovered tensors are laid out in files: the order, the shards, the headers, the index.

The same layout that `save_pretrained` of transformers 5 makes, so that files come out byte for byte alike.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import TypeVar

from model_ops.recovery.checkpoint import EMBEDDINGS
from model_ops.recovery.errors import Refusal

CLIENT_LIMIT = 50 * 10**9  # bytes; today's Hub clients refuse larger files
_UNITS = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_INPUTS = frozenset(source for source, _ in EMBEDDINGS)
_OUTPUTS = frozenset(target for _, target in EMBEDDINGS)
# The order in which a decoder layer of the LLaMA family registers its modules.
_PARTS = (
    "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "self_attn.q_norm",
    "self_attn.k_norm", "self_attn.rotary_emb", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj",
    "input_layernorm", "post_attention_layernorm",
)  # fmt: skip
_LAYER = re.compile(r"(?:.+\.)?(?:layers|h|blocks)\.(\d{1,6})\.(.+)\.([^.]+)")
_DIGITS = re.compile(r"(\d{1,9})")

Item = TypeVar("Item")


def parse_size(text: str) -> int:
    """Bytes of `5GB`, `2500MB`, `200KB` (powers of ten) or a plain number."""
    match = re.fullmatch(r"\s*(\d{1,15}(?:\.\d{1,9})?)\s*([KMGT]B)?\s*", text, re.IGNORECASE)
    size = int(float(match[1]) * _UNITS[match[2].upper()] if match[2] else float(match[1])) if match else 0
    if size <= 0:
        raise Refusal(f"The size {text!r} is not understood; write it like 5GB, 2500MB or 200KB.")
    return size


def parse_shard_size(text: str) -> int:
    """The largest size of one file of weights, which no client refuses."""
    size = parse_size(text)
    if size > CLIENT_LIMIT:
        raise Refusal(f"The shard size {text!r} is over 50GB, more than Hugging Face clients download.")
    return size


def state_dict_order(name: str) -> tuple[object, ...]:
    """Sort key: input embedding, layers in order, the rest, output embedding last."""
    if name in _INPUTS:
        return (0,)
    if name in _OUTPUTS:
        return (4,)
    match = _LAYER.fullmatch(name)
    if match:
        layer, part, leaf = int(match[1]), match[2], match[3]
        rank = _PARTS.index(part) if part in _PARTS else len(_PARTS)
        return (1, layer, rank, _natural(part), leaf != "weight", leaf)
    return (2, _natural(name))


def _natural(name: str) -> tuple[tuple[int, str], ...]:
    return tuple((int(part), "") if part.isdigit() else (-1, part) for part in _DIGITS.split(name))


def split_into_shards(items: Sequence[Item], size_of: Callable[[Item], int], limit: int) -> list[list[Item]]:
    """Fill shards greedily in order; an item over the limit gets a shard of its own, placed at once."""
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
    """`model.safetensors`, or `model-00002-of-00005.safetensors`; `number` counts from 0."""
    return "model.safetensors" if total == 1 else f"model-{number + 1:05d}-of-{total:05d}.safetensors"


def build_index(weight_map: dict[str, str], total_size: int, total_parameters: int) -> bytes:
    """model.safetensors.index.json."""
    index = {
        "metadata": {"total_parameters": total_parameters, "total_size": total_size},
        "weight_map": weight_map,
    }
    return (json.dumps(index, indent=2, sort_keys=True) + "\n").encode("utf-8")
