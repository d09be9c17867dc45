"""The recovery engine as the portal uses it: plans in this process, runs in a child."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from access_requests.errors import Invalid
from model_ops.models import Recovery
from model_ops.recovery import MANIFEST
from model_ops.recovery.errors import RecoveryError
from model_ops.recovery.options import Options
from model_ops.recovery.plan import make_plan
from model_ops.services.repository import StoredFile


def plan_recovery(*, base: Path, diff: Path, dtype: str, compat: str, resize_policy: str) -> dict[str, Any]:
    """What will be read, written, grown and dropped, from headers alone; the engine's refusal passes through."""
    try:
        plan = make_plan(base, diff, Options(dtype=dtype, compat=compat, resize_policy=resize_policy))
    except RecoveryError as error:
        raise Invalid(str(error)) from error
    return {"text": plan.summary(), **plan.to_json()}


def recover_arguments(*, recovery: Recovery, base: Path, diff: Path, target: Path) -> list[str]:
    """The engine's command line, after `python`."""
    return [
        *("-m", "model_ops.recovery", "recover"),
        *("--path_raw", str(base), "--path_diff", str(diff), "--path_tuned", str(target)),
        *("--dtype", recovery.dtype, "--compat", recovery.compat, "--resize-policy", recovery.resize_policy),
        *("--json", "--progress-json"),
    ]


def read_result(folder: Path) -> tuple[list[StoredFile], dict[str, Any]]:
    """The finished folder's files with their hashes, and the engine's whole manifest."""
    manifest = json.loads((folder / MANIFEST).read_text())
    files = [StoredFile(f["path"], f["sha256"], f["git_sha1"], f["size"]) for f in manifest["files"]]
    return files, manifest
