"""Match a base whose tensor names differ from the other side's only in their prefix.

Examples are `transformer.wte.weight` and `wte.weight`, or `language_model.model.norm.weight` and
`model.norm.weight`. A prefix is replaced if every tensor of the base then has a counterpart; the result uses
the other side's names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from operator import methodcaller

from model_ops.recovery.checkpoints.buffers import is_buffer
from model_ops.recovery.checkpoints.checkpoint import Checkpoint
from model_ops.recovery.errors import Refusal

# Prefixes that wrappers and older versions add to names.
_PREFIXES = (
    "transformer.", "model.", "language_model.", "model.language_model.", "gpt_neox.", "backbone.", "bert.", "roberta.",
    "encoder.", "decoder.", "module.", "_orig_mod.", "backbone_model.", "base_model.model.", "base_model.", "llm.",
    "state_dict.", "pretrained_model.", "text_model.",
)  # fmt: skip
# Prefixes that changed together, and their replacements.
_MOVED = (
    {"model.": "model.language_model."},
    {
        "language_model.model.": "model.language_model.",
        "language_model.lm_head.": "lm_head.",
        "vision_tower.": "model.vision_tower.",
        "vision_model.": "model.vision_model.",
        "visual.": "model.visual.",
        "multi_modal_projector.": "model.multi_modal_projector.",
        "model.": "model.language_model.",
    },
)


def with_names_of(base: Checkpoint, first: Checkpoint) -> Checkpoint:
    """Return the base under the other side's names, with a note; the base itself if its names fit.

    Raises Refusal if two different replacements would fit.
    """
    weights = _weights_of(base)
    theirs = set(_weights_of(first))
    as_they_are = tuple(base.tensors)
    if _has_counterparts(base, weights, theirs, as_they_are) or not theirs.difference(weights):
        return base
    found: dict[tuple[str, ...], str] = {}
    for rename, how in _possible_renames():
        renamed = tuple(name if name in theirs else rename(name) for name in base.tensors)
        if renamed != as_they_are and _has_counterparts(base, weights, theirs, renamed):
            found.setdefault(renamed, how)
    if len(found) > 1:
        raise Refusal(
            f"The base's names fit those of the {first.role} in more than one way: {', '.join(found.values())}."
        )
    if not found:
        return base
    names, how = found.popitem()
    pairs = zip(names, base.tensors.values(), strict=True)
    tensors = {name: replace(ref, name=name) for name, ref in pairs}
    return replace(base, tensors=tensors, notes=(*base.notes, f"The base's names are matched with {how}."))


def _weights_of(checkpoint: Checkpoint) -> list[str]:
    return [name for name, ref in checkpoint.tensors.items() if not is_buffer(ref)]


def _has_counterparts(
    base: Checkpoint, weights: list[str], theirs: set[str], renamed: tuple[str, ...]
) -> bool:
    """Return whether every weight has a counterpart, except tied outputs that only one side stores."""
    if len(set(renamed)) < len(renamed):
        return False
    place = dict(zip(base.tensors, renamed, strict=True))
    missing = [name for name in weights if place[name] not in theirs]
    return len(missing) <= 1 and len(missing) < len(weights)


def _possible_renames() -> Iterator[tuple[Callable[[str], str], str]]:
    """Yield (function from base name to other name, description) for each possible replacement."""
    for prefix in _PREFIXES:
        yield prefix.__add__, f"{prefix!r} in front of them"
        yield methodcaller("removeprefix", prefix), f"{prefix!r} taken from their front"
    for moved in _MOVED:
        back = {new: old for old, new in moved.items()}
        for table in (moved, back):
            how = ", ".join(f"{new!r} for {old!r}" for old, new in list(table.items())[:3])
            yield partial(_replace_beginning, table), how


def _replace_beginning(table: dict[str, str], name: str) -> str:
    """Return the name with its longest known prefix replaced."""
    old = max((old for old in table if name.startswith(old)), key=len, default="")
    return table[old] + name.removeprefix(old) if old else name
