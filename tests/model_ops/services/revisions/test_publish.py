"""Revisions: changes are published, the rest stays, and content is stored once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from access_requests.models import Event
from access_requests.services.catalogue.gated_models import LicenceText
from model_ops.enums import RecoveryState
from model_ops.hub.listing import git_oid
from model_ops.models import RepoFile, Revision
from model_ops.queries import current_recovery, main_revision, published, weights_state
from model_ops.recovery.formats.git_ids import blob_id, pointer_id
from model_ops.services.catalogue.add_model import update_model
from model_ops.services.recoveries.run import run_recovery
from model_ops.services.recoveries.weights import prepare_weights, want_recovery
from model_ops.services.revisions.publish import publish_revision
from model_ops.services.store.blobs import blob_path, is_stored, store_bytes
from tests.model_ops.conftest import copy_pair, published_files


def make_ready(model: Any) -> None:
    recovery = current_recovery(model)
    assert recovery is not None
    want_recovery(recovery=recovery)
    run_recovery(recovery_id=recovery.pk)
    recovery.refresh_from_db()
    assert recovery.state == RecoveryState.READY


def test_first_revision_has_card_and_licences_only(add_files_model: Callable[..., Any]) -> None:
    licences = [
        LicenceText("LICENSE.txt", "en", "Be good.\n"),
        LicenceText("LICENSE.txt", "de", "Sei gut.\n"),
    ]
    model = add_files_model(licences=licences)

    files = published_files(model)
    assert set(files) == {".gitattributes", "README.md", "LICENSE.txt", "LICENSE.de.txt"}
    assert files["LICENSE.de.txt"].read_text() == "Sei gut.\n"
    assert published(model) is None
    state = weights_state(model)
    assert (state.ready, state.percent, state.state) == (False, 0, RecoveryState.PLANNED)
    assert state.sentence.isascii()


def test_publishing_again_changes_nothing(add_files_model: Callable[..., Any]) -> None:
    model = add_files_model()
    make_ready(model)
    before = main_revision(model)

    assert publish_revision(model=model) == before
    assert Revision.objects.filter(model=model).count() == 2
    assert Event.objects.filter(kind="revision.published").count() == 2


def test_new_card_keeps_the_weights(
    add_files_model: Callable[..., Any], make_person: Callable[..., Any]
) -> None:
    model = add_files_model()
    make_ready(model)
    before = published_files(model)
    editor = make_person("ada")

    revision = update_model(model=model, card="# New\n", actor=editor)

    after = published_files(model)
    assert (revision.has_weights, revision.author, revision.title) == (
        True,
        "ada",
        "Update the card and licences",
    )
    assert after["README.md"].read_text() == "# New\n"
    assert after["model.safetensors"] == before["model.safetensors"]
    assert len({r.commit for r in Revision.objects.filter(model=model)}) == 3


def test_new_sources_replace_the_weights_only_when_they_are_ready(
    add_files_model: Callable[..., Any], files_folder: Path, tmp_path: Path, grant: Callable[..., Any]
) -> None:
    model = add_files_model()
    make_ready(model)
    grant(model, "ada")
    old = published_files(model)
    folder = copy_pair(files_folder, tmp_path / "next")
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[:-1] + b"\1")

    revision = update_model(model=model, prepared=prepare_weights(files=str(folder)))

    recovery = current_recovery(model)
    assert recovery is not None
    assert recovery.wanted_at is not None
    assert published(model) == revision
    assert published_files(model) == old
    run_recovery(recovery_id=recovery.pk)
    assert published_files(model)["model.safetensors"].read_bytes() == weights[:-1] + b"\1"
    assert published_files(model)["config.json"] == old["config.json"]


@pytest.mark.parametrize("together", [True, False])
def test_content_under_an_lfs_name_and_under_another_has_the_id_of_each(
    add_files_model: Callable[..., Any], files_folder: Path, tmp_path: Path, together: bool
) -> None:
    content = b'{"one": "vocabulary"}'
    (files_folder / "a.model").write_bytes(content)
    folder = files_folder if together else copy_pair(files_folder, tmp_path / "other")
    (folder / "b.json").write_bytes(content)
    for number, source in enumerate(dict.fromkeys([files_folder, folder])):
        make_ready(add_files_model(f"ai/m{number}", folder=source))

    ids = {(file.path, git_oid(file)) for file in RepoFile.objects.filter(path__in=["a.model", "b.json"])}

    of_pointer = pointer_id(hashlib.sha256(content).hexdigest(), len(content))
    assert ids == {("a.model", of_pointer), ("b.json", blob_id(content))}


def test_content_is_stored_once_and_for_its_owner_alone(weights_root: Path) -> None:
    first, again = store_bytes(path="a", content=b"x"), store_bytes(path="b", content=b"x")

    assert first.sha256 == again.sha256
    assert is_stored(first)
    path = blob_path(first.sha256)
    assert [p for p in weights_root.rglob("*") if p.is_file()] == [path]
    assert (path.stat().st_mode & 0o777, path.read_bytes()) == (0o600, b"x")
