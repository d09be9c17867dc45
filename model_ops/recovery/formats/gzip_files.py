"""Read payload files compressed with gzip, as OpenAssistant's `xor_codec.py --compress` writes them.

A plan needs the decoded size before anything is decoded. A gzip file stores it modulo 2**32 in its last four
bytes; the size of the base's file of the same name, which the payload was made with, tells which multiple is
meant. Nothing is trusted here: decoding stops at that size, and a file with less, more, or a wrong checksum
is a failure.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from model_ops.recovery.errors import Failure, Refusal
from model_ops.recovery.formats.folder import open_regular
from model_ops.recovery.formats.tensors import TensorRef

_HEADER = 10  # bytes of a gzip header without optional fields
_TRAILER = 8  # bytes: checksum and size
_MOST_RATIO = 1032  # decoded bytes per encoded byte; deflate cannot do more
_LEAST_OVERHEAD = 4096  # encoded bytes beyond the decoded ones and a sixteenth of them; gzip adds less
_MOST_BEYOND = 64 * 1024 * 1024  # decoded bytes allowed beyond twice the size of the base's file
_SIZE_STEP = 2**32
_PART = 1024 * 1024
_GZIP = 31  # zlib's window bits for a gzip header; length and checksum are checked
_ZIP_SUFFIXES = frozenset((".bin", ".pt", ".pth", ".ckpt"))

Read = Callable[[str, int, memoryview], None]


def as_packed(ref: TensorRef, base: TensorRef | None) -> TensorRef:
    """Return `ref`, a whole payload file, with its decoded size if the file is compressed.

    Raises Refusal if it cannot be decoded.
    """
    head, trailer = _first_and_last_bytes(ref)
    mask = _first_and_last_bytes(base)[0] if base else b""
    # the beginning of the restored file if the payload is not compressed
    combined = bytes(a ^ b for a, b in zip(head, mask.ljust(len(head), b"\0"), strict=False))
    if not _is_gzip(head) or _is_checkpoint(combined, ref):
        return ref
    if base is None:
        raise Refusal(
            f"The diff's {ref.name} is compressed with gzip, and the base has no file of that name to restore it with; "
            "use the base whose files are named like the diff's."
        )
    # of the sizes that match the remainder in the trailer, the one nearest to the base's
    remainder = int.from_bytes(trailer[4:], "little")
    size = remainder + max(0, round((base.nbytes - remainder) / _SIZE_STEP)) * _SIZE_STEP
    # a few bytes may decode to very many, so impossible sizes are refused, and ones far beyond the base's
    claim = f"The diff's {ref.name} is compressed with gzip, and its last bytes claim {size} bytes"
    if size > ref.nbytes * _MOST_RATIO:
        raise Refusal(f"{claim}, more than {ref.nbytes} compressed bytes can hold; download it again.")
    if ref.nbytes > size + size // 16 + _LEAST_OVERHEAD:
        raise Refusal(
            f"{claim}, fewer than its {ref.nbytes} compressed bytes can hold: {_size_advice(ref.name)}"
        )
    if size > 2 * base.nbytes + _MOST_BEYOND:
        raise Refusal(
            f"{claim}, far more than the {base.nbytes} bytes of the base's file of that name; use the base that the diff "
            "was made from."
        )
    return replace(ref, nbytes=size, shape=(size,), packed=ref.nbytes)


def _first_and_last_bytes(ref: TensorRef) -> tuple[bytes, bytes]:
    """Return the first and the last bytes of a file."""
    path = Path(ref.path)
    try:
        with open_regular(path) as file:
            head = file.read(_HEADER)
            file.seek(max(0, ref.nbytes - _TRAILER), os.SEEK_SET)
            return head, file.read(_TRAILER).rjust(_TRAILER, b"\0")
    except OSError as error:
        raise Refusal(f"{path.name} cannot be read: {error.strerror}.") from error


def _is_gzip(head: bytes) -> bool:
    """Return whether these ten bytes are a gzip header with the values that writers use.

    An uncompressed file starts like this once in 2**37 times.
    """
    return (
        len(head) == _HEADER
        and head[:3] == b"\x1f\x8b\x08"
        and head[3] < 0x20
        and head[8] in {0, 2, 4}
        and (head[9] <= 13 or head[9] == 255)
    )


def _is_checkpoint(head: bytes, ref: TensorRef) -> bool:
    """Return whether a file of this name would start like this, so that the payload was not compressed."""
    suffix = Path(ref.name).suffix.lower()
    if suffix in _ZIP_SUFFIXES:
        return head.startswith(b"PK\x03\x04")
    return suffix == ".safetensors" and head[8:9] == b"{" and int.from_bytes(head[:8], "little") < ref.nbytes


def _size_advice(name: str) -> str:
    """Return what it means if the size does not fit, and what to do."""
    return (
        f"it is damaged, or several gzip files in one. Test it with `gzip -t < {name}`; if it is sound, decompress it "
        f"yourself (gzip -dc < {name} > plain && mv plain {name}), else download it again."
    )


class GzipReader:
    """A decoder of one compressed payload file, in order from its start.

    `read` fills memory from the file.
    """

    def __init__(self, ref: TensorRef, read: Read) -> None:
        self.position = 0
        self._ref, self._read = ref, read
        self._decoder = zlib.decompressobj(_GZIP)
        self._taken = 0
        self._waiting = b""

    def read_into(self, offset: int, view: memoryview) -> None:
        """Fill `view` with the decoded bytes at `offset`, which must not be before `position`.

        At the end of the file, its size and checksum are checked.

        Raises Failure if the file is damaged.
        """
        while self.position < offset:
            self.position += len(self._next_bytes(offset - self.position))
        while view:
            part = self._next_bytes(len(view))
            view[: len(part)] = part
            view = view[len(part) :]
            self.position += len(part)
        if self.position == self._ref.nbytes:
            while not self._decoder.eof:
                if self._decode_part(1):
                    raise self._size_failure(
                        f"holds more than the {self._ref.nbytes} bytes that its end claims"
                    )
            if self._decoder.unused_data or self._taken < (self._ref.packed or 0):
                raise self._size_failure("holds more than one compressed file")

    def _next_bytes(self, most: int) -> bytes:
        """Return at least one byte and at most `most`."""
        while not (part := self._decode_part(most)):
            if self._decoder.eof:
                raise self._size_failure(f"ends after {self.position} bytes instead of {self._ref.nbytes}")
        return part

    def _decode_part(self, most: int) -> bytes:
        """Return decoded bytes; none if more encoded ones are needed first."""
        encoded = self._waiting
        if not encoded:  # the next encoded bytes; none at the end of the file
            size = min(_PART, (self._ref.packed or 0) - self._taken)
            buffer = bytearray(size)
            self._read(self._ref.path, self._taken, memoryview(buffer))
            self._taken += size
            encoded = bytes(buffer)
        try:
            part = self._decoder.decompress(encoded, min(most, _PART))
        except zlib.error as error:
            raise self._damage_failure() from error
        self._waiting = self._decoder.unconsumed_tail
        if not (encoded or part or self._decoder.eof):
            raise self._damage_failure()
        return part

    def _damage_failure(self) -> Failure:
        return Failure(
            f"The diff's {self._ref.name} is compressed with gzip and damaged or cut short, as seen before byte "
            f"{self._taken} of {self._ref.packed}; download it again."
        )

    def _size_failure(self, what: str) -> Failure:
        return Failure(
            f"The diff's {self._ref.name} is compressed with gzip and {what}: {_size_advice(self._ref.name)}"
        )
