"""Copy large files to a bucket after a revision is published, and sign links to them.

A copy is named by its content, sent in parts so that it can be resumed, and used only if its size and SHA-256 in the
bucket match. boto3 is imported only if the settings name a bucket.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import Exists, F, OuterRef, QuerySet
from django.db.models.functions import Now

from access_requests.services import leases
from access_requests.services.queue import enqueue_on_commit
from model_ops.models import Blob, BucketCopy, RepoFile, Revision
from model_ops.services.store.blobs import blob_path

log = logging.getLogger(__name__)

COPY_TO_BUCKET = "model_ops.tasks.copy_to_bucket"
PART = 32 * 2**20  # bytes; S3 allows 10,000 parts, so larger files have larger parts
MOST_PARTS = 10_000
LEASE = timedelta(minutes=5)  # renewed with each part
TURN = 600.0  # seconds after which a worker sends itself a new message, so that other work can run
LONGEST_WAIT = timedelta(hours=1)  # between two tries of a copy that fails


class NoLink(Exception):
    """No link can be signed, because credentials are missing."""


class Differs(Exception):
    """The file here or in the bucket does not have the content of its name."""


@dataclass(frozen=True)
class Content:
    """A file to send, with the SHA-256 of its parts, from which the bucket's checksum follows."""

    path: Path
    size: int
    part_size: int
    digests: tuple[bytes, ...]

    @property
    def checksum(self) -> str:
        """Return the checksum as S3 states it, without the number of parts: of the one part, or of the parts' digests."""
        if len(self.digests) == 1:
            return _in_base64(self.digests[0])
        return _in_base64(hashlib.sha256(b"".join(self.digests)).digest())

    def parts(self) -> Iterator[bytes]:
        """Yield the file again, part by part."""
        with self.path.open("rb") as stream:
            while part := stream.read(self.part_size):
                yield part


def in_use() -> bool:
    return bool(settings.GATEHOUSE_DELIVERY == "s3")


def place() -> str:
    """Return the bucket and prefix as one string, as stored with each blob that was copied to it."""
    return f"s3://{settings.GATEHOUSE_S3_BUCKET}/{settings.GATEHOUSE_S3_PREFIX}".rstrip("/")


def key_of(sha256: str) -> str:
    prefix = settings.GATEHOUSE_S3_PREFIX
    return f"{prefix}/blobs/{sha256[:2]}/{sha256}" if prefix else f"blobs/{sha256[:2]}/{sha256}"


def client() -> Any:
    """Return boto3's client for the configured endpoint; credentials come from boto's usual environment."""
    return _make_client(settings.GATEHOUSE_S3_ENDPOINT, settings.GATEHOUSE_S3_REGION)


@lru_cache(maxsize=4)
def _make_client(endpoint: str, region: str) -> Any:
    import boto3
    from botocore.config import Config

    config = Config(
        signature_version="s3v4",
        s3={"addressing_style": "path" if endpoint else "auto"},
        connect_timeout=10,
        read_timeout=60,
        retries={"max_attempts": 4, "mode": "standard"},
    )
    session = boto3.session.Session()  # the default session is not safe for several threads
    return session.client("s3", endpoint_url=endpoint or None, region_name=region, config=config)


def link(sha256: str, *, seconds: int, disposition: str, content_type: str) -> str:
    """Return a signed link to the copy, without a network call. Raises `NoLink`."""
    from botocore.exceptions import BotoCoreError

    asked = {
        "Bucket": settings.GATEHOUSE_S3_BUCKET,
        "Key": key_of(sha256),
        "ResponseContentDisposition": disposition,
        "ResponseContentType": content_type,
    }
    try:
        return str(client().generate_presigned_url("get_object", Params=asked, ExpiresIn=seconds))
    except BotoCoreError as error:
        log.error("No link into the bucket can be signed, so this process sends the file: %s", error)  # noqa: TRY400
        raise NoLink from error


def missing() -> QuerySet[Blob]:
    """Return published large files without a copy in the bucket; held uploads are left out, since they may be discarded.

    It reads the rows of all files, so repeated tasks don't use it: workers use `ask_for_copies` and its rows.
    """
    large = RepoFile.objects.filter(blob=OuterRef("pk"), is_lfs=True, revision__held_at=None)
    return Blob.objects.filter(Exists(large)).exclude(bucket=place())


