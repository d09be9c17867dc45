"""Assigned folders and allowed repositories, in the admin and on the command line."""

from __future__ import annotations

import html
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command

from access_requests.models import Event
from access_requests.services.catalogue.roles import assign_role
from model_ops.models import AllowedRepository, AssignedFolder

pytestmark = pytest.mark.django_db
FOLDERS = "/admin/model_ops/assignedfolder/"
REPOSITORIES = "/admin/model_ops/allowedrepository/"


@pytest.fixture
def disk(tmp_path: Path, settings: Any) -> Path:
    (tmp_path / "disk" / "ours").mkdir(parents=True)
    settings.GATEHOUSE_SOURCES = [tmp_path / "disk"]
    settings.GATEHOUSE_DEMO = True  # no second factor, which is not tested here
    return tmp_path / "disk"


@pytest.fixture
def boss(make_person: Callable[..., Any], client: Any, disk: Path) -> Any:
    boss = make_person("boss", is_superuser=True)
    client.force_login(boss)
    return boss


def page(answer: Any) -> str:
    return html.unescape(answer.content.decode())


def test_superuser_assigns_a_folder_and_takes_it_back(boss: Any, client: Any, disk: Path) -> None:
    assert f"Choose a folder at or below {disk}." in page(client.get(f"{FOLDERS}add/"))
    sent = client.post(f"{FOLDERS}add/", {"path": f" {disk}/ours/ ", "namespace": "ai"}, follow=True)
    row = AssignedFolder.objects.get()
    assert (row.path, row.namespace, row.assigned_by) == (f"{disk}/ours", "ai", boss)
    assert f"{disk}/ours" in page(sent)
    shown = page(client.get(f"{FOLDERS}{row.pk}/change/"))
    assert 'name="path"' not in shown
    assert "Delete" in shown
    assert "is already assigned to ai" in page(
        client.post(f"{FOLDERS}add/", {"path": f"{disk}/ours", "namespace": "ai"})
    )

    assert client.post(f"{FOLDERS}{row.pk}/delete/", {"post": "yes"}).status_code == 302
    assert not AssignedFolder.objects.exists()
    kinds = [(event.kind, event.actor_id, event.data) for event in Event.objects.order_by("pk")]
    data = {"folder": f"{disk}/ours", "namespace": "ai"}
    assert kinds == [("source.assigned", boss.pk, data), ("source.withdrawn", boss.pk, data)]


def test_overlap_is_said(boss: Any, client: Any, disk: Path) -> None:
    client.post(f"{FOLDERS}add/", {"path": str(disk), "namespace": "ai"})
    sent = client.post(f"{FOLDERS}add/", {"path": str(disk / "ours"), "namespace": "maker"}, follow=True)
    assert f"This overlaps with {disk}, which is assigned to ai: owners of one can read the other." in page(
        sent
    )


@pytest.mark.parametrize("path", ["", "ours", "/etc", "{disk}/none", "{disk}/../disk/ours", "/" + "x" * 2000])
def test_folder_that_cannot_be_assigned_is_a_sentence(boss: Any, client: Any, disk: Path, path: str) -> None:
    answer = client.post(f"{FOLDERS}add/", {"path": path.format(disk=disk), "namespace": "ai"})
    assert answer.status_code == 200
    assert "errorlist" in page(answer)
    assert not AssignedFolder.objects.exists()


def test_superuser_allows_repositories_and_takes_several_back(boss: Any, client: Any, settings: Any) -> None:
    settings.GATEHOUSE_HUB_ENDPOINT = "https://hub.example.org"
    for repo_id, namespace in (("meta/one", "ai"), ("hf:meta/two", "")):
        assert (
            client.post(f"{REPOSITORIES}add/", {"repo_id": repo_id, "namespace": namespace}).status_code
            == 302
        )
    listed = page(client.get(REPOSITORIES))
    assert "every namespace" in listed
    assert "https://hub.example.org" in listed
    for repo_id in ("", "a/b/c", "meta/two", "x" * 500):
        answer = client.post(f"{REPOSITORIES}add/", {"repo_id": repo_id, "namespace": ""})
        assert (answer.status_code, "errorlist" in page(answer)) == (200, True)

    rows = list(AllowedRepository.objects.values_list("pk", flat=True))
    action = {"action": "delete_selected", "_selected_action": rows, "post": "yes"}
    assert client.post(REPOSITORIES, action).status_code == 302
    assert not AllowedRepository.objects.exists()
    kinds = list(Event.objects.order_by("pk").values_list("kind", flat=True))
    assert kinds == ["repository.allowed"] * 2 + ["repository.withdrawn"] * 2


