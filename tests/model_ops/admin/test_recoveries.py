"""Weights in the admin: who sees them, who may try again, and sources typed into the form."""

from __future__ import annotations

from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from access_requests.models import GatedModel
from access_requests.services.catalogue.roles import assign_role
from model_ops.enums import RecoveryState
from model_ops.models import Recovery, RecoveryShard, Revision
from model_ops.queries import current_recovery, main_revision
from model_ops.services.sources.assign import assign_folder

CHANGELIST = "/admin/model_ops/recovery/"


@pytest.fixture
def staff(settings: Any) -> None:
    """Let staff sign in without a second factor, as in the demo, since it is not tested here."""
    settings.GATEHOUSE_DEMO = True


@pytest.fixture
def people(
    staff: None, make_person: Callable[..., Any], add_files_model: Callable[..., Any]
) -> dict[str, Any]:
    """The owner and the reviewer of `ai/x`, which has a failed recovery, and another model's owner."""
    model, other = add_files_model("ai/x"), GatedModel.objects.create(repo_id="ai/other", card="")
    found = {name: make_person(name) for name in ("owner", "reviewer", "elsewhere")}
    assign_role(model=model, user=found["owner"], role="owner")
    assign_role(model=model, user=found["reviewer"], role="reviewer")
    assign_role(model=other, user=found["elsewhere"], role="owner")
    Recovery.objects.update(state=RecoveryState.FAILED, error="The disk is full.", attempts=1)
    return found


@pytest.mark.parametrize(("name", "sees", "retries"), [("owner", 1, True), ("reviewer", 1, False), ("elsewhere", 0, False)])  # fmt: skip
def test_recovery_is_seen_by_those_who_decide_and_retried_by_owners(
    people: dict[str, Any], client: Any, name: str, sees: int, retries: bool
) -> None:
    recovery = Recovery.objects.get()
    client.force_login(people[name])

    listed = client.get(CHANGELIST)
    page = client.get(f"{CHANGELIST}{recovery.pk}/change/")
    retried = client.post(f"{CHANGELIST}{recovery.pk}/retry/")

    assert listed.text.count("ai/x") == sees
    assert (page.status_code == 200) is bool(sees)
    assert ("Try again" in page.text) is retries
    assert retried.status_code == (302 if retries else 404)
    state = RecoveryState.PLANNED if retries else RecoveryState.FAILED
    assert Recovery.objects.get().state == state


def test_shards_of_a_spread_recovery_are_shown_to_those_who_decide(
    people: dict[str, Any], client: Any
) -> None:
    recovery = Recovery.objects.get()
    address = f"{CHANGELIST}{recovery.pk}/change/"
    client.force_login(people["reviewer"])
    assert "spread_over" not in client.get(address).text

    RecoveryShard.objects.create(
        recovery=recovery, file="model-00001-of-00002.safetensors", bytes_done=5, bytes_total=2_000_000,
        worker="one@gpu7", attempts=2, error="The disk is full.",
    )  # fmt: skip

    shown = client.get(address).text
    assert "model-00001-of-00002.safetensors" in shown
    assert "5 B of 2.0 MB" in shown
    assert "one@gpu7" in shown
    client.force_login(people["elsewhere"])
    assert "one@gpu7" not in client.get(address).text


def test_retry_of_what_has_not_failed_is_one_sentence(people: dict[str, Any], client: Any) -> None:
    recovery = Recovery.objects.get()
    Recovery.objects.update(state=RecoveryState.READY)
    client.force_login(people["owner"])

    answer = client.post(f"{CHANGELIST}{recovery.pk}/retry/", follow=True)

    assert f"Recovery {recovery.pk} has not failed: there is nothing to try again." in answer.text


@pytest.mark.parametrize(("name", "cancels"), [("owner", True), ("reviewer", False), ("elsewhere", False)])
def test_running_recovery_is_cancelled_by_owners(
    people: dict[str, Any], client: Any, name: str, cancels: bool
) -> None:
    Recovery.objects.update(
        state=RecoveryState.RUNNING, wanted_at=timezone.now(), lease_owner="x", lease_until=timezone.now()
    )
    recovery = Recovery.objects.get()
    client.force_login(people[name])
    address = f"{CHANGELIST}{recovery.pk}"

    page = client.get(f"{address}/change/")
    asked = client.get(f"{address}/cancel/")
    cancelled = client.post(f"{address}/cancel/")

    assert (f"{address}/cancel/" in page.text) is cancels
    assert asked.status_code == 405
    assert cancelled.status_code == (302 if cancels else 404)
    assert Recovery.objects.get().state == (RecoveryState.CANCELLED if cancels else RecoveryState.RUNNING)


