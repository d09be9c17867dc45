"""Check a target that already exists: the complete result of the same plan, or something in the way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from model_ops.recovery import MANIFEST
from model_ops.recovery.errors import Refusal
from model_ops.recovery.formats.folder import inner_file, paths_in
from model_ops.recovery.planning.manifest import read_manifest
from model_ops.recovery.planning.plan import Plan


def existing_result(plan: Plan, target: Path, non_finite: str) -> dict[str, Any] | None:
    """Return the manifest of a target that needs no work; refuse a target that is in the way."""
    try:
        if not target.exists() and not target.is_symlink():
            return None
        if not target.is_dir():
            raise Refusal(f"{target.name} exists and is not a folder; choose another place.")
        if not paths_in(target):
            if target.is_symlink():
                raise Refusal(f"{target.name} is a link to an empty folder; name that folder itself.")
            if target.is_mount():
                raise Refusal(
                    f"{target.name} is a mount point, which cannot be replaced; name a folder inside it."
                )
            return None
        manifest = read_manifest(target) if (target / MANIFEST).is_file() else None
        if (
            manifest
            and manifest.get("identity") == plan.identity
            and _is_complete(manifest, target, non_finite)
        ):
            return manifest
    except OSError as error:
        raise Refusal(f"{target.name} cannot be read: {error.strerror}; choose another place.") from error
    raise Refusal(
        f"{target.name or target} already exists and contains something else; choose another folder or move it away."
    )


def _is_complete(manifest: dict[str, Any], target: Path, non_finite: str) -> bool:
    """Return whether the target is complete.

    Its manifest may have been written by someone who knew the plan.
    """
    count, trip = manifest.get("non_finite"), manifest.get("round_trip")
    if type(count) is not int or not isinstance(trip, dict | None):
        return False
    if count and non_finite == "refuse":
        return False
    folder = target.resolve()
    for entry in manifest["files"]:
        if not isinstance(entry, dict):
            return False
        if not all(isinstance(entry.get(key), str) for key in ("path", "sha256")):
            return False
        try:
            size = inner_file(folder, entry["path"]).stat().st_size
        except (OSError, Refusal):
            return False
        if size != entry.get("size"):
            return False
    return True
