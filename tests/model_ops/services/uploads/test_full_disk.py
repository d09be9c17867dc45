"""Commits and held revisions on a full disk are refused in one sentence and leave nothing half-written."""

from __future__ import annotations

from collections.abc import Callable, Generator
from pathlib import Path

import pytest

from access_requests.models import Event
from access_requests.services.catalogue.gated_models import LicenceText, replace_licences
from model_ops.models import Revision
from model_ops.queries import main_revision
from model_ops.services.uploads import staging
from model_ops.services.uploads.committing import commit_files
from model_ops.services.uploads.errors import NoRoom
from model_ops.services.uploads.holding import publish_upload
from model_ops.services.uploads.operations import Added, Header
from tests.model_ops.uploads import Uploads
from tests.small_disk import clear, small_disk, take_names


@pytest.fixture
def disk(tmp_path: Path, weights_root: Path) -> Generator[Path]:
    """The disk that holds the store: room for bytes, but few inodes."""
    with small_disk(tmp_path / "disk", "size=600m,nr_inodes=300") as path:
        weights_root.symlink_to(path)
        yield path


@pytest.fixture
def uploads(disk: Path, make_uploads: Callable[..., Uploads]) -> Uploads:
    return make_uploads()


def test_commit_on_a_full_disk_is_refused_whole_and_can_be_sent_again(uploads: Uploads, disk: Path) -> None:
    before = main_revision(uploads.model)
    content = staging.stage_bytes(model_id=uploads.model.pk, content=b"a")
    operations = [Added("a.txt", content)]
    take_names(disk, leave=0)

    with pytest.raises(NoRoom, match="disk is full"):
        commit_files(
            model=uploads.model, branch="main", header=Header("One", "", ""), operations=operations,
            user=uploads.owner,
        )  # fmt: skip
    assert list(Revision.objects.all()) == [before]

    clear(disk)
    done = commit_files(
        model=uploads.model, branch="main", header=Header("One", "", ""), operations=operations,
        user=uploads.owner,
    )  # fmt: skip
    assert uploads.content(done.revision) == {"a.txt": b"a"}


def test_sending_to_a_full_disk_is_refused(uploads: Uploads, disk: Path) -> None:
    take_names(disk, leave=0)
    with pytest.raises(NoRoom, match="disk is full"):
        uploads.commit({"a.txt": b"a"})
    clear(disk)
    assert uploads.content(uploads.commit({"a.txt": b"a"}).revision) == {"a.txt": b"a"}


def test_publishing_on_a_full_disk_is_refused_and_stays_held(uploads: Uploads, disk: Path) -> None:
    revision = uploads.commit({"a.txt": b"a"}).revision
    replace_licences(model=uploads.model, licences=[LicenceText("LICENSE", "en", "Be good.\n")])
    before, events = main_revision(uploads.model), Event.objects.count()
    take_names(disk, leave=0)

    with pytest.raises(NoRoom, match="disk is full"):
        publish_upload(revision=revision, actor=uploads.owner)
    revision.refresh_from_db()
    assert (main_revision(uploads.model), Event.objects.count()) == (before, events)
    assert revision.held_at is not None

    clear(disk)
    publish_upload(revision=revision, actor=uploads.owner)
    assert main_revision(uploads.model) != before