def ask_for_copies(*, revisions: int = 100) -> bool:
    """Make a row for each copy that published revisions need and that was not requested yet; return whether any was.

    Each revision records the bucket of its request, so that a new bucket in the settings starts again. The number of
    revisions read at a time is limited.
    """
    here = place()
    published = Revision.objects.filter(held_at=None).order_by("bucket", "pk").values_list("pk", flat=True)
    # Each is a range of the index; for "not equal" PostgreSQL would read every row.
    asking = list(
        published.filter(bucket__lt=here)[:revisions] or published.filter(bucket__gt=here)[:revisions]
    )
    if not asking:
        return False
    large = RepoFile.objects.filter(revision__in=asking, is_lfs=True).exclude(blob__bucket=here)
    blobs = list(large.order_by().values_list("blob", flat=True).distinct())
    with transaction.atomic():
        BucketCopy.objects.filter(blob__in=blobs).exclude(place=here).delete()
        BucketCopy.objects.bulk_create(
            [BucketCopy(blob_id=blob, place=here) for blob in blobs], ignore_conflicts=True, batch_size=1000
        )
        Revision.objects.filter(pk__in=asking).update(bucket=here)
    return True


def expect_copies() -> None:
    """Wake a worker after the caller's transaction commits; beat replaces a lost message."""
    if in_use():
        enqueue_on_commit(COPY_TO_BUCKET)


def copy_missing() -> int:
    """Copy missing files one after another, in one worker at a time; return how many were finished.

    After its turn it leaves the rest to a new message. A failed copy waits for a while and does not block others.
    """
    if not in_use():
        return 0
    done, until = 0, time.monotonic() + TURN
    while ask_for_copies():
        continue
    while in_use() and (claimed := _claim_copy()):
        done += _try_copy(claimed)
        if time.monotonic() > until:
            expect_copies()
            break
    return done


def _claim_copy() -> BucketCopy | None:
    """Claim the next copy by compare-and-swap; None if nothing is due or another worker is copying."""
    if BucketCopy.objects.filter(lease_until__gte=Now()).exists():
        return None
    due = BucketCopy.objects.filter(place=place(), not_before__lte=Now()).order_by("not_before", "blob")
    while copy := due.select_related("blob").first():
        rows = BucketCopy.objects.filter(leases.is_free(), pk=copy.pk)
        copy.lease_owner = leases.claim(
            rows, length=LEASE, not_before=leases.from_now(LEASE), attempts=F("attempts") + 1
        )
        if not copy.lease_owner:
            return None
        if missing().filter(pk=copy.pk).exists():
            copy.attempts += 1
            return copy
        _claimed_row(copy).delete()  # its revisions are gone
    return None


def _claimed_row(copy: BucketCopy) -> QuerySet[BucketCopy]:
    return BucketCopy.objects.filter(pk=copy.pk, lease_owner=copy.lease_owner)


def _renew_claim(copy: BucketCopy) -> None:
    leases.renew(_claimed_row(copy), length=LEASE, not_before=leases.from_now(LEASE))


