"""Copies of published files in a bucket, tested against moto's server."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Generator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from model_ops.models import Blob, BucketCopy, RepoFile, Revision
from model_ops.services.store import bucket
from model_ops.services.store.blobs import blob_path, store_bytes
from tests.plans import explained
from tests.s3 import BUCKET, KEYS, Bucket, running_bucket
from tests.waiting import wait_until

MIB = 2**20


@pytest.fixture(scope="module")
def server() -> Generator[Bucket]:
    with running_bucket() as running:
        yield running


@pytest.fixture
def far(
    server: Bucket, settings: Any, weights_root: Path, monkeypatch: pytest.MonkeyPatch, request: Any
) -> Generator[Bucket]:
    """The bucket from the settings, with a prefix for this test and parts of S3's smallest size."""
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    settings.GATEHOUSE_DELIVERY = "s3"
    settings.GATEHOUSE_S3_ENDPOINT, settings.GATEHOUSE_S3_REGION = server.url, "us-east-1"
    settings.GATEHOUSE_S3_BUCKET = BUCKET
    settings.GATEHOUSE_S3_PREFIX = hashlib.sha256(request.node.name.encode()).hexdigest()[:8]
    monkeypatch.setattr(bucket, "PART", 5 * MIB)
    bucket.client().create_bucket(Bucket=BUCKET)
    server.asked.clear()
    yield server
    server.refuses = lambda asked: False


@pytest.fixture
def publish(make_model: Callable[..., Any]) -> Callable[..., Blob]:
    """`publish(content, is_lfs=True)`: create a blob in a published revision."""
    model = make_model()

    def do(content: bytes, *, is_lfs: bool = True) -> Blob:
        stored = store_bytes(path="x", content=content)
        blob = Blob.objects.create(sha256=stored.sha256, git_oid=stored.git_oid, size=stored.size)
        revision = Revision.objects.create(model=model, commit=stored.sha256[:40], title="x", author="x")
        RepoFile.objects.create(revision=revision, path="x.bin", blob=blob, is_lfs=is_lfs)
        return blob

    return do


def content_there(blob: Blob) -> bytes:
    return bytes(bucket.client().get_object(Bucket=BUCKET, Key=bucket.key_of(blob.sha256))["Body"].read())


def part_number(asked: dict[str, Any]) -> str:
    return str(asked["QUERY_STRING"].partition("partNumber=")[2].partition("&")[0])


def test_copies_of_large_files_alone_are_made(far: Bucket, publish: Callable[..., Blob]) -> None:
    small, large, git = os.urandom(1000), os.urandom(12 * MIB), b"{}"
    blobs = [publish(small), publish(large), publish(git, is_lfs=False)]
    assert bucket.copy_missing() == 2
    assert [content_there(blob) for blob in blobs[:2]] == [small, large]
    for blob in blobs:
        blob.refresh_from_db()
    place = f"s3://{BUCKET}/{bucket.place().rpartition('/')[2]}"
    assert [blob.bucket for blob in blobs] == [place, place, ""]
    assert [blob.in_bucket_at is not None for blob in blobs] == [True, True, False]
    assert BucketCopy.objects.count() == 0


def test_copying_again_sends_nothing(far: Bucket, publish: Callable[..., Blob]) -> None:
    """This holds even if the database has lost track of the copy."""
    blob = publish(os.urandom(6 * MIB))
    assert bucket.copy_missing() == 1
    far.asked.clear()
    assert bucket.copy_missing() == 0
    assert far.asked == []
    Blob.objects.update(bucket="", in_bucket_at=None)
    Revision.objects.update(bucket="")
    assert bucket.copy_missing() == 1
    assert (far.seen("PUT"), far.seen("POST")) == ([], [])
    blob.refresh_from_db()
    assert blob.bucket == bucket.place()


def test_interrupted_copy_goes_on_with_its_next_part(far: Bucket, publish: Callable[..., Blob]) -> None:
    content = os.urandom(17 * MIB)
    blob = publish(content)
    far.refuses = lambda asked: part_number(asked) == "3"
    assert bucket.copy_missing() == 0
    copy = BucketCopy.objects.get()
    assert (copy.blob_id, copy.lease_until, bool(copy.upload_id)) == (blob.sha256, None, True)
    assert "Not now." in copy.error
    assert bucket.copy_missing() == 0  # it waits before the next try
    BucketCopy.objects.update(not_before=timezone.now() - timedelta(seconds=1))
    far.refuses = lambda asked: False
    far.asked.clear()
    assert bucket.copy_missing() == 1
    assert [part_number(asked) for asked in far.seen("PUT")] == ["3", "4"]
    assert content_there(blob) == content


def test_upload_that_the_bucket_has_forgotten_begins_again(far: Bucket, publish: Callable[..., Blob]) -> None:
    content = os.urandom(11 * MIB)
    blob = publish(content)
    far.refuses = lambda asked: part_number(asked) == "2"
    assert bucket.copy_missing() == 0
    far.refuses = lambda asked: False
    where = {"Bucket": BUCKET, "Key": bucket.key_of(blob.sha256)}
    bucket.client().abort_multipart_upload(**where, UploadId=BucketCopy.objects.get().upload_id)
    BucketCopy.objects.update(not_before=timezone.now() - timedelta(seconds=1))
    assert bucket.copy_missing() == 1
    assert content_there(blob) == content


def test_part_that_is_not_ours_is_sent_again(far: Bucket, publish: Callable[..., Blob]) -> None:
    content = os.urandom(11 * MIB)
    blob = publish(content)
    far.refuses = lambda asked: part_number(asked) == "2"
    assert bucket.copy_missing() == 0
    far.refuses = lambda asked: False
    where = {"Bucket": BUCKET, "Key": bucket.key_of(blob.sha256)}
    upload = BucketCopy.objects.get().upload_id
    bucket.client().upload_part(**where, UploadId=upload, PartNumber=1, Body=bytes(5 * MIB))
    BucketCopy.objects.update(not_before=timezone.now() - timedelta(seconds=1))
    assert bucket.copy_missing() == 1
    assert content_there(blob) == content