def test_cancelling_what_has_failed_is_one_sentence(people: dict[str, Any], client: Any) -> None:
    recovery = Recovery.objects.get()
    client.force_login(people["owner"])

    page = client.get(f"{CHANGELIST}{recovery.pk}/change/")
    answer = client.post(f"{CHANGELIST}{recovery.pk}/cancel/", follow=True)

    assert f"{CHANGELIST}{recovery.pk}/cancel/" not in page.text
    assert f"Recovery {recovery.pk} neither waits nor runs: there is nothing to cancel." in unescape(
        answer.text
    )


def test_revisions_and_downloads_are_read_only(people: dict[str, Any], client: Any) -> None:
    client.force_login(people["owner"])
    revision = Revision.objects.get()

    page = client.get(f"/admin/model_ops/revision/{revision.pk}/change/")

    assert "README.md" in page.text
    assert client.get("/admin/model_ops/revision/add/").status_code == 403
    assert client.post(f"/admin/model_ops/revision/{revision.pk}/delete/").status_code == 403
    assert client.get("/admin/model_ops/download/").status_code == 200


def typed(folder: Path | str, **fields: Any) -> dict[str, Any]:
    roles = {f"roles-{name}": "0" for name in ("TOTAL_FORMS", "INITIAL_FORMS")}
    weights = {"base": "", "diff": "", "files": str(folder)}
    settings = {"dtype": "float32", "compat": "weight_diff", "resize_policy": "mean"}
    entry = {
        "repo_id": "ai/new",
        "card": "# New\n",
        "licence_language": "en",
        "gate": "manual",
        "grant_days": "365",
    }
    return entry | weights | settings | roles | fields


def test_model_is_added_with_its_weights_or_not_at_all(
    staff: None,
    weights_root: Path,
    transactional_db: None,
    make_person: Callable[..., Any],
    client: Any,
    files_folder: Path,
    settings: Any,
) -> None:
    client.force_login(make_person("boss", is_superuser=True))
    address = "/admin/access_requests/gatedmodel/add/"

    refused = client.post(address, typed(files_folder))
    assert "is not below GATEHOUSE_SOURCES" in refused.text
    assert GatedModel.objects.count() == 0

    settings.GATEHOUSE_SOURCES = [files_folder.parent]
    added = client.post(address, typed(files_folder, card="---\nextra_gated_prompt: Be kind.\n---\n# New\n"))

    assert added.status_code == 302
    model = GatedModel.objects.get()
    recovery, revision = current_recovery(model), main_revision(model)
    assert recovery is not None
    assert recovery.plan["files"]
    assert model.licence_versions.get().text == "Be kind."
    assert revision is not None
    assert not revision.has_weights


def test_sources_are_changed_by_owners(
    people: dict[str, Any], client: Any, files_folder: Path, settings: Any
) -> None:
    settings.GATEHOUSE_SOURCES = [files_folder.parent]
    model = GatedModel.objects.get(repo_id="ai/x")
    (files_folder / "config.json").write_text("{}")
    address = f"/admin/access_requests/gatedmodel/{model.pk}/weights/"
    fields = {
        name: value
        for name, value in typed(files_folder).items()
        if name in {"files", "dtype", "compat", "resize_policy"}
    }

    client.force_login(people["reviewer"])
    client.post(address, fields)
    assert Recovery.objects.count() == 1
    client.force_login(people["owner"])
    before = client.post(address, fields)
    assign_folder(path=str(files_folder), namespace="ai")
    wrong = client.post(address, fields | {"files": "/no/folder"})
    right = client.post(address, fields)

    assert "No folder is assigned to ai for you: ask a superuser to assign one." in before.text
    assert f"Folders assigned to ai: {files_folder}." in wrong.text
    assert right.status_code == 302
    assert model.weights.get(replaced_at=None).by_owner
    assert current_recovery(model) == Recovery.objects.latest("pk")
    assert Recovery.objects.count() == 2
