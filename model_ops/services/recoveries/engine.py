"""Use the recovery engine: plan in this process, run in a child."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from access_requests.errors import Invalid
from model_ops.enums import SourceKind
from model_ops.models import Recovery, WeightSource
from model_ops.recovery import MANIFEST
from model_ops.recovery.errors import RecoveryError
from model_ops.recovery.planning.options import Options
from model_ops.recovery.planning.planner import make_plan
from model_ops.services.store.git_objects import StoredFile


def understood(chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Return options as they are stored: checked, and without defaults."""
    try:
        return Options(**chosen).chosen()
    except RecoveryError as error:
        raise Invalid(str(error)) from error


def plan_recovery(*, base: Path, diff: Path, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return what will be read, written, grown and dropped, from headers alone. Raises the engine's refusal."""
    try:
        plan = make_plan(base, diff, Options(**options))
    except RecoveryError as error:
        raise Invalid(str(error)) from error
    return {"text": plan.summary(), **plan.to_json()}


def recover_arguments(
    *, recovery: Recovery, base: Path, diff: Path, target: Path, only: Sequence[str] = ()
) -> list[str]:
    """Return the engine's command line after `python`; with `only`, make just these shards."""
    # Options as single words such as `--dtype=bfloat16`, since a sum may be negative.
    flags = {f"--{name.replace('_', '-')}": value for name, value in recovery.options.items()}
    shared = ["--run-id", recovery.run_id] if recovery.run_id else []
    return [
        *("-m", "model_ops.recovery", "recover"),
        *("--path_raw", _in_place(recovery.base, base), "--path_diff", _in_place(recovery.diff, diff)),
        *("--path_tuned", str(target), "--no-links"),
        *(flag if value is True else f"{flag}={value}" for flag, value in flags.items()),
        *("--json", "--progress-json"),
        *shared,
        *(f"--only={file}" for file in only),
    ]


def _in_place(source: WeightSource | None, folder: Path) -> str:
    """Return the real path for the engine, which follows no links, since the store itself may be behind one."""
    is_stored = source is not None and source.kind == SourceKind.FOLDER
    return str(folder if is_stored else folder.resolve())


def read_result(folder: Path) -> tuple[list[StoredFile], dict[str, Any]]:
    """Return the finished folder's files with their hashes, and the engine's manifest."""
    manifest = json.loads((folder / MANIFEST).read_text())
    files = [StoredFile(f["path"], f["sha256"], f["git_sha1"], f["size"]) for f in manifest["files"]]
    return files, manifest
