"""An owner of one model tries to get another's weights: by its folder, by links, by the portal's Hub token."""

from __future__ import annotations

import html
import os
import shutil
import threading
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest

from access_requests.models import GatedModel
from access_requests.services.catalogue.gated_models import add_model
from model_ops.enums import RecoveryState
from model_ops.models import ModelWeights, Recovery, WeightSource
from model_ops.queries import current_recovery, published
from model_ops.services.catalogue.add_model import add_model_with_weights
from model_ops.services.recoveries import copy_files, weights
from model_ops.services.recoveries.fetch import fetch_sources
from model_ops.services.recoveries.run import run_recovery
from model_ops.services.sources.assign import allow_repository, assign_folder, withdraw_repository
from model_ops.services.store.blobs import blob_path
from tests.attacks.portal.small_hub import COMMIT, SmallHub, running_hub, write_weights

pytestmark = pytest.mark.django_db(transaction=True)
SECRET = 66  # the value of the hidden model's tensor
TOKEN = "hf_the_portals_own"


@pytest.fixture
def disk(tmp_path: Path, settings: Any) -> Path:
    """`disk/a` is assigned to namespace a; `disk/b/hidden` holds the source of model b/hidden."""
    disk = tmp_path / "disk"
    write_weights(disk / "a" / "model", 1)
    write_weights(disk / "b" / "hidden", SECRET)
    write_weights(disk / "a-secret" / "model", SECRET)
    settings.GATEHOUSE_SOURCES = [disk]
    settings.WEIGHTS_ROOT = tmp_path / "state" / "weights"
    settings.GATEHOUSE_DEMO = True  # no second factor, which is not tested here
    return disk


@pytest.fixture
def eve(make_person: Callable[..., Any], disk: Path) -> Any:
    """Owner of a/open, without any right to b/hidden."""
    eve, boss = make_person("eve"), make_person("boss", is_superuser=True)
    add_model(repo_id="a/open", card="# A\n", owner=eve)
    hidden = weights.prepare_weights(files=str(disk / "b" / "hidden"))
    model, made = add_model_with_weights(
        repo_id="b/hidden", prepared=hidden, card="# B\n", listed=False, owner=boss
    )
    weights.want_recovery(recovery=made.recovery)
    run_recovery(recovery_id=made.recovery.pk)
    assert published(model)
    assign_folder(path=str(disk / "a"), namespace="a", actor=boss)
    return eve


@pytest.fixture
def desk(eve: Any, client: Any) -> Callable[..., str]:
    """`desk("/folder")`: send Eve's weights page; return its error, or "" if it accepts the source."""
    address = f"/admin/access_requests/gatedmodel/{GatedModel.objects.get(repo_id='a/open').pk}/weights/"
    client.force_login(eve)

    def send(text: object, field: str = "files", **more: str) -> str:
        fields = {"base": "", "diff": "", "files": "", field: str(text)} | more
        answer = client.post(address, fields)
        assert client.get("/").status_code == 200
        if answer.status_code == 302:
            return ""
        assert answer.status_code == 200
        said = html.unescape(answer.content.decode())
        return said.partition('<li class="error">')[2].partition("</li>")[0]

    return send


def made() -> Recovery:
    """Run the recovery of a/open and return it."""
    recovery = current_recovery(GatedModel.objects.get(repo_id="a/open"))
    assert recovery is not None
    weights.want_recovery(recovery=recovery)
    run_recovery(recovery_id=recovery.pk)
    recovery.refresh_from_db()
    return recovery


def served() -> bytes:
    """Return the weights that a/open serves, or b"" if there are none."""
    revision = published(GatedModel.objects.get(repo_id="a/open"))
    file = revision.files.filter(path="model.safetensors").first() if revision else None
    return blob_path(file.blob_id).read_bytes() if file else b""


def is_stolen() -> bool:
    return bytes([SECRET]) * 8 in served()


