"""A target that is there already: the complete result of the same plan, or something that is in the way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from model_ops.recovery import MANIFEST
from model_ops.recovery.errors import Refusal
from model_ops.recovery.manifest import read_manifest
from model_ops.recovery.planned import Plan


def existing_result(plan: Plan, target: Path, non_finite: str) -> dict[str, Any] | None:
    """The manifest of a target that needs no work; a target that is in the way is refused."""
    if not target.exists() and not target.is_symlink():
        return None
    if not target.is_dir():
        raise Refusal(f"{target.name} exists and is not a folder; choose another place.")
    if not any(target.iterdir()):
        return None
    manifest = read_manifest(target) if (target / MANIFEST).is_file() else None
    if manifest and manifest.get("identity") == plan.identity and _is_complete(manifest, target, non_finite):
        return manifest
    raise Refusal(f"{target.name} exists and holds something else; choose another folder or move it away.")


def _is_complete(manifest: dict[str, Any], target: Path, non_finite: str) -> bool:
    if non_finite == "refuse" and manifest.get("non_finite"):
        return False
    for entry in manifest["files"]:
        path = target / str(entry.get("path"))
        if not path.is_file() or path.stat().st_size != entry.get("size"):
            return False
    return True
