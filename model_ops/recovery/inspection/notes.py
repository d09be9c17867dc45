"""Notes about a folder whose weights can be used."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path

from model_ops.recovery.errors import Refusal
from model_ops.recovery.formats import file_names
from model_ops.recovery.formats.folder import open_regular
from model_ops.recovery.inspection import contents
from model_ops.recovery.inspection.files import judge_content, shown
from model_ops.recovery.inspection.roles import role_of
from model_ops.recovery.inspection.weights import Weights

_MOST_FILES = 1000  # files next to the weights whose first bytes are read for a note


def notes_on(folder: Path, role: str, files: list[str], weights: Weights, used: set[str]) -> Iterable[str]:
    """Yield notes for the owner of a plan. `used` are the files that are read or copied."""
    who = role_of(role)
    if not weights.index and len(weights.files) > 1:
        part = file_names.shard(weights.files[0])
        index = f"{part.stem if part else weights.files[0]}.{weights.kind}.index.json"
        yield f"{who.name} has no {index}; its tensors were read from the headers of all {len(weights.files)} shards."
    if "adapter_config.json" in files:
        kept = "is not applied" if role == "base" else "is left out of the result"
        yield f"{who.whose} weights have an adapter beside them (adapter_config.json), which {kept}."
    for name in files:
        if (copy := file_names.second_copy(name)) and copy in used:
            yield f"{who.whose} {shown(name)} looks like a second copy of {copy} and is not read."
    for name in weights.files:
        if _has_holes(folder / name):
            yield (
                f"{who.whose} {name} has parts that were never written and read as zeros; if its download broke off, "
                "download it again."
            )
    if role == "base":
        for name in [name for name in files if name not in used][:_MOST_FILES]:
            if why := judge_content(folder, name, who, contents.KINDS[:3]):
                yield f"{who.whose} {shown(name)} {why.split('. ')[0]}; nothing is made from it."


def _has_holes(path: Path) -> bool:
    """Return whether the file system reports ranges that were never written."""
    try:
        with open_regular(path) as file:
            end = os.fstat(file.fileno()).st_size
            return end > 0 and os.lseek(file.fileno(), 0, os.SEEK_HOLE) < end
    except (OSError, AttributeError, Refusal):
        return False


def tokenizer_note(first: Iterable[str], base: Iterable[str], role: str) -> str:
    """Return a note if the first folder has no tokenizer and the base has one, else ""."""
    have, others = set(first), file_names.tokenizer_files(sorted(base))
    if file_names.vocabularies(have) or not file_names.vocabularies(others):
        return ""
    lacking = ", ".join(name for name in others if name not in have)
    return f"{role_of(role).name} has no tokenizer, so transformers cannot load the result until you copy the base's into it: {lacking}."


def config_note(role: str, base_has_one: bool) -> str:
    """Return a note about a folder without config.json."""
    until = (
        ", so transformers cannot load the result until you copy the base's into it" if base_has_one else ""
    )
    return f"{role_of(role).name} has no config.json{until}."


def quantised_note(config: dict[str, object], role: str) -> str:
    """Return a note if config.json calls plain weights quantised, since loaders would quantise them; else ""."""
    said = config.get("quantization_config")
    if not isinstance(said, dict):
        return ""
    method = json.dumps(said.get("quant_method"))[:40]
    return (
        f"config.json of the {role} has a quantization_config ({method}), but its weights are not quantised; take it out of the "
        "result's config.json unless you want loaders to quantise them."
    )