WAYS = {
    "its folder": "{disk}/b/hidden",
    "the folder above it": "{disk}/b",
    "the folder of all": "{disk}",
    "a name that begins alike": "{disk}/a-secret/model",
    "dots": "{disk}/a/../b/hidden",
    "dots behind a folder that is not there": "{disk}/a/none/../../b/hidden",
    "the root of the process": "/proc/self/root{disk}/b/hidden",
    "the root of its parent": "/proc/1/root{disk}/b/hidden",
    "its working folder": "/proc/self/cwd/{up}{disk}/b/hidden",
    "doubled slashes": "//{disk}//b//hidden",
    "a link": "{disk}/a/link",
    "a link to a link": "{disk}/a/twice",
    "a link above it": "{disk}/a/up/b/hidden",
    "the portal's store": "{disk}/../state/weights/blobs",
    "the portal's store in full": "{tmp}/state/weights/blobs",
    "the portal's state": "{tmp}/state",
    "a relative name": "{relative}",
    "white space": "  {disk}/b/hidden\t",
    "a home": "~/../..{disk}/b/hidden",
    "an address": "file://{disk}/b/hidden",
}


@pytest.mark.parametrize("field", ["files", "base", "diff"])
def test_folder_of_another_model_is_not_named(desk: Callable[..., str], disk: Path, field: str) -> None:
    (disk / "a" / "link").symlink_to(disk / "b" / "hidden")
    (disk / "a" / "twice").symlink_to(disk / "a" / "link")
    (disk / "a" / "up").symlink_to(disk)
    own = str(disk / "a" / "model")
    other = {"files": {}, "base": {"diff": own}, "diff": {"base": own}}[field]
    for way, form in WAYS.items():
        relative = os.path.relpath(disk / "b" / "hidden")
        text = form.format(disk=disk, tmp=disk.parent, up="../" * 40, relative=relative)
        said = desk(text, field, **other)
        assert "is not allowed here" in said, way
        assert str(disk / "b") not in said.replace(text.strip(), ""), way
    assert ModelWeights.objects.filter(model__repo_id="a/open").count() == 0
    assert not is_stolen()


def test_answer_does_not_say_what_is_on_the_disk(desk: Callable[..., str], disk: Path) -> None:
    (disk / "b" / "file").write_text("x")
    (disk / "b" / "closed").mkdir(mode=0)
    for name in ("there", "gone"):
        (disk / "a" / f"to-{name}").symlink_to(disk / "b" / ("hidden" if name == "there" else "none"))
    (disk / "a" / "round").symlink_to(disk / "a" / "round")
    texts = [disk / "b/hidden", disk / "b/none", disk / "b/file", disk / "b/closed", disk / "b/closed/x", "/root",
             "/no/such", "/" + "x" * 900, disk / "a/to-there", disk / "a/to-gone"]  # fmt: skip
    said = {desk(text).partition(" is not allowed")[2] for text in texts}
    assert len(said) == 1
    assert "".join(said).startswith(" here. ")


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "notes.txt", "sub/notes.txt"])
def test_link_out_of_the_own_folder_is_refused_alike_whether_its_target_exists(
    desk: Callable[..., str], disk: Path, name: str
) -> None:
    path = disk / "a" / "model" / name
    path.parent.mkdir(exist_ok=True)
    answers = []
    for target in (disk / "b/hidden/model.safetensors", disk / "b/none", "/etc/shadow", "../../../b/hidden/config.json",
                   disk.parent / "models--x--y/blobs/1", disk / "b/annex/objects/1"):  # fmt: skip
        path.unlink(missing_ok=True)
        path.symlink_to(target)
        answers.append(desk(disk / "a" / "model"))
    assert set(answers) == {f"{path} is a link out of the model's folder: put the file in its place."}


def test_hard_link_to_a_file_that_is_not_assigned_is_refused(desk: Callable[..., str], disk: Path) -> None:
    (disk / "a/model/model.safetensors").unlink()
    os.link(disk / "b/hidden/model.safetensors", disk / "a/model/model.safetensors")
    assert "is a hard link to a file outside the folder" in desk(disk / "a/model")