def test_owners_see_and_do_none_of_it(
    client: Any, disk: Path, make_person: Callable[..., Any], make_model: Callable[..., Any]
) -> None:
    ada = make_person("ada")
    assign_role(model=make_model("ai/x"), user=ada, role="owner")
    row = AssignedFolder.objects.create(path=str(disk / "ours"), namespace="maker")
    client.force_login(ada)
    assert "assignedfolder" not in page(client.get("/admin/"))
    for address in (
        FOLDERS,
        f"{FOLDERS}add/",
        f"{FOLDERS}{row.pk}/change/",
        f"{FOLDERS}{row.pk}/delete/",
        REPOSITORIES,
    ):
        assert client.get(address).status_code == 403
        assert client.post(address, {"path": str(disk), "namespace": "ai", "post": "yes"}).status_code == 403
    assert AssignedFolder.objects.get() == row


def test_owner_is_shown_what_may_be_named(
    client: Any, disk: Path, make_person: Callable[..., Any], make_model: Callable[..., Any]
) -> None:
    ada, model = make_person("ada"), make_model("ai/x")
    assign_role(model=model, user=ada, role="owner")
    client.force_login(ada)
    address = f"/admin/access_requests/gatedmodel/{model.pk}/weights/"
    assert "No folder is assigned to your namespace" in page(client.get(address))
    AssignedFolder.objects.create(path=str(disk / "ours"), namespace="AI")
    AssignedFolder.objects.create(path=str(disk), namespace="maker")
    assert f"and the folders below them: {disk}/ours (for ai)." in page(client.get(address))


def said(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    """Run the command and return the JSON it prints; a refusal is under `error`."""
    try:
        call_command("source_rights", *words, "--json")
    except SystemExit as end:
        assert end.code == 1  # noqa: PT017 - the answer is read below
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_operator_does_the_same_by_command(
    disk: Path, capsys: pytest.CaptureFixture[str], settings: Any
) -> None:
    settings.GATEHOUSE_HUB_ENDPOINT = "https://hub.example.org"
    folder = {"folder": f"{disk}/ours", "namespace": "ai"}
    repository = {"repository": "meta/one", "namespace": "", "hub": "https://hub.example.org"}
    assert said(capsys, "list") == {"folders": [], "repositories": [], "without_assignment": []}
    assert said(capsys, "assign", f"{disk}/ours", "ai") == folder
    assert said(capsys, "allow", "meta/one") == repository
    assert said(capsys, "list") == {
        "folders": [folder],
        "repositories": [repository],
        "without_assignment": [],
    }
    assert said(capsys, "assign", f"{disk}/ours")["error"] == "Write source_rights assign PATH NAMESPACE."
    assert said(capsys, "allow")["error"] == "Write source_rights allow REPO_ID [NAMESPACE]."
    assert "is not assigned to maker" in said(capsys, "withdraw", f"{disk}/ours", "maker")["error"]
    assert "is not allowed for ai" in said(capsys, "forbid", "meta/one", "ai")["error"]
    assert said(capsys, "withdraw", f"{disk}/ours/", "AI") == folder
    assert said(capsys, "forbid", "hf:meta/one") == repository
    names = [(event.kind, event.actor_name) for event in Event.objects.order_by("pk")]
    assert names == [
        ("source.assigned", "operator"),
        ("repository.allowed", "operator"),
        ("source.withdrawn", "operator"),
        ("repository.withdrawn", "operator"),
    ]


def test_command_speaks_to_people(disk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (
        ["assign", str(disk), "ai"],
        ["assign", f"{disk}/ours", "maker"],
        ["allow", "meta/one", "ai"],
        ["list"],
    ):
        call_command("source_rights", *words)
    out = capsys.readouterr().out
    assert f"Owners in ai may name {disk} and every folder below it." in out
    assert f"It overlaps with {disk}, which is assigned to ai: owners of one can read the other." in out
    assert "meta/one for ai may be fetched with the portal's Hub token." in out
    assert f"folder      {disk}/ours for maker" in out
