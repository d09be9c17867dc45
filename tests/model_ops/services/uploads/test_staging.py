from __future__ import annotations

import errno
import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from access_requests.errors import Invalid
from model_ops.services.uploads import staging
from model_ops.services.uploads.errors import NoRoom, NotSent

CONTENT = os.urandom(300_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def root(weights_root: Path) -> Path:
    weights_root.mkdir()
    return weights_root / "uploads"


def left(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def send(content: bytes = CONTENT, *, sha256: str = SHA256, size: int = len(CONTENT)) -> None:
    pieces = iter([content[:100_000], content[100_000:]])
    staging.receive_object(model_id=1, sha256=sha256, size=size, pieces=pieces)


def test_object_that_arrives_whole_is_kept(root: Path) -> None:
    send()
    assert left(root) == [f"1/{SHA256}"]
    assert staging.staged_path(1, SHA256).read_bytes() == CONTENT


@pytest.mark.parametrize("content", [CONTENT[:-1], CONTENT + b"x", b"", bytes(len(CONTENT))])
def test_object_of_another_size_or_hash_is_removed(root: Path, content: bytes) -> None:
    with pytest.raises(Invalid, match="nothing was kept"):
        send(content)
    assert left(root) == []


def test_sender_that_dies_leaves_nothing(root: Path) -> None:
    def dying() -> Iterator[bytes]:
        yield CONTENT[:1000]
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        staging.receive_object(model_id=1, sha256=SHA256, size=len(CONTENT), pieces=dying())
    assert left(root) == []


def part(number: int, chunk: int = 100_000) -> str:
    content = CONTENT[(number - 1) * chunk : number * chunk]
    return staging.receive_part(
        model_id=1, sha256=SHA256, object_size=len(CONTENT), number=number, size=len(content), pieces=iter([content])
    )  # fmt: skip


def test_parts_are_joined_in_their_order_whatever_order_they_came_in(root: Path) -> None:
    third, first, second = part(3), part(1), part(2)
    for _ in range(2):  # a client that lost the answer sends its request again
        staging.complete_object(model_id=1, sha256=SHA256, size=len(CONTENT), digests=[first, second, third])
    assert left(root) == [f"1/{SHA256}"]
    assert staging.staged_path(1, SHA256).read_bytes() == CONTENT


def test_repeated_part_replaces_and_a_missing_one_is_named(root: Path) -> None:
    digests = [part(1), part(1), part(3)]
    with pytest.raises(NotSent, match="Part 2 has not arrived"):
        staging.complete_object(model_id=1, sha256=SHA256, size=len(CONTENT), digests=digests)
    assert left(root) == [f"1/{SHA256}.300000.parts/00001-{digests[0]}", f"1/{SHA256}.300000.parts/00003-{digests[2]}"]  # fmt: skip
    with pytest.raises(NotSent, match="No part"):
        staging.complete_object(model_id=2, sha256=SHA256, size=len(CONTENT), digests=digests)


def test_parts_that_make_another_object_are_removed(root: Path) -> None:
    content = bytes(100_000)
    zeros = staging.receive_part(
        model_id=1, sha256=SHA256, object_size=len(CONTENT), number=2, size=100_000, pieces=iter([content])
    )
    digests = [part(1), zeros, part(3)]
    with pytest.raises(Invalid, match="nothing was kept"):
        staging.complete_object(model_id=1, sha256=SHA256, size=len(CONTENT), digests=digests)
    assert left(root) == []


def test_full_disk_is_one_sentence_and_leaves_nothing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NoRoom, match="no room for"):
        staging.check_room(2**60)

    def full(stream: Any, block: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(staging, "write_all", full)
    with pytest.raises(NoRoom, match="disk is full"):
        send()
    assert left(root) == []


def test_clean_takes_what_is_a_day_old_and_nothing_else(root: Path) -> None:
    send()
    part(1)
    fresh = staging.stage_bytes(model_id=2, content=b"fresh")
    (root / "1" / ".dead").write_bytes(b"half")
    past = time.time() - staging.KEPT - 60
    for path in [
        root / "1" / SHA256,
        root / "1" / ".dead",
        *(root / "1" / f"{SHA256}.300000.parts").iterdir(),
    ]:
        os.utime(path, (past, past))
    os.utime(root / "1" / f"{SHA256}.300000.parts", (past, past))
    assert staging.clean() == 3
    assert left(root) == [f"2/{fresh.sha256}"]


def test_clean_keeps_the_first_files_of_an_upload_that_takes_days(root: Path) -> None:
    send()
    folder = root / "1"
    older = {"a" * 64: 2, "b" * 64: 8, ".dead": 2}  # age in days
    for name, days in older.items():
        (folder / name).write_bytes(b"x")
        past = time.time() - days * 24 * 3600 - 60
        os.utime(folder / name, (past, past))
    assert staging.clean() == 2
    assert left(root) == sorted([f"1/{SHA256}", f"1/{'a' * 64}"])
    assert staging.clean(now=time.time() + staging.KEPT + 60) == 2
    assert left(root) == []
