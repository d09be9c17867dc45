"""Read and write weights.manifest.json: what a folder holds and what it was made from.

It contains no times and no paths, so the same inputs give the same bytes.
"""

from __future__ import annotations

import json
from json.encoder import encode_basestring_ascii as _quoted
from math import isfinite
from pathlib import Path
from typing import Any

from model_ops.recovery import ENGINE, ENGINE_VERSION, MANIFEST
from model_ops.recovery.errors import Refusal
from model_ops.recovery.formats.folder import inner_file, read_json_file


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """Return the manifest of a folder; None if there is none."""
    path = folder / MANIFEST
    if not path.exists() and not path.is_symlink():
        return None
    manifest = read_json_file(inner_file(folder, MANIFEST))
    if manifest.get("engine") != ENGINE or not isinstance(manifest.get("files"), list):
        raise Refusal(f"{MANIFEST} in {folder.name} was not written by this engine.")
    return manifest


def check_role(folder: Path, role: str) -> None:
    """Refuse a folder whose manifest contradicts its role: a diff given as a model, or the reverse."""
    try:
        manifest = read_manifest(folder) or {}
    except Refusal:
        if role == "diff":
            raise
        return  # another tool's file of this name does no harm
    action = manifest.get("action")
    if (action == "make_diff") != (role == "diff") and action in ("make_diff", "recover"):
        kind = "a diff" if action == "make_diff" else "recovered weights"
        raise Refusal(
            f"{folder.name} holds {kind}, as its {MANIFEST} says, and was named as the {role}; "
            "look whether two folders were swapped."
        )


def build_manifest(facts: dict[str, Any]) -> bytes:
    """Return the bytes of the file; engine and version are filled in."""
    return (indented({"engine": ENGINE, "engine_version": ENGINE_VERSION, **facts}) + "\n").encode()


def indented(value: Any, line: str = "\n") -> str:
    """Return what `json.dumps(value, indent=1)` returns, in a fifth of the time; every key must be a string.

    `line` is a line break and the indent of the following line.
    """
    deeper = line + " "
    if isinstance(value, dict) and value:
        lines = [
            f"{_quoted(key)}: {_encode_scalar(each) or indented(each, deeper)}" for key, each in value.items()
        ]
        return f"{{{deeper}{(',' + deeper).join(lines)}{line}}}"
    if isinstance(value, list | tuple) and value:
        return f"[{deeper}{(',' + deeper).join([_encode_scalar(each) or indented(each, deeper) for each in value])}{line}]"
    return json.dumps(value)


def _encode_scalar(value: Any) -> str:
    """Return the JSON of the most common kinds of values, "" for any other."""
    kind = type(value)
    if kind is str:
        return _quoted(value)
    if kind is float and isfinite(value):
        return repr(value)
    return repr(value) if kind is int else ""
