"""Write and check anchors: the head of the event log, signed and kept outside the database.

The owner of the database can cut the log's end or rewrite all of it, hashes included. An anchor records which hash
was at which place at what time. It is written to a file that the database cannot reach, and emailed if an address is set.
One line of the file is one anchor:

    {"at":"2026-11-30T12:00:00Z","hash":"5f...","key":"k3...","number":1234,"portal":"https://...","signature":"9a..."}

The signature is Ed25519 (RFC 8032) over the same JSON without it; `key` is the public key, both in base64.
The private key is in the state folder, with mode 0600, and is generated when it is first needed.
"""

from __future__ import annotations

import base64
import fcntl
import json
import logging
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from django.conf import settings
from django.utils import timezone

from access_requests.models import Event
from access_requests.services.emails.write import queue_mail
from access_requests.services.event_log.append import canonical, hashes_of, head

log = logging.getLogger(__name__)

LONGEST_LINE = 2000  # bytes
AT_ONCE = 1000  # anchors that one query compares with the log
LATE = 2  # intervals after which a missing anchor counts as overdue


@dataclass(frozen=True)
class Anchor:
    """A line of the file: the hash at a place in the log, and when."""

    at: datetime
    number: int
    hash: str
    signed: bool
    line: int


def interval() -> timedelta:
    """Return how often an anchor is written."""
    return timedelta(minutes=settings.GATEHOUSE_ANCHOR_MINUTES)


def write_anchor_if_due() -> str | None:
    """Append an anchor when the last one is older than the interval; return its line, or None.

    The first anchor of a day is also emailed to `GATEHOUSE_ANCHOR_MAIL`. Two workers at the same time write
    only one anchor.
    """
    path = settings.GATEHOUSE_ANCHOR_FILE
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with open(os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600), "r+b") as file:  # noqa: PTH123
        fcntl.flock(file, fcntl.LOCK_EX)
        size = os.fstat(file.fileno()).st_size
        tail = os.pread(file.fileno(), 2 * LONGEST_LINE, max(size - 2 * LONGEST_LINE, 0))
        anchors = [anchor for line in tail.splitlines() if (anchor := _parse_anchor(line, 0)) is not None]
        now = timezone.now()
        if anchors and timedelta(0) <= now - anchors[-1].at < interval():
            return None
        line, whole = signed_line(now), not tail or tail.endswith(b"\n")
        # End a line that a full disk or a kill cut short, so that it does not damage the next one.
        os.write(file.fileno(), (b"" if whole else b"\n") + line.encode() + b"\n")
        os.fsync(file.fileno())
    content = json.loads(line)
    for address in settings.GATEHOUSE_ANCHOR_MAIL:
        queue_mail(  # the key contains the day, so that only the first anchor of a day is emailed
            key=f"anchor:{now:%Y%m%d}:{address}",
            to=address,
            template="mails/anchor.txt",
            context={"line": line, "number": content["number"], "hash": content["hash"], "at": now},
        )
    return line


def signed_line(now: datetime) -> str:
    """Return the current head of the log as a signed line."""
    number, hash = head()
    key = _private_key()
    content: dict[str, Any] = {
        "at": now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "number": number,
        "hash": hash,
        "portal": settings.GATEHOUSE_URL,
        "key": base64.b64encode(key.public_key().public_bytes_raw()).decode(),
    }
    signature = key.sign(canonical(content).encode())
    return canonical({**content, "signature": base64.b64encode(signature).decode()})


# --- the key ---


def _private_key() -> Ed25519PrivateKey:
    path = settings.GATEHOUSE_STATE / "anchor_key"
    if not path.exists():
        if settings.GATEHOUSE_ANCHOR_FILE.exists() and settings.GATEHOUSE_ANCHOR_FILE.stat().st_size:
            log.warning("%s is gone: a new key is made, and anchors of the lost one no longer verify", path)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = path.with_name(f".anchor_key.{os.getpid()}")
        fresh.unlink(missing_ok=True)
        with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:  # noqa: PTH123
            file.write(base64.b64encode(Ed25519PrivateKey.generate().private_bytes_raw()))
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            os.link(fresh, path)  # if two workers are the first, one key wins
        fresh.unlink()
    return Ed25519PrivateKey.from_private_bytes(base64.b64decode(path.read_bytes()))


