"""Find the large objects that still have to be sent, and give their addresses.

The contents of other models are not revealed: an owner who names someone else's hash is asked to send the bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from django.conf import settings

from access_requests.errors import Invalid, RuleError
from access_requests.ids import SHA256
from access_requests.models import AccessToken, GatedModel
from model_ops.models import RepoFile
from model_ops.services.uploads import staging
from model_ops.services.uploads.addresses import Address, sign
from model_ops.services.uploads.errors import TooLarge

MOST_OBJECTS = 1000  # in one request
MOST_PARTS = 10_000  # parts per answer, plus one for each object


@dataclass(frozen=True)
class Wanted:
    """One object: already there (no address), refused, or to be sent to `address`, in parts if `parts` are given."""

    sha256: str
    size: int
    address: str = ""
    chunk: int = 0
    parts: Sequence[str] = field(default_factory=tuple)
    refused: RuleError | None = None


def check_object(oid: object, size: object) -> tuple[str, int]:
    """Check the SHA-256 and size that a client gives for an object, and return them."""
    if not isinstance(oid, str) or not SHA256.fullmatch(oid):
        raise Invalid(f"{str(oid)[:80]!r} is not a SHA-256: an object is named by 64 hexadecimal digits.")
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise Invalid(f"{str(size)[:40]!r} is not a size: give the object's bytes as a whole number.")
    return oid, size


def plan_uploads(
    *, model: GatedModel, token: AccessToken, objects: Sequence[tuple[str, int]], in_parts: bool
) -> list[Wanted]:
    """Return what to send, once for each object; `in_parts` means that the client can send parts.

    The number of parts in one answer is limited: the more there is to send, the larger the parts.
    """
    if len(objects) > MOST_OBJECTS:
        raise Invalid(f"{len(objects)} objects are too many for one request: send at most {MOST_OBJECTS}.")
    sizes = dict(objects)
    if changed := [sha256 for sha256, size in objects if sizes[sha256] != size]:
        raise Invalid(f"{changed[0]} is listed with two different sizes: send one size for each object.")
    held = contents_of(model, list(sizes))
    room = sum(size for sha256, size in sizes.items() if held.get(sha256) != size)
    return [_plan_object(model, token, sha256, size, held, in_parts, room) for sha256, size in sizes.items()]


def contents_of(model: GatedModel, hashes: Sequence[str]) -> dict[str, int]:
    """Return those of these contents that are in a revision of this model: SHA-256 -> bytes."""
    files = RepoFile.objects.filter(revision__model=model, blob__in=set(hashes))
    return dict(files.order_by().values_list("blob_id", "blob__size").distinct())


def has_content(model: GatedModel, sha256: str, size: int) -> bool:
    """Return whether the content has arrived for this model, or is in one of its revisions."""
    return staging.is_staged(model.pk, sha256, size) or contents_of(model, [sha256]).get(sha256) == size


def _plan_object(
    model: GatedModel,
    token: AccessToken,
    sha256: str,
    size: int,
    held: dict[str, int],
    in_parts: bool,
    room: int,
) -> Wanted:
    if held.get(sha256) == size or staging.is_staged(model.pk, sha256, size):
        return Wanted(sha256, size)
    most = settings.GATEHOUSE_LARGEST_UPLOAD
    if size > most:
        too_large = TooLarge(
            f"A file of {size:,} bytes is larger than this portal takes ({most:,}): split it into smaller files."
        )
        return Wanted(sha256, size, refused=too_large)
    try:
        staging.check_room(room)
    except RuleError as refused:
        return Wanted(sha256, size, refused=refused)
    whole = Address(token.pk, model.pk, sha256, size)
    if not in_parts or size <= settings.GATEHOUSE_UPLOAD_PART:
        return Wanted(sha256, size, sign(whole))
    chunk = max(settings.GATEHOUSE_UPLOAD_PART, -(-room // MOST_PARTS))
    whole = Address(token.pk, model.pk, sha256, size, chunk)
    parts = [
        sign(Address(token.pk, model.pk, sha256, size, chunk, part)) for part in range(1, whole.parts + 1)
    ]
    return Wanted(sha256, size, sign(whole), chunk, parts)