@pytest.mark.parametrize("size", [1000, 11 * MIB])
def test_other_content_under_the_name_is_replaced(
    far: Bucket, publish: Callable[..., Blob], size: int
) -> None:
    content = os.urandom(size)
    blob = publish(content)
    bucket.client().put_object(Bucket=BUCKET, Key=bucket.key_of(blob.sha256), Body=bytes(size))
    assert bucket.copy_missing() == 1
    assert content_there(blob) == content


def test_damaged_file_is_not_copied_and_hinders_no_other(far: Bucket, publish: Callable[..., Blob]) -> None:
    damaged, sound = publish(os.urandom(2000)), publish(os.urandom(3000))
    path = blob_path(damaged.sha256)
    path.chmod(0o644)
    path.write_bytes(bytes(2000))
    assert bucket.copy_missing() == 1
    damaged.refresh_from_db()
    sound.refresh_from_db()
    assert (damaged.bucket, sound.bucket) == ("", bucket.place())
    assert "damaged" in BucketCopy.objects.get().error


def test_other_place_gets_copies_of_its_own(far: Bucket, publish: Callable[..., Blob], settings: Any) -> None:
    blob = publish(os.urandom(1000))
    assert bucket.copy_missing() == 1
    settings.GATEHOUSE_S3_PREFIX += "-more"
    assert list(bucket.missing()) == [blob]
    assert bucket.copy_missing() == 1
    assert list(bucket.missing()) == []


def test_copies_of_many_revisions_are_asked_for_once(
    far: Bucket, publish: Callable[..., Blob], django_assert_num_queries: Any
) -> None:
    blobs = [publish(os.urandom(1000)) for _ in range(5)]
    for _ in range(3):
        assert bucket.ask_for_copies(revisions=2)
    assert list(BucketCopy.objects.order_by("blob").values_list("blob", flat=True)) == sorted(
        blob.sha256 for blob in blobs
    )
    with django_assert_num_queries(2):
        assert not bucket.ask_for_copies(revisions=2)
    assert bucket.copy_missing() == 5
    with django_assert_num_queries(4):
        assert bucket.copy_missing() == 0


def test_copy_whose_revision_is_gone_is_not_made(far: Bucket, publish: Callable[..., Blob]) -> None:
    gone, kept = publish(os.urandom(1000)), publish(os.urandom(1000))
    assert bucket.ask_for_copies()
    RepoFile.objects.filter(blob=gone).delete()
    assert bucket.copy_missing() == 1
    assert not BucketCopy.objects.exists()
    gone.refresh_from_db()
    assert gone.bucket == ""
    assert content_there(kept)


def test_what_is_still_to_be_copied_is_found_by_an_index(db: None, far: Bucket) -> None:
    with explained() as plans:
        assert bucket.copy_missing() == 0
    for plan, index in zip(
        plans, ["revision_of_bucket"] * 2 + ["bucket_copy_lease", "bucket_copy_next"], strict=True
    ):
        assert index in plan
        assert "Seq Scan" not in plan
        assert "Filter" not in plan


def test_copy_that_another_worker_holds_is_left_alone(far: Bucket, publish: Callable[..., Blob]) -> None:
    first, second = publish(os.urandom(1000)), publish(os.urandom(1000))
    held = BucketCopy.objects.create(
        blob=first,
        place=bucket.place(),
        lease_owner="another",
        lease_until=timezone.now() + timedelta(minutes=1),
    )
    assert bucket.copy_missing() == 0
    BucketCopy.objects.filter(pk=held.pk).update(lease_until=timezone.now() - timedelta(seconds=1))
    assert bucket.copy_missing() == 2
    assert list(bucket.missing()) == []
    del second


def test_nothing_is_copied_where_no_bucket_is_used(
    far: Bucket, publish: Callable[..., Blob], settings: Any
) -> None:
    publish(os.urandom(1000))
    settings.GATEHOUSE_DELIVERY = "own"
    assert bucket.copy_missing() == 0
    assert far.asked == []


def test_publishing_sends_the_copies_to_the_worker(
    far: Bucket, add_files_model: Callable[..., Any], worker: None
) -> None:
    """The model's files reach the bucket through the real broker and worker."""
    from model_ops.services.recoveries.weights import want_recovery

    recovery = add_files_model().weights.get().recovery
    want_recovery(recovery=recovery)
    weights = wait_until(lambda: RepoFile.objects.filter(path="model.safetensors").first())
    wait_until(lambda: Blob.objects.get(pk=weights.blob_id).bucket == bucket.place())
    assert content_there(weights.blob) == blob_path(weights.blob_id).read_bytes()


def test_link_needs_credentials(
    far: Bucket, settings: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    settings.GATEHOUSE_S3_REGION = "eu-north-1"  # a different client from the one that has credentials
    with pytest.raises(bucket.NoLink):
        bucket.link("0" * 64, seconds=60, disposition="inline", content_type="text/plain")


def test_held_content_is_copied_once_it_is_published(far: Bucket, publish: Callable[..., Blob]) -> None:
    blob = publish(os.urandom(1000))
    Revision.objects.update(held_at=timezone.now(), branch="main")
    assert bucket.copy_missing() == 0
    assert not bucket.missing().exists()
    Revision.objects.update(held_at=None)
    assert bucket.copy_missing() == 1
    blob.refresh_from_db()
    assert blob.bucket == bucket.place()