# --- checking ---


def read_anchors(path: Path) -> Iterator[Anchor | int]:
    """Yield the anchors of a file in order; for a line that is not an anchor, yield its number."""
    try:
        key = _private_key().public_key() if (settings.GATEHOUSE_STATE / "anchor_key").exists() else None
    except (OSError, ValueError):
        key = None  # the key cannot be read, so no signature counts
    with path.open("rb") as file:
        for number, line in enumerate(iter(lambda: file.readline(LONGEST_LINE), b""), 1):
            if line.strip() and (line.endswith(b"\n") or len(line) >= LONGEST_LINE):
                yield _parse_anchor(line, number, key) or number


def _parse_anchor(line: bytes, number: int, key: Ed25519PublicKey | None = None) -> Anchor | None:
    try:
        content = json.loads(line)
        signature = base64.b64decode(content.pop("signature"))
        at = datetime.strptime(content["at"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
        place, hash = int(content["number"]), str(content["hash"])
        if not 0 <= place < 2**63:
            return None
        signed = False
        if key is not None:
            with suppress(InvalidSignature):
                key.verify(signature, canonical(content).encode())
                signed = True
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError):
        return None
    return Anchor(at, place, hash, signed, number)


@dataclass(frozen=True)
class AnchorReport:
    """How many anchors there are, when the last was written, and a sentence for each that does not fit."""

    count: int
    last_at: datetime | None
    problems: list[str]


def check_anchors() -> AnchorReport:
    """Compare every anchor with the log, and their age with the interval; memory does not grow with the file."""
    path = settings.GATEHOUSE_ANCHOR_FILE
    if not path.exists():
        return AnchorReport(0, None, _why_no_anchor(path))
    count, last, problems = 0, None, []
    anchors = read_anchors(path)
    while several := list(islice(anchors, AT_ONCE)):
        end, _ = head()  # after reading the lines: the log may have grown in the meantime
        known = hashes_of([anchor.number for anchor in several if isinstance(anchor, Anchor)])
        for anchor in several:
            count += 1
            if problem := _why_misfit(anchor, known, end):
                problems.append(problem)
            elif isinstance(anchor, Anchor):
                last = anchor.at
    if not problems and last is None:
        problems = _why_no_anchor(path)
    elif last is not None and timezone.now() - last > LATE * interval():
        problems.append(
            f"The last anchor that fits was written on {last:%Y-%m-%d at %H:%M} UTC, and one is due every"
            f" {settings.GATEHOUSE_ANCHOR_MINUTES} min: has the portal been stopped since, or is its default worker"
            " not running? If neither, lines were removed or the log was changed."
        )
    return AnchorReport(count, last, problems[:20])


def _why_no_anchor(path: Path) -> list[str]:
    """Return what is wrong if there are no anchors; a new or just updated portal may not have one yet."""
    first = Event.objects.filter(format=2).order_by("pk").first()
    if first is None or timezone.now() - first.at <= LATE * interval():
        return []
    return [f"There is no anchor: {path} is empty or gone. Is the portal's default worker running?"]


def _why_misfit(anchor: Anchor | int, known: dict[int, str], end: int) -> str:
    """Return what is wrong with one line, as a sentence; "" if it fits the log."""
    if isinstance(anchor, int):
        return f"Line {anchor} of the anchors is not an anchor: the file was changed or damaged."
    if not anchor.signed:
        return f"The anchor in line {anchor.line} does not carry the signature of this portal's key: the file or the key was changed."
    if anchor.number > end:
        return f"The log was cut: it ends at event {end}, and on {anchor.at:%Y-%m-%d at %H:%M} UTC it ended at event {anchor.number}."
    if anchor.number and known.get(anchor.number) != anchor.hash:
        return (
            f"The log was rewritten at or before event {anchor.number}: its hash is not the one that was anchored on"
            f" {anchor.at:%Y-%m-%d at %H:%M} UTC."
        )
    return ""
