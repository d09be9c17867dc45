from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from access_requests.errors import Invalid
from model_ops.enums import SourceKind
from model_ops.models import Recovery, Revision
from model_ops.queries import current_recovery, main_revision
from model_ops.services.catalogue.add_model import update_model
from model_ops.services.recoveries.run import run_recovery
from model_ops.services.recoveries.weights import prepare_weights
from model_ops.services.sources.spec import fetched_folder, list_files, resolve_source
from model_ops.services.sources.upload import lay_out
from model_ops.services.store.blobs import blob_path
from tests.model_ops.uploads import WEIGHTS, Uploads


def test_upload_is_a_source_as_links_to_its_contents(held: Uploads) -> None:
    revision = held.commit({"model.safetensors": WEIGHTS, "deep/config.json": b"{}"}).revision
    text = f"gatehouse:{held.model.repo_id}@{revision.commit}"
    source = resolve_source(text=text)
    assert (source.kind, source.spec, source.revision) == (SourceKind.UPLOAD, text, revision)
    assert resolve_source(text=f" {text.replace('ada/', 'ADA/')} ") == source
    folder = fetched_folder(source)
    assert sorted(list_files(folder)) == ["deep/config.json", "model.safetensors"]
    stored = blob_path(revision.files.get(path="model.safetensors").blob_id)
    assert (folder / "model.safetensors").samefile(stored)
    assert lay_out(source) == folder


def test_upload_without_weights_or_unknown_is_no_source(held: Uploads) -> None:
    revision = held.commit({"config.json": b"{}"}).revision
    for text, why in (
        (f"gatehouse:ada/model@{revision.commit}", "holds no weight file"),
        (f"gatehouse:ada/model@{'0' * 40}", "has no commit"),
        ("gatehouse:ada/model@main", "write gatehouse:REPO_ID@COMMIT"),
        (f"gatehouse:no/such@{revision.commit}", "not belong to a model that you own"),
        ("gatehouse:../..@x", "write gatehouse:REPO_ID@COMMIT"),
    ):
        with pytest.raises(Invalid, match=why):
            resolve_source(text=text)


def test_in_the_admin_a_source_is_chosen_among_ones_own(make_uploads: Callable[..., Uploads]) -> None:
    ada, eve = make_uploads("ada"), make_uploads("eve")
    revision = ada.commit({"model.safetensors": WEIGHTS}).revision
    text = f"gatehouse:ada/model@{revision.commit}"
    assert resolve_source(text=text, in_admin=True, actor=ada.owner).revision == revision
    for actor in (eve.owner, None):
        with pytest.raises(Invalid, match="not belong to a model that you own"):
            resolve_source(text=text, in_admin=True, actor=actor)


@pytest.mark.django_db(transaction=True)
def test_uploaded_diff_on_an_uploaded_base_is_recovered_and_published(
    make_uploads: Callable[..., Uploads], tiny_pair: Path
) -> None:
    ada = make_uploads("ada")
    sources: dict[str, Any] = {}
    for name in ("base", "diff"):
        files = {
            str(path.relative_to(tiny_pair / name)): path.read_bytes()
            for path in (tiny_pair / name).rglob("*")
            if path.is_file() and path.name != "README.md"
        }
        revision = ada.commit(files, branch="main").revision
        sources[name] = f"gatehouse:ada/model@{revision.commit}"
    prepared = prepare_weights(**sources, options={"dtype": "bfloat16"}, in_admin=True, actor=ada.owner)
    assert Revision.objects.filter(held_at__isnull=False, sources=None).count() == 0
    update_model(model=ada.model, prepared=prepared, actor=ada.owner)
    recovery = current_recovery(ada.model)
    assert recovery is not None
    Recovery.objects.filter(pk=recovery.pk).update(wanted_at="2026-01-01T00:00Z")
    run_recovery(recovery_id=recovery.pk)
    recovery.refresh_from_db()
    main = main_revision(ada.model)
    assert (recovery.state, recovery.error, main and main.recovery) == ("ready", "", recovery)
    assert ada.model.repo_id in prepared.inputs["diff"].spec