def test_own_folder_is_taken_and_made(desk: Callable[..., str], disk: Path) -> None:
    assert desk(disk / "a" / "model") == ""
    assert (made().state, served()[-8:]) == (RecoveryState.READY, bytes([1]) * 8)


def test_snapshot_of_a_hub_cache_is_taken_and_made(desk: Callable[..., str], disk: Path) -> None:
    snapshot = disk / "a" / "models--x--y" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot.parent.parent / "blobs").mkdir()
    for number, path in enumerate(sorted((disk / "a" / "model").iterdir())):
        shutil.copy(path, snapshot.parent.parent / "blobs" / str(number))
        (snapshot / path.name).symlink_to(f"../../blobs/{number}")
    assert desk(snapshot) == ""
    assert made().state == RecoveryState.READY


def same_looks(real: Path, copy: Path) -> None:
    """Give files the sizes and times of others, so that a fingerprint cannot tell them apart."""
    for path in copy.iterdir():
        stat = (real / path.name).stat()
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


@pytest.mark.parametrize("what", ["the folder", "the folder above", "a file"])
def test_link_that_is_put_in_the_way_after_naming_is_refused(
    desk: Callable[..., str], disk: Path, what: str
) -> None:
    """The hidden files even have the sizes and times of the files that were checked."""
    same_looks(disk / "b" / "hidden", disk / "a" / "model")
    assert desk(disk / "a" / "model") == ""
    (disk / "b" / "model").symlink_to("hidden")
    swapped, target = {
        "the folder": (disk / "a" / "model", disk / "b" / "hidden"),
        "the folder above": (disk / "a", disk / "b"),
        "a file": (disk / "a/model/model.safetensors", disk / "b/hidden/model.safetensors"),
    }[what]
    swapped.rename(disk / "aside")
    swapped.symlink_to(target)
    recovery = made()
    assert recovery.state != RecoveryState.READY
    assert "link" in recovery.error or "not assigned" in recovery.error
    assert not is_stolen()


def test_link_that_is_put_in_the_way_while_it_is_read_is_refused(
    desk: Callable[..., str], disk: Path
) -> None:
    """The link appears after all checks of the folder, before its first file is opened."""
    assert desk(disk / "a" / "model") == ""
    recovery = current_recovery(GatedModel.objects.get(repo_id="a/open"))
    assert recovery is not None

    class Held:
        lost = threading.Event()

    fetch_sources(recovery, Held(), before_fetching=lambda: None)  # type: ignore[arg-type]
    (disk / "a" / "model").rename(disk / "aside")
    (disk / "a" / "model").symlink_to(disk / "b" / "hidden")
    with pytest.raises(Exception, match="is a link out of the model's folder"):
        copy_files.copy_files(
            source=disk / "a" / "model", target=disk.parent / "out", on_bytes=lambda *_: None
        )
    assert (
        not (disk.parent / "out" / "model.safetensors").exists()
        or bytes([SECRET]) not in (disk.parent / "out" / "model.safetensors").read_bytes()
    )


@pytest.mark.parametrize("way", ["gatehouse:b/hidden@{commit}", "gatehouse:B/Hidden@{commit}", "gatehouse:b/hidden@" + "0" * 40,
                                 "gatehouse:b/none@{commit}"])  # fmt: skip
def test_published_weights_of_another_model_are_no_source(desk: Callable[..., str], way: str) -> None:
    revision = published(GatedModel.objects.get(repo_id="b/hidden"))
    assert revision is not None
    said = desk(way.format(commit=revision.commit))
    assert "does not belong to a model that you own: check its name." in said
    assert not is_stolen()


