"""What the engine asks of a device: memory there, host memory that it can reach, and streams of work.

A stream does what is submitted to it in order, and later; an event stands for all that one stream was given up to
a moment. With three streams and the events between them one block comes in while another is made and a third one
leaves. On the CPU the work is done at once, and there is nothing to wait for.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Protocol

import torch

from model_ops.recovery.formats.torch_dtypes import new_memory


class Event(Protocol):
    """All the work that one stream had been given at one moment."""

    def synchronize(self) -> None:
        """Return when it is done."""


class Stream(Protocol):
    """Work in order."""

    def submit(self, work: Callable[[], None]) -> None:
        """To be done after everything submitted, or waited for, before."""

    def wait(self, event: Event) -> None:
        """What is submitted from now on is done after the event."""

    def record(self) -> Event:
        """All that was submitted until now."""


class Device(Protocol):
    """One device. `staged`: blocks are copied there and back; else they are made where they lie. `part`: as many
    values are combined at once.
    """

    name: str
    staged: bool
    part: int
    torch_device: torch.device

    def memory(self, size: int) -> torch.Tensor:
        """Bytes of the device's memory."""

    def host_memory(self, size: int) -> AbstractContextManager[torch.Tensor]:
        """Bytes of this process's memory, from a page's beginning on, for copies to and from the device."""

    def stream(self) -> Stream:
        """A new stream."""


class Cpu:
    """The CPU; where `staged`, it takes its blocks the long way, as a device does."""

    name = "cpu"
    part = 256 * 1024  # 1 MiB of float32 stays in the second-level cache

    def __init__(self, *, staged: bool = False) -> None:
        self.staged, self.torch_device = staged, torch.device("cpu")

    def memory(self, size: int) -> torch.Tensor:
        """Plain memory."""
        return torch.empty(size, dtype=torch.uint8)

    def host_memory(self, size: int) -> AbstractContextManager[torch.Tensor]:
        """Plain memory, aligned."""
        return contextlib.nullcontext(new_memory(size))

    def stream(self) -> Stream:
        """Does everything at once."""
        return _AtOnce()


class _AtOnce:
    """A stream, and each of its events: whatever was submitted is done."""

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
    part = 4 * 1024 * 1024  # few launches, and scratch that is small beside the blocks

    def __init__(self, number: int) -> None:
        self.name, self.torch_device = f"cuda:{number}", torch.device("cuda", number)

    def memory(self, size: int) -> torch.Tensor:
        """Memory of the GPU."""
        return torch.empty(size, dtype=torch.uint8, device=self.torch_device)

    @contextlib.contextmanager
    def host_memory(self, size: int) -> Iterator[torch.Tensor]:
        """Page-locked memory. torch's own comes in powers of two and is never given back, so it is locked here."""
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
        """A CUDA stream."""
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
        """Let waiting threads sleep, since the processor has hashes to compute."""
        event: Event = torch.cuda.Event(blocking=True)
        self._stream.record_event(event)
        return event
