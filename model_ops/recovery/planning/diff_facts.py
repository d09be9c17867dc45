"""Read what our own make_diff recorded with a diff, and check whether a base's headers fit it.

The record is not trusted.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from model_ops.recovery import MANIFEST
from model_ops.recovery.checkpoints.checkpoint import Checkpoint
from model_ops.recovery.checkpoints.ties import parse_tied
from model_ops.recovery.errors import Refusal
from model_ops.recovery.formats.dtypes import ADDABLE, WHOLE
from model_ops.recovery.formats.file_names import is_licence
from model_ops.recovery.formats.folder import inner_file
from model_ops.recovery.formats.tensors import TensorRef
from model_ops.recovery.planning.manifest import read_manifest
from model_ops.recovery.planning.options import COMPATS, DIFF_ONLY, METHODS, RESIZE_POLICIES, Options

_SHA256 = re.compile(r"[0-9a-f]{64}")
_MOST_DIMENSIONS = 16


@dataclass(frozen=True)
class TensorFact:
    """One tensor of the base that a diff was made from; the values are hashed as `dtype`."""

    dtype: str
    shape: tuple[int, ...]
    sha256: str


@dataclass(frozen=True)
class DiffFacts:
    """What our own make_diff recorded: how to recover the diff, and the base that it was made from.

    `compat` is None for bytes, `resize_policy` None if no row was new. `tied` and `diff_only` are what its
    maker chose; `rules` says what was done to each tensor.
    """

    method: str
    compat: str | None
    resize_policy: str | None
    base_tensors: dict[str, TensorFact]
    tied: str | None = None
    diff_only: str | None = None
    rules: dict[str, str] = field(default_factory=dict)

    def completed(self, options: Options) -> Options:
        """Return the options, with those that the user left open taken from the diff's maker."""
        tied = self.tied if options.tied is None else options.tied
        diff_only = self.diff_only if options.diff_only is None else options.diff_only
        return replace(options, tied=tied, diff_only=diff_only)


def read_diff_facts(folder: Path) -> DiffFacts | None:
    """Return what our own make_diff recorded with a diff; None for any other folder. It is not trusted."""
    manifest = read_manifest(folder)
    if manifest is None or manifest.get("action") != "make_diff":
        return None
    options, tensors = manifest.get("options"), manifest.get("base_tensors")
    if not isinstance(options, dict) or not isinstance(tensors, dict):
        raise Refusal(f"{MANIFEST} in {folder.name} is damaged; remove it to continue without its checks.")
    _check_files(folder, manifest["files"])
    method = _known_choice(options, "method", METHODS)
    if method == "xor":
        return DiffFacts("xor", None, None, _tensor_facts(tensors, ("U8",)))
    policy = _known_choice(options, "resize_policy", (None, *RESIZE_POLICIES))
    compat = _known_choice(options, "compat", tuple(COMPATS))
    base_tensors = _tensor_facts(tensors, (*ADDABLE, *WHOLE))
    tied = options.get("tied")
    if tied is not None:
        if not isinstance(tied, str):
            raise Refusal(
                f"The diff's {MANIFEST} says of tied tensors what is not understood: {str(tied)[:100]!r}."
            )
        parse_tied(tied)
    diff_only = _known_choice(options, "diff_only", (None, *DIFF_ONLY))
    made = manifest.get("tensors")
    table = made if isinstance(made, dict) else {}
    said = {name: entry.get("rule") for name, entry in table.items() if isinstance(entry, dict)}
    rules = {name: rule for name, rule in said.items() if isinstance(rule, str)}
    return DiffFacts("add", compat, policy, base_tensors, tied, diff_only, rules)


def _check_files(folder: Path, entries: list[Any]) -> None:
    """Check that every file of the diff is there with its size.

    `verify` checks the hashes, since it reads everything.
    """
    for entry in entries:
        name, size = (entry.get("path"), entry.get("size")) if isinstance(entry, dict) else (None, None)
        if not isinstance(name, str) or not isinstance(size, int):
            raise Refusal(
                f"{MANIFEST} in {folder.name} is damaged; remove it to continue without its checks."
            )
        if is_licence(name):
            continue  # a release may have a different text under this name
        found = inner_file(folder, name).stat().st_size
        if found != size:
            raise Refusal(
                f"{name} in {folder.name} is {found} bytes long instead of {size}, as its {MANIFEST} says; "
                "download the diff again."
            )


def _known_choice(options: dict[str, Any], name: str, values: tuple[str | None, ...]) -> Any:
    value = options.get(name)
    if (value is not None and not isinstance(value, str)) or value not in values:
        raise Refusal(
            f"The diff's {MANIFEST} names a {name.replace('_', ' ')} that is not known: {str(value)[:100]!r}."
        )
    return value


def _tensor_facts(tensors: dict[str, Any], dtypes: tuple[str, ...]) -> dict[str, TensorFact]:
    facts: dict[str, TensorFact] = {}
    for name, fact in tensors.items():
        table = fact if isinstance(fact, dict) else {}
        dtype, shape, sha256 = table.get("dtype"), table.get("shape"), table.get("sha256")
        sound = (
            name.isprintable()
            and isinstance(dtype, str)
            and dtype in dtypes
            and isinstance(shape, list)
            and len(shape) <= _MOST_DIMENSIONS
            and all(type(size) is int and 0 <= size < 2**63 for size in shape)
            and isinstance(sha256, str)
            and _SHA256.fullmatch(sha256)
        )
        if not sound:
            raise Refusal(
                f"The diff's {MANIFEST} is damaged at the base tensor {name[:200]!r}; remove it to continue without "
                "its checks."
            )
        facts[name] = TensorFact(table["dtype"], tuple(table["shape"]), table["sha256"])
    return facts


def check_headers(facts: dict[str, TensorFact], base: Checkpoint) -> None:
    """Refuse a base that lacks a tensor or has one with a different shape."""
    for name, fact in facts.items():
        find_fitting(base, name, fact)


def find_fitting(base: Checkpoint, name: str, fact: TensorFact) -> TensorRef:
    """Return the base's tensor that the fact describes. Raises Refusal if it is missing or does not fit."""
    ref = base.find(name)
    made_from = f"The diff was made from a base that has {name[:200]} with shape {list(fact.shape)}"
    if ref is None:
        raise Refusal(
            f"{made_from}, but this base has no such tensor; use the base that its publisher names."
        )
    if ref.shape != fact.shape:
        raise Refusal(
            f"{made_from}, but in this base it has shape {list(ref.shape)}; use the base that its publisher names."
        )
    if ref.dtype != fact.dtype and not {ref.dtype, fact.dtype} <= set(ADDABLE):
        raise Refusal(f"The base tensor {ref.name} has dtype {ref.dtype}, not {fact.dtype}.")
    return ref
