"""Only unused files are removed from the store."""

from __future__ import annotations

import fcntl
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.utils import timezone

from access_requests.errors import Conflict
from model_ops.enums import RecoveryState, SourceKind
from model_ops.models import Blob, Recovery, RepoFile, WeightSource
from model_ops.services import clean
from model_ops.services.clean import clean_weights
from model_ops.services.recoveries.run import run_recovery
from model_ops.services.recoveries.weights import want_recovery
from model_ops.services.sources.spec import fetched_folder
from model_ops.services.store.blobs import blob_path, store_bytes
from tests.model_ops.conftest import published_files

AT_ONCE = -10.0  # seconds: new files count as old


@pytest.fixture
def model(add_files_model: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    """A model whose weights are published."""
    made = add_files_model("ai/plain")
    recovery = made.weights.get().recovery
    want_recovery(recovery=recovery)
    run_recovery(recovery_id=recovery.pk)
    monkeypatch.setattr(clean, "KEPT", AT_ONCE)
    return made


def source(repo_id: str, *, state: str | None = None) -> Path:
    """Create the folder of a fetched repository; with `state`, also a recovery made from it."""
    row = WeightSource.objects.create(
        spec=f"hf:{repo_id}@{'a' * 40}", kind=SourceKind.HUB, endpoint="https://hub.example.org", repo_id=repo_id, commit="a" * 40
    )  # fmt: skip
    if state:
        lease = {"lease_owner": "x", "lease_until": timezone.now()} if state == RecoveryState.RUNNING else {}
        Recovery.objects.create(method="copy", files=row, state=state, **lease)
    folder = fetched_folder(row)
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"x" * 1000)
    return folder


def test_unused_content_goes_and_used_content_stays(model: Any, weights_root: Path) -> None:
    unused = blob_path(store_bytes(path="x", content=b"of nobody").sha256)
    Blob.objects.create(sha256=unused.name, git_oid="0" * 40, size=9)
    leftover = unused.with_name(f".{'b' * 64}.1234")
    leftover.write_bytes(b"half")
    before = {path: stored.read_bytes() for path, stored in published_files(model).items()}

    assert {found.path for found in clean_weights(dry_run=True)} == {unused, leftover}
    assert unused.is_file()
    assert {found.path for found in clean_weights()} == {unused, leftover}

    assert not unused.exists()
    assert not leftover.exists()
    assert not Blob.objects.filter(pk=unused.name).exists()
    assert {path: stored.read_bytes() for path, stored in published_files(model).items()} == before
    assert clean_weights() == []
    assert not (weights_root / clean.ASIDE).exists()


def test_what_a_recovery_made_stays_though_no_revision_shows_it(model: Any) -> None:
    """If the same inputs are chosen again, its files are published."""
    stored = published_files(model)
    made = {file["path"] for file in Recovery.objects.get().manifest["files"]}
    RepoFile.objects.all().delete()
    clean_weights()
    assert {path for path, blob in stored.items() if blob.is_file()} == made


def test_fresh_content_stays(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clean, "KEPT", 3600)
    store_bytes(path="x", content=b"about to be used")
    source("far/fresh")
    assert clean_weights() == []


def test_fetched_source_goes_when_its_recoveries_are_ready(model: Any) -> None:
    gone = [source("far/ready", state=RecoveryState.READY), source("far/none")]
    partial = source("far/cut").rename(source("far/other").with_name("b" * 40 + ".partial"))
    kept = [source(f"far/{state}", state=state) for state in (RecoveryState.PLANNED, RecoveryState.FAILED, RecoveryState.REFUSED, RecoveryState.CANCELLED)]  # fmt: skip
    clean_weights()
    assert [path for path in (*gone, partial) if path.exists()] == []
    assert [path for path in kept if not path.is_dir()] == []


def test_source_that_is_being_fetched_stays(model: Any) -> None:
    folder = source("far/now")
    partial = folder.rename(folder.with_name(f"{folder.name}.partial"))
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert clean_weights() == []
    assert [found.path for found in clean_weights()] == [partial]


def test_nothing_is_removed_while_a_recovery_runs(model: Any) -> None:
    folder = source("far/base", state=RecoveryState.RUNNING)
    unused = blob_path(store_bytes(path="x", content=b"of nobody").sha256)
    with pytest.raises(Conflict, match="is running: clean up when no recovery is running"):
        clean_weights()
    assert folder.is_dir()
    assert unused.is_file()


def test_other_files_in_the_store_are_not_touched(model: Any, weights_root: Path) -> None:
    stranger = weights_root / "blobs" / "ab" / "notes.txt"
    stranger.parent.mkdir(parents=True, exist_ok=True)
    stranger.write_text("mine")
    assert clean_weights() == []
    assert stranger.is_file()


def test_command_says_what_it_removes(model: Any) -> None:
    folder = source("far/none")
    for dry in (["--dry-run"], []):
        out = io.StringIO()
        call_command("clean_weights", *dry, "--json", stdout=out)
        said = json.loads(out.getvalue())
        assert said == {"removed": [str(folder)], "bytes": 1000, "dry_run": bool(dry)}
    assert not folder.exists()
