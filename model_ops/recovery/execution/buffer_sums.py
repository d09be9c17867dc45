"""Explain a published sum that includes buffers which the files lack, or the other way round.

Older transformers versions kept rotary frequencies in the state dict, so sums published then include them. A
base converted later lacks them, and so may the diff. They can be computed from the configuration. If a sum
differs by exactly these values, it is the publisher's; any other difference means another model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from model_ops.recovery.checkpoints.ties import names_of
from model_ops.recovery.formats.tensors import TensorRef
from model_ops.recovery.planning.plan import Plan

_ROTARY = "rotary_emb.inv_freq"
_THETA = 10_000.0  # the default if the configuration does not say
_MOST_LAYERS, _MOST_VALUES = 10_000, 65_536


@dataclass(frozen=True)
class Gap:
    """A value to add to the sum, and a description of the buffers that it stands for."""

    value: float
    what: str


def gaps(plan: Plan, total_of: Callable[[TensorRef], float]) -> Iterator[Gap]:
    """Yield every gap that old files explain; `total_of` adds up a stored tensor."""
    diff_only = [
        ref
        for name, ref in plan.first.tensors.items()
        if name.endswith(_ROTARY) and name not in plan.base.tensors and 0 < ref.elements <= _MOST_VALUES
    ]
    tied = names_of(plan.first.ties + plan.base.ties)
    base_only = [  # rotary frequencies, masks and the like; tied names are counted elsewhere
        ref
        for name, ref in plan.base.tensors.items()
        if (name in plan.dropped or name.endswith(_ROTARY)) and name not in {*plan.first.tensors, *tied}
    ]
    if base_only:
        what = f"{len(base_only)} buffers (such as {base_only[0].name}) that the base has and the diff lacks"
        yield Gap(sum(map(total_of, base_only)), what)
    if diff_only:
        sizes, what = [ref.elements for ref in diff_only], "that the diff has and the base lacks"
    elif any(name.endswith(_ROTARY) for name in plan.base.tensors):
        return
    else:
        sizes, what = _configured_sizes(_text_config(plan)), "that neither the base nor the diff has"
    for total in _frequency_sums(sizes, _text_config(plan)):
        yield Gap(total, f"{len(sizes)} rotary buffers ({_ROTARY}) {what}")


def _text_config(plan: Plan) -> dict[str, Any]:
    """Return the diff's configuration, or the base's if the diff has none.

    For a multi-part model, that of the text part.
    """
    config = plan.first.config or plan.base.config
    inner = config.get("text_config")
    return {**config, **inner} if isinstance(inner, dict) else config


def _configured_sizes(config: dict[str, Any]) -> list[int]:
    """Return the number of frequencies in each layer; empty if the configuration does not say."""
    layers, width, heads = (
        _positive_number(config, key) for key in ("num_hidden_layers", "hidden_size", "num_attention_heads")
    )
    head = _positive_number(config, "head_dim") or (width / heads if width and heads else 0)
    part = _positive_number(config, "rotary_pct") or _positive_number(config, "partial_rotary_factor") or 1
    size = int(head * part) // 2
    return [size] * int(layers) if layers <= _MOST_LAYERS and size <= _MOST_VALUES else []


def _positive_number(table: dict[str, Any], key: str) -> float:
    """Return a positive finite number, else 0; configurations are untrusted."""
    value = table.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e15:
        return 0.0
    return float(value)


def _frequency_sums(sizes: list[int], config: dict[str, Any]) -> Iterator[float]:
    """Yield the sum of the frequencies in each dtype that files kept them in: float32, float16, bfloat16."""
    import torch

    if not any(sizes):
        return
    parameters = config.get("rope_parameters")
    tables = [config, *([parameters] if isinstance(parameters, dict) else [])]
    found = (_positive_number(table, key) for table in tables for key in ("rope_theta", "rotary_emb_base"))
    theta = next((value for value in found if value), _THETA)
    rows = {size: [math.pow(theta, -n / size) for n in range(size)] for size in set(sizes)}
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        totals = {
            size: float(torch.tensor(row).to(dtype).double().sum()) for size, row in rows.items() if size
        }
        yield sum(totals.get(size, 0.0) for size in sizes)
