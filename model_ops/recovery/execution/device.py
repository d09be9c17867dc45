"""What the engine needs from a device: memory on it, host memory that it can reach, and streams of work.

A stream runs the work submitted to it in order, asynchronously. An event marks everything a stream had been
given at some moment. With three streams and events between them, one block is copied in while another is
computed and a third is copied out. On the CPU the work is done at once, and there is nothing to wait for.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Protocol

import torch

from model_ops.recovery.formats.torch_dtypes import new_memory


class Event(Protocol):
    """All the work that a stream had been given at one moment."""

    def synchronize(self) -> None:
        """Wait until that work is done."""


class Stream(Protocol):
    """Work that is done in order."""

    def submit(self, work: Callable[[], None]) -> None:
        """Queue work after everything that was submitted, or waited for, before."""

    def wait(self, event: Event) -> None:
        """Do everything submitted from now on after the event."""

    def record(self) -> Event:
        """Return an event for everything submitted so far."""


class Device(Protocol):
    """One device.

    With `staged`, blocks are copied there and back; otherwise they are made in place. `part` is the number of
    values combined at once.
    """

    name: str
    staged: bool
    part: int
    torch_device: torch.device

    def memory(self, size: int) -> torch.Tensor:
        """Return new memory on the device, of `size` bytes."""

    def host_memory(self, size: int) -> AbstractContextManager[torch.Tensor]:
        """Return page-aligned memory of this process, of `size` bytes, for copies to and from the device."""

    def stream(self) -> Stream:
        """Return a new stream."""


class Cpu:
    """The CPU. With `staged`, its blocks are copied as for a real device."""

    name = "cpu"
    part = 256 * 1024  # 1 MiB of float32 fits the second-level cache

    def __init__(self, *, staged: bool = False) -> None:
        self.staged, self.torch_device = staged, torch.device("cpu")

    def memory(self, size: int) -> torch.Tensor:
        """Return ordinary memory."""
        return torch.empty(size, dtype=torch.uint8)

    def host_memory(self, size: int) -> AbstractContextManager[torch.Tensor]:
        """Return ordinary memory, aligned to pages."""
        return contextlib.nullcontext(new_memory(size))

    def stream(self) -> Stream:
        """Return a stream that does everything at once."""
        return _AtOnce()


class _AtOnce:
    """A stream and all of its events: whatever was submitted is already done."""

    def submit(self, work: Callable[[], None]) -> None:
        work()

    def wait(self, event: Event) -> None:
        pass

    def record(self) -> Event:
        return self

    def synchronize(self) -> None:
        pass


class Cuda:
    """One CUDA device."""

    staged = True
    part = 4 * 1024 * 1024  # few launches, and scratch memory that is small next to the blocks

    def __init__(self, number: int) -> None:
        self.name, self.torch_device = f"cuda:{number}", torch.device("cuda", number)

    def memory(self, size: int) -> torch.Tensor:
        """Return memory on the GPU."""
        return torch.empty(size, dtype=torch.uint8, device=self.torch_device)

    @contextlib.contextmanager
    def host_memory(self, size: int) -> Iterator[torch.Tensor]:
        """Yield page-locked memory.

        It is locked here because torch's own comes in powers of two and is never freed.
        """
        memory = new_memory(size)
        runtime = torch.cuda.cudart()
        with torch.cuda.device(self.torch_device):
            status = int(runtime.cudaHostRegister(memory.data_ptr(), memory.nbytes, 0))
        if status:
            raise torch.cuda.OutOfMemoryError(f"host memory could not be locked (CUDA error {status})")
        try:
            yield memory
        finally:
            with torch.cuda.device(self.torch_device):
                runtime.cudaHostUnregister(memory.data_ptr())

    def stream(self) -> Stream:
        """Return a CUDA stream."""
        return _CudaStream(torch.cuda.Stream(self.torch_device))


class _CudaStream:
    def __init__(self, stream: torch.cuda.Stream) -> None:
        self._stream = stream

    def submit(self, work: Callable[[], None]) -> None:
        with torch.cuda.stream(self._stream):
            work()

    def wait(self, event: Event) -> None:
        self._stream.wait_event(event)

    def record(self) -> Event:
        """Return an event that waiting threads sleep on, which leaves the processor free for hashes."""
        event: Event = torch.cuda.Event(blocking=True)
        self._stream.record_event(event)
        return event
