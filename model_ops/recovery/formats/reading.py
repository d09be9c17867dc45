"""Read ranges of the inputs into given memory, without leaving anything in the page cache."""

from __future__ import annotations

import os
from pathlib import Path

from model_ops.recovery.errors import Failure, Refusal
from model_ops.recovery.formats.folder import check_opened
from model_ops.recovery.formats.gzip_files import GzipReader
from model_ops.recovery.formats.tensors import TensorRef
from model_ops.recovery.system.control import Control
from model_ops.recovery.system.page_cache import ReadBehind


class Reader:
    """The open input files, by path; used by one thread at a time.

    It uses `pread`, since mapped pages count as memory. A pipe put in a file's place does not block it.
    """

    def __init__(self, control: Control) -> None:
        self._control = control
        self._open: dict[str, ReadBehind] = {}
        self._packed: dict[str, GzipReader] = {}

    def read_tensor(self, ref: TensorRef, offset: int, view: memoryview) -> None:
        """Fill `view` as `read_into` does. A compressed file is decoded, so its offsets should only grow."""
        if ref.packed is None:
            self.read_into(ref.path, offset, view)
            return
        packed = self._packed.get(ref.path)
        if packed is None or offset < packed.position:
            packed = self._packed[ref.path] = GzipReader(ref, self.read_into)
        packed.read_into(offset, view)

    def read_into(self, path: str, offset: int, view: memoryview, *, drop: bool = True) -> None:
        """Fill `view` with the bytes at `offset`; with `drop`, release their cached pages.

        Raises Failure, or Cancelled before reading if a stop was requested.
        """
        self._control.check()
        if path not in self._open:
            try:
                self._open[path] = ReadBehind(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
            except OSError as error:
                raise Failure(f"{Path(path).name} cannot be opened: {error.strerror}.") from error
            try:
                check_opened(Path(path), self._open[path].descriptor)
            except Refusal as error:  # replaced while weights are being made
                raise Failure(str(error)) from error
        file = self._open[path]
        done, size = 0, len(view)
        while done < size:
            try:
                got = os.preadv(file.descriptor, [view[done:]], offset + done)
            except OSError as error:
                raise Failure(
                    f"{Path(path).name} cannot be read at byte {offset + done}: {error.strerror}; check its disk, "
                    "or fetch the file again."
                ) from error
            if got == 0:
                raise Failure(
                    f"The input {Path(path).name} was cut short under way; put it back and run the same command again."
                )
            done += got
        self._control.count(read=size)
        if drop:
            file.drop(offset, size)

    def close(self) -> None:
        """Close every file."""
        while self._open:
            file = self._open.popitem()[1]
            file.finish()
            os.close(file.descriptor)