def test_namespace_is_not_joined_to_read_its_folders(eve: Any, client: Any, disk: Path) -> None:
    from django.contrib.auth.models import Permission

    eve.user_permissions.add(Permission.objects.get(codename="add_gatedmodel"))
    assign_folder(path=str(disk / "b"), namespace="b")
    client.force_login(eve)
    entry = {
        "repo_id": "b/new", "card": "# New\n", "licence_language": "en", "gate": "manual", "grant_days": "365",
        "files": str(disk / "b" / "hidden"), "base": "", "diff": "", "roles-TOTAL_FORMS": "0", "roles-INITIAL_FORMS": "0",
    }  # fmt: skip
    for files in (disk / "b" / "hidden", disk / "a" / "model"):
        answer = client.post("/admin/access_requests/gatedmodel/add/", entry | {"files": str(files)})
        assert answer.status_code == 200
        assert "You own no model in b" in html.unescape(answer.content.decode())
    assert not GatedModel.objects.filter(repo_id="b/new").exists()


@pytest.fixture
def hub(settings: Any) -> Generator[SmallHub]:
    with running_hub() as hub:
        hub.gated.add("maker/gated")
        settings.GATEHOUSE_HUB_ENDPOINT, settings.GATEHOUSE_HUB_TOKEN = hub.url, TOKEN
        yield hub


def test_gated_repository_is_not_read_with_the_portals_token(desk: Callable[..., str], hub: SmallHub) -> None:
    said = desk("hf:maker/gated@main")
    assert "is gated" in said
    assert "a superuser must allow this repository" in said
    assert hub.tokens == set()


def test_public_repository_is_fetched_without_the_token(desk: Callable[..., str], hub: SmallHub) -> None:
    assert desk("hf:maker/open@main") == ""
    assert made().state == RecoveryState.READY
    assert hub.tokens == set()
    assert served() == hub.files["model.safetensors"]


def test_allowed_repository_is_fetched_with_the_token_as_long_as_it_is(
    desk: Callable[..., str], hub: SmallHub
) -> None:
    allowed = allow_repository(repo_id="maker/gated", namespace="a")
    assert desk("hf:maker/gated@main") == ""
    withdraw_repository(allowed=allowed)
    hub.asked.clear()
    refused = made()
    assert refused.error == (
        "maker/gated is not allowed for a with the portal's Hub token: ask a superuser to allow it, then try again."
    )
    assert hub.asked == []
    allow_repository(repo_id="maker/gated", namespace="a")
    weights.retry(recovery=refused)
    assert made().state == RecoveryState.READY
    assert hub.tokens == {f"Bearer {TOKEN}"}


def test_repository_allowed_for_another_namespace_is_not(desk: Callable[..., str], hub: SmallHub) -> None:
    allow_repository(repo_id="maker/gated", namespace="b")
    assert "a superuser must allow this repository" in desk("hf:maker/gated@main")
    assert hub.tokens == set()


def test_what_another_namespace_fetched_with_the_token_is_not_reached(
    desk: Callable[..., str], hub: SmallHub
) -> None:
    """It is already in the store, and a recovery with exactly these inputs is ready."""
    operators = weights.prepare_weights(files="hf:maker/gated@main")
    _, attached = add_model_with_weights(repo_id="b/gated", prepared=operators, card="# G\n")
    weights.want_recovery(recovery=attached.recovery)
    run_recovery(recovery_id=attached.recovery.pk)
    attached.recovery.refresh_from_db()
    assert attached.recovery.state == RecoveryState.READY
    assert "a superuser must allow this repository" in desk("hf:maker/gated@main")
    assert "a superuser must allow this repository" in desk(f"hf:maker/gated@{COMMIT}")

    hub.gated.clear()  # for a moment, so that the source is accepted
    assert desk(f"hf:maker/gated@{COMMIT}") == ""
    hub.gated.add("maker/gated")
    hub.asked.clear()
    failed = made()
    assert failed.state != RecoveryState.READY
    assert "is gated" in failed.error
    assert hub.asked
    assert hub.tokens == set()
    assert served() == b""
    assert WeightSource.objects.filter(repo_id="maker/gated").count() == 2


def test_other_hub_is_not_named(desk: Callable[..., str], hub: SmallHub) -> None:
    with running_hub() as other:
        assert "only be named on the command line" in desk(f"hf+{other.url}/maker/open@main")
        assert other.asked == []
