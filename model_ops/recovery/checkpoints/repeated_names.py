"""Write out groups of tied names whose number depends on the model's size, for one checkpoint."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from model_ops.recovery.errors import Refusal
from model_ops.recovery.formats.tensors import TensorRef

_MOST = 10_000  # layers that a configuration may list
_MOST_NAMES = 1_000_000  # in all groups together

Groups = list[tuple[tuple[str, ...], str]]


def expanded(
    each: str,
    names: tuple[str, ...],
    stored: int,
    tensors: Mapping[str, TensorRef],
    config: Mapping[str, Any],
) -> Groups:
    """Return (names, the stored name) of each group, from names that have a star in place of a number.

    If `each` is `index`, there is one group per number found in the files, with the same number in all names.
    If it is `shared`, names with this prefix are one tensor in all layers that share a block. Otherwise it is
    the key of config.json that says how many numbers there are, and all of them form one group.
    """
    if each == "index":
        pattern = re.compile(re.escape(names[stored]).replace(r"\*", "([0-9]+)"))
        numbers = [match[1] for name in tensors if (match := pattern.fullmatch(name))]
        return [
            (tuple(name.replace("*", number) for name in names), names[stored].replace("*", number))
            for number in numbers
        ]
    if each == "shared":
        return _shared_blocks(names[0], tensors, config)
    count = config.get(each)
    if type(count) is not int or not 0 < count <= _MOST:
        raise Refusal(
            f"config.json does not say how many {each} there are, so the tied tensors cannot be determined. Use the publisher's config.json."
        )
    every = tuple(name.replace("*", str(number)) for name in names for number in range(count))
    return [(every, names[stored].replace("*", "0"))] if not tensors.keys().isdisjoint(every) else []


def _shared_blocks(name: str, tensors: Mapping[str, TensorRef], config: Mapping[str, Any]) -> Groups:
    """Return the groups of Zamba's transformer blocks.

    The hybrid layers use `num_mem_blocks` blocks in turn (one if the configuration does not say).
    """
    pattern = re.compile(re.escape(name).replace(r"\*", "([0-9]+)") + "(.+)")
    found = [(stored, match) for stored in tensors if (match := pattern.fullmatch(stored))]
    if not found:
        return []
    kinds, blocks = config.get("layers_block_type"), config.get("num_mem_blocks", 1)
    if not isinstance(kinds, list) or len(kinds) > _MOST or type(blocks) is not int or blocks < 1:
        raise Refusal(
            "config.json does not say which layers share a block, so the tied tensors cannot be determined. Use the publisher's config.json."
        )
    hybrid = [number for number, kind in enumerate(kinds) if kind == "hybrid"]
    if len(found) * len(hybrid) > _MOST_NAMES:
        raise Refusal(
            f"config.json makes more than {_MOST_NAMES} names of shared tensors, which are not read."
        )
    places = {str(number): place for place, number in enumerate(hybrid)}
    groups = []
    for stored, match in found:
        if match[1] in places:
            layers = hybrid[places[match[1]] % blocks :: blocks]
            groups.append((tuple(name.replace("*", str(layer)) + match[2] for layer in layers), stored))
    return groups