def _try_copy(copy: BucketCopy) -> bool:
    """Make one copy and return whether it is in the bucket; record a failure on its row with the time of the next try."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        _send_copy(copy)
    except leases.Lost:
        return False
    except (BotoCoreError, ClientError, Differs, OSError) as error:
        sentence = " ".join(str(error).split()) or repr(error)
        log.error("The copy of %s into %s failed: %s", copy.blob_id, copy.place, sentence)  # noqa: TRY400
        pause = min(timedelta(seconds=30 * 2 ** min(copy.attempts, 10)), LONGEST_WAIT)
        _claimed_row(copy).update(error=sentence, not_before=leases.from_now(pause), lease_until=None)
        return False
    return True


def _send_copy(copy: BucketCopy) -> None:
    content = read_content(copy.blob, each=lambda: _renew_claim(copy))
    if not _is_there(copy.blob, content):
        if len(content.digests) == 1:
            client().put_object(
                **_place_of(copy.blob),
                Body=content.path.read_bytes(),
                ChecksumAlgorithm="SHA256",
                ChecksumSHA256=_in_base64(content.digests[0]),
            )
        else:
            _send_parts(copy, content)
        if not _is_there(copy.blob, content):
            raise Differs("the bucket states another size or SHA-256 than the file has")
    Blob.objects.filter(pk=copy.blob_id).update(bucket=copy.place, in_bucket_at=Now())
    BucketCopy.objects.filter(pk=copy.pk).delete()


def read_content(blob: Blob, *, each: Any = None) -> Content:
    """Read the whole file once. Raises `Differs` if it no longer has the content of its name."""
    path = blob_path(blob.sha256)
    part_size = max(PART, -(-blob.size // MOST_PARTS))
    whole, digests = hashlib.sha256(), []
    with path.open("rb") as stream:
        while part := stream.read(part_size):
            whole.update(part)
            digests.append(hashlib.sha256(part).digest())
            if each:
                each()
    if whole.hexdigest() != blob.sha256:
        raise Differs("the file in the store is damaged: its SHA-256 is another")
    return Content(path, blob.size, part_size, tuple(digests) or (whole.digest(),))


def _is_there(blob: Blob, content: Content) -> bool:
    """Return whether the bucket has the copy, by size and SHA-256. A copy without a stated checksum is not trusted."""
    from botocore.exceptions import ClientError

    try:
        head = client().head_object(**_place_of(blob), ChecksumMode="ENABLED")
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
            return False
        raise
    stated = str(head.get("ChecksumSHA256", "")).partition("-")[0]
    return bool(head["ContentLength"] == content.size and stated == content.checksum)


def _place_of(blob: Blob) -> dict[str, Any]:
    return {"Bucket": settings.GATEHOUSE_S3_BUCKET, "Key": key_of(blob.sha256)}


def _send_parts(copy: BucketCopy, content: Content) -> None:
    """Send the parts that the bucket does not have yet, each with its SHA-256, and join them."""
    where, sent = _place_of(copy.blob), _list_sent_parts(copy)
    done = []
    if not copy.upload_id:
        made = client().create_multipart_upload(**where, ChecksumAlgorithm="SHA256")
        copy.upload_id = made["UploadId"]
        _claimed_row(copy).update(upload_id=copy.upload_id)
    for number, (part, digest) in enumerate(zip(content.parts(), content.digests, strict=True), start=1):
        _renew_claim(copy)
        etag = _known_etag(sent.get(number), part, digest)
        if not etag:
            answer = client().upload_part(
                **where,
                UploadId=copy.upload_id,
                PartNumber=number,
                Body=part,
                ChecksumAlgorithm="SHA256",
                ChecksumSHA256=_in_base64(digest),
            )
            etag = str(answer["ETag"])
        done.append({"PartNumber": number, "ETag": etag, "ChecksumSHA256": _in_base64(digest)})
    client().complete_multipart_upload(**where, UploadId=copy.upload_id, MultipartUpload={"Parts": done})


def _list_sent_parts(copy: BucketCopy) -> dict[int, Any]:
    """Return the parts that an interrupted upload has sent, by number; none if the bucket has dropped it."""
    from botocore.exceptions import ClientError

    if not copy.upload_id:
        return {}
    try:
        pages = client().get_paginator("list_parts").paginate(**_place_of(copy.blob), UploadId=copy.upload_id)
        return {part["PartNumber"]: part for page in pages for part in page.get("Parts", [])}
    except ClientError as error:
        if error.response["Error"]["Code"] != "NoSuchUpload":
            raise
        copy.upload_id = ""
        return {}


def _known_etag(sent: dict[str, Any] | None, part: bytes, digest: bytes) -> str:
    """Return the ETag of a part that is already there with this content, else ""."""
    if sent is None or sent["Size"] != len(part):
        return ""
    stated = sent.get("ChecksumSHA256")
    if stated is None:
        same = sent["ETag"].strip('"') == hashlib.md5(part, usedforsecurity=False).hexdigest()
    else:
        same = stated == _in_base64(digest)
    return str(sent["ETag"]) if same else ""


def _in_base64(digest: bytes) -> str:
    return base64.b64encode(digest).decode()
