"""Which sources people may use: owners those assigned to their namespace, superusers and operators all."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from access_requests.enums import Role
from access_requests.errors import Conflict, Invalid, NotAllowed, RuleError
from access_requests.models import Event, ModelRole
from access_requests.services.catalogue.names import rename_model
from access_requests.services.catalogue.roles import assign_role
from model_ops.enums import RecoveryState
from model_ops.models import AllowedRepository, AssignedFolder, ModelWeights, WeightSource
from model_ops.queries import current_recovery
from model_ops.services.catalogue.add_model import add_model_with_weights, check_new, update_model
from model_ops.services.recoveries.run import run_recovery
from model_ops.services.recoveries.weights import prepare_weights, want_recovery
from model_ops.services.sources.assign import (
    allow_repository,
    assign_folder,
    folders_without_assignment,
    others_who_may,
    withdraw_folder,
    withdraw_repository,
)
from model_ops.services.sources.rights import folders_of, may_use_token
from model_ops.services.sources.spec import fetched_folder, resolve_source
from tests.model_ops.conftest import published_files


def copy_of(folder: Path, to: Path) -> Path:
    """Copy a folder of small files and return the copy."""
    to.mkdir(parents=True)
    for path in folder.iterdir():
        (to / path.name).write_bytes(path.read_bytes())
    return to


@pytest.fixture
def disk(tmp_path: Path, files_folder: Path, settings: Any) -> Path:
    """`disk/ours` is assigned to namespace ai, `disk/theirs` to nobody; both hold the same kind of files."""
    disk = tmp_path / "disk"
    copy_of(files_folder, disk / "ours" / "one")
    copy_of(files_folder, disk / "theirs" / "secret")
    settings.GATEHOUSE_SOURCES = [disk]
    return disk


@pytest.fixture
def ada(make_person: Callable[..., Any], add_files_model: Callable[..., Any]) -> Any:
    """An owner in namespace ai."""
    ada = make_person("ada")
    add_files_model("ai/x", owner=ada)
    return ada


@pytest.fixture
def boss(make_person: Callable[..., Any]) -> Any:
    return make_person("boss", is_superuser=True)


def named(text: Path | str, actor: Any, namespace: str = "ai") -> WeightSource:
    return resolve_source(text=str(text), in_admin=True, actor=actor, namespace=namespace)


def refusal(text: Path | str, actor: Any, namespace: str = "ai") -> str:
    with pytest.raises(Invalid) as refused:
        named(text, actor, namespace)
    return refused.value.sentence


def test_folder_is_an_owners_from_the_assignment_to_its_end(ada: Any, boss: Any, disk: Path) -> None:
    ours = disk / "ours" / "one"
    assert "No folder is assigned to ai for you" in refusal(ours, ada)
    assigned = assign_folder(path=str(disk / "ours"), namespace="AI", actor=boss)

    assert named(ours, ada).spec == str(ours)
    assert "No folder is assigned to maker" in refusal(ours, ada, "maker")

    withdraw_folder(assigned=assigned, actor=boss)
    assert "No folder is assigned to ai for you" in refusal(ours, ada)
    kinds = list(Event.objects.filter(kind__startswith="source.").order_by("pk").values_list("kind", "actor"))
    assert kinds == [("source.assigned", boss.pk), ("source.withdrawn", boss.pk)]


def test_superuser_names_unassigned_folders(boss: Any, disk: Path, db: None) -> None:
    assert named(disk / "theirs" / "secret", boss).spec == str(disk / "theirs" / "secret")


def test_reviewer_and_stranger_name_nothing(
    ada: Any, boss: Any, disk: Path, make_person: Callable[..., Any]
) -> None:
    from access_requests.access.catalogue import find_model

    assign_folder(path=str(disk / "ours"), namespace="ai", actor=boss)
    bob, eve = make_person("bob"), make_person("eve")
    assign_role(model=find_model("ai/x"), user=bob, role=Role.REVIEWER)  # type: ignore[arg-type]
    sentences = {refusal(disk / "ours" / "one", who) for who in (bob, eve)}
    assert len(sentences) == 1
    assert "for you" in sentences.pop()
    ModelRole.objects.filter(user=ada).delete()
    assert "for you" in refusal(disk / "ours" / "one", ada)


def test_assignment_is_checked(boss: Any, ada: Any, disk: Path, settings: Any, tmp_path: Path) -> None:
    (disk / "link").symlink_to(disk / "ours")
    (disk / "cache" / "snapshots" / "abc").mkdir(parents=True)
    (disk / "state" / "weights").mkdir(parents=True)
    settings.WEIGHTS_ROOT = disk / "state" / "weights"
    for path, why in {
        "ours": "not an absolute path",
        f"{disk}/../disk/ours": "not an absolute path",
        str(tmp_path): "is not at or below a folder of GATEHOUSE_SOURCES",
        f"{tmp_path}/disk2": "is not at or below a folder of GATEHOUSE_SOURCES",
        str(disk / "none"): "is not an existing folder",
        str(disk / "ours" / "one" / "config.json"): "is not an existing folder",
        str(disk): "holds the portal's own state",
        str(disk / "state" / "weights"): "holds the portal's own state",
        str(disk / "cache" / "snapshots"): "is part of a Hub cache",
        str(disk / "cache" / "snapshots" / "abc"): "is part of a Hub cache",
        f"{disk}/a\0b": "not an absolute path",
    }.items():
        with pytest.raises(Invalid, match=why):
            assign_folder(path=path, namespace="ai", actor=boss)
    for namespace in ("", "a/b", "..", "admin", "a b", "x" * 97):
        with pytest.raises(Invalid, match="is not a namespace"):
            assign_folder(path=str(disk / "ours"), namespace=namespace, actor=boss)
    with pytest.raises(NotAllowed):
        assign_folder(path=str(disk / "ours"), namespace="ai", actor=ada)
    assert assign_folder(path=f"{disk / 'link'}/", namespace="ai", actor=boss).path == str(disk / "ours")
    with pytest.raises(Conflict, match="is already assigned to Ai"):
        assign_folder(path=str(disk / "ours"), namespace="Ai", actor=boss)
    assert AssignedFolder.objects.count() == 1


def test_overlapping_assignments_are_named(boss: Any, disk: Path, db: None) -> None:
    first = assign_folder(path=str(disk / "ours"), namespace="ai", actor=boss)
    second = assign_folder(path=str(disk / "ours" / "one"), namespace="maker", actor=boss)
    assert others_who_may(first) == [second]
    assert others_who_may(second) == [first]
    assert others_who_may(assign_folder(path=str(disk / "theirs"), namespace="ai", actor=boss)) == []


def test_assigned_folder_that_became_a_link_counts_no_more(boss: Any, disk: Path, db: None) -> None:
    assign_folder(path=str(disk / "ours"), namespace="ai", actor=boss)
    assert folders_of("ai") == [disk / "ours"]
    (disk / "ours").rename(disk / "moved")
    (disk / "ours").symlink_to(disk / "theirs")
    assert folders_of("ai") == []


def test_folder_outside_the_sources_of_today_counts_no_more(
    boss: Any, disk: Path, db: None, settings: Any
) -> None:
    assign_folder(path=str(disk / "ours"), namespace="ai", actor=boss)
    settings.GATEHOUSE_SOURCES = [disk / "theirs"]
    assert folders_of("ai") == []


def test_right_that_ended_is_refused_by_the_worker(
    ada: Any, boss: Any, disk: Path, weights_root: Path
) -> None:
    from access_requests.access.catalogue import find_model

    model = find_model("ai/x")
    assert model is not None
    assigned = assign_folder(path=str(disk / "ours"), namespace="ai", actor=boss)
    sources = {"files": str(disk / "ours" / "one"), "in_admin": True, "actor": ada, "namespace": "ai"}
    update_model(model=model, prepared=prepare_weights(**sources), actor=ada)
    recovery = current_recovery(model)
    assert recovery is not None
    withdraw_folder(assigned=assigned, actor=boss)

    want_recovery(recovery=recovery)
    run_recovery(recovery_id=recovery.pk)
    recovery.refresh_from_db()
    assert recovery.state != RecoveryState.READY
    assert recovery.error == (
        f"The folder {disk}/ours/one is not assigned to ai: ask a superuser to assign it, then try again."
    )

    assign_folder(path=str(disk / "ours"), namespace="ai", actor=boss)
    from model_ops.services.recoveries.weights import retry

    run_recovery(recovery_id=retry(recovery=recovery, actor=ada).pk)
    recovery.refresh_from_db()
    assert (recovery.state, recovery.error) == (RecoveryState.READY, "")
    assert published_files(model)["config.json"].read_bytes() == (disk / "ours/one/config.json").read_bytes()


def test_sources_that_were_there_before_stay(ada: Any, weights_root: Path) -> None:
    """A row from before the rights has `by_owner` False, like those of operators."""
    weights = ModelWeights.objects.get()
    assert weights.by_owner is False
    want_recovery(recovery=weights.recovery)
    run_recovery(recovery_id=weights.recovery.pk)
    weights.recovery.refresh_from_db()
    assert weights.recovery.state == RecoveryState.READY
    assert folders_without_assignment() == [(weights.recovery.files.spec, "ai/x")]  # type: ignore[union-attr]


def test_plan_of_an_operator_is_not_attached_by_an_owner(ada: Any, disk: Path, weights_root: Path) -> None:
    """An owner cannot use a source just because an operator checked it without limits."""
    from access_requests.access.catalogue import find_model

    prepared = prepare_weights(files=str(disk / "theirs" / "secret"))
    model = find_model("ai/x")
    assert model is not None
    with pytest.raises(Invalid, match="is not assigned to ai"):
        update_model(model=model, prepared=prepared, actor=ada)
    assert ModelWeights.objects.count() == 1


def test_superuser_who_names_the_same_takes_the_sources_over(
    ada: Any, boss: Any, disk: Path, weights_root: Path
) -> None:
    from access_requests.access.catalogue import find_model

    model = find_model("ai/x")
    assert model is not None
    assigned = assign_folder(path=str(disk / "ours"), namespace="ai", actor=boss)
    for actor in (ada, boss):
        sources = {"files": str(disk / "ours" / "one"), "in_admin": True, "actor": actor, "namespace": "ai"}
        update_model(model=model, prepared=prepare_weights(**sources), actor=actor)
        assert model.weights.get(replaced_at=None).by_owner is (actor == ada)
    withdraw_folder(assigned=assigned)
    recovery = current_recovery(model)
    assert recovery is not None
    want_recovery(recovery=recovery)
    run_recovery(recovery_id=recovery.pk)
    recovery.refresh_from_db()
    assert recovery.state == RecoveryState.READY


def test_namespace_of_others_is_not_joined_by_adding_a_model(
    ada: Any, boss: Any, disk: Path, make_person: Callable[..., Any]
) -> None:
    """Otherwise its new owner could use what is assigned to that namespace."""
    eve = make_person("eve")
    prepared = prepare_weights(files=str(disk / "ours" / "one"))
    assign_folder(path=str(disk / "theirs"), namespace="quiet", actor=boss)
    allow_repository(repo_id="meta/llama", namespace="calm", actor=boss)
    for repo_id in ("ai/evil", "AI/evil", "quiet/evil", "calm/evil"):
        for attempt in (
            lambda name: check_new(name, asker=eve),
            lambda name: add_model_with_weights(
                repo_id=name, prepared=prepared, card="# X\n", actor=eve, owner=eve
            ),
        ):
            with pytest.raises(NotAllowed, match="You own no model in"):
                attempt(repo_id)
    check_new("ai/more", asker=ada)
    check_new("eve/first", asker=eve)
    check_new("quiet/first", asker=boss)


def test_model_moved_to_another_namespace_has_that_ones_rights(
    ada: Any, boss: Any, disk: Path, add_files_model: Callable[..., Any]
) -> None:
    from access_requests.access.catalogue import find_model

    add_files_model("maker/y", owner=ada)
    assign_folder(path=str(disk / "ours"), namespace="ai", actor=boss)
    model = find_model("ai/x")
    assert model is not None
    sources = {"files": str(disk / "ours" / "one"), "in_admin": True, "actor": ada, "namespace": "ai"}
    update_model(model=model, prepared=prepare_weights(**sources), actor=ada)
    rename_model(model=model, to="maker/x", actor=ada)
    recovery = current_recovery(model)
    assert recovery is not None
    want_recovery(recovery=recovery)
    run_recovery(recovery_id=recovery.pk)
    recovery.refresh_from_db()
    assert "is not assigned to maker" in recovery.error


def test_repository_is_allowed_by_superusers_for_a_namespace_or_for_all(
    boss: Any, ada: Any, settings: Any
) -> None:
    settings.GATEHOUSE_HUB_ENDPOINT = "https://hub.example.org"

    def may(repo_id: str, namespace: str, endpoint: str = "https://hub.example.org") -> bool:
        return may_use_token(endpoint=endpoint, repo_id=repo_id, namespace=namespace)

    one = allow_repository(repo_id="hf:Meta/Llama", namespace="ai", actor=boss)
    allow_repository(repo_id="meta/open", actor=boss)
    assert may("meta/llama", "AI")
    assert not may("meta/llama", "maker")
    assert not may("meta/llama-2", "ai")
    assert not may("meta/llama", "ai", "https://other.example.org")
    assert may("meta/open", "maker")
    with pytest.raises(Conflict):
        allow_repository(repo_id="meta/llama", namespace="Ai", actor=boss)
    with pytest.raises(NotAllowed):
        allow_repository(repo_id="meta/other", actor=ada)
    for repo_id in ("", "a/b/c", "../b", "a/b@main", "https://hub.example.org/a/b"):
        with pytest.raises(Invalid, match="is not a repository id"):
            allow_repository(repo_id=repo_id, actor=boss)
    withdraw_repository(allowed=one, actor=boss)
    assert not may("meta/llama", "ai")
    assert AllowedRepository.objects.get().repo_id == "meta/open"


def test_what_was_fetched_with_the_token_lies_apart(db: None) -> None:
    fields = {"kind": "hub", "endpoint": "https://hub.example.org", "repo_id": "a/b", "commit": "0" * 40}
    rows = [
        WeightSource.objects.create(spec="hf:a/b@" + "0" * 40, with_token=with_token, **fields)
        for with_token in (True, False)
    ]
    assert len({fetched_folder(row) for row in rows}) == 2


def test_hard_link_is_an_owners_only_where_all_its_names_are(ada: Any, boss: Any, disk: Path) -> None:
    assign_folder(path=str(disk / "ours"), namespace="ai", actor=boss)
    one = disk / "ours" / "one"
    (one / "second.json").hardlink_to(one / "config.json")
    assert named(one, ada)
    os.link(disk / "theirs" / "secret" / "config.json", one / "third.json")
    assert "third.json is a hard link to a file outside the folder" in refusal(one, ada)
    assert named(one, boss)


def test_refusals_are_rules(ada: Any, disk: Path) -> None:
    for text in ("/", "relative", "~", "/a\0b", "/" + "x" * 5000, str(disk / "no")):
        with pytest.raises(RuleError):
            named(text, ada)
