"""What a plan is: shards, files, sizes and identity; as JSON for a program and as text for a person."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from model_ops.recovery import ENGINE_VERSION
from model_ops.recovery.checkpoints.checkpoint import Checkpoint
from model_ops.recovery.errors import one_line
from model_ops.recovery.formats.dtypes import INPUT_NAMES, LONG_NAMES
from model_ops.recovery.planning.diff_facts import TensorFact
from model_ops.recovery.planning.expected_sum import ExpectedSum
from model_ops.recovery.planning.identity import FileIdentity, digest_of
from model_ops.recovery.planning.rules import TensorTask

INDEX = "model.safetensors.index.json"
_DISK_MARGIN = 16 * 1024 * 1024  # for the manifest, and for the file system's own data
_MOST_LINES = 20  # of each kind in the text for a person


@dataclass(frozen=True)
class Placed:
    """A task, and where its result begins in the shard's file."""

    task: TensorTask
    offset: int
    nbytes: int


@dataclass(frozen=True)
class ShardPlan:
    """One output file: its header, then its tensors in name order.

    It can be made without the other shards.
    """

    file: str
    header: bytes
    tensors: tuple[Placed, ...]
    size: int

    @cached_property
    def tasks(self) -> list[TensorTask]:
        """Return its tensors' tasks in file order."""
        return [placed.task for placed in self.tensors]


@dataclass(frozen=True)
class Copy:
    """A file next to the weights, as it was, and its size in the result."""

    source: FileIdentity
    size: int

    @property
    def name(self) -> str:
        """Return its name, which is the same in both folders."""
        return self.source.name

    @property
    def mtime_ns(self) -> int:
        """Return when the source was last changed."""
        return self.source.mtime_ns

    def public(self) -> dict[str, Any]:
        """Return what a manifest says about it, with the size in the result."""
        return {**self.source.public(), "size": self.size}


@dataclass(frozen=True)
class Plan:
    """Everything a run will do. `options` are those that change a byte of the result."""

    action: str
    base: Checkpoint
    first: Checkpoint
    options: dict[str, Any]
    dtype: str
    shards: tuple[ShardPlan, ...]
    index: bytes | None
    copies: tuple[Copy, ...]
    base_files: tuple[FileIdentity, ...]
    first_files: tuple[FileIdentity, ...]
    base_tensors: dict[str, TensorFact]
    dropped: tuple[str, ...]
    resized: tuple[str, ...]
    notes: tuple[str, ...]
    peak_memory: int
    expected: ExpectedSum | None = None

    @property
    def compat(self) -> str:
        """Return the tool whose arithmetic is followed."""
        return str(self.options.get("compat", "none"))

    @property
    def dtype_name(self) -> str:
        """Return the dtype written, as people write it; `bytes` if files are combined byte by byte."""
        return LONG_NAMES.get(self.dtype, "bytes")

    @property
    def sign(self) -> int:
        """Return +1 to recover, -1 to make a diff."""
        return -1 if self.action == "make_diff" else 1

    @cached_property
    def identity(self) -> str:
        """Return an id that depends only on inputs and options, not on the folders' paths or times."""
        inputs = [[file.public() for file in files] for files in self._all_files]
        tasks = [task for shard in self.shards for task in shard.tasks]
        rules = [[task.name, task.rule, task.fill] for task in tasks]
        return digest_of([ENGINE_VERSION, self.action, self.options, rules, *inputs])

    @cached_property
    def strict_identity(self) -> str:
        """Return an id like `identity` that also covers the inputs' modification times.

        A resumed run compares it.
        """
        times = [[file.mtime_ns for file in files] for files in self._all_files]
        return digest_of([self.identity, times])

    @property
    def _all_files(self) -> tuple[tuple[FileIdentity | Copy, ...], ...]:
        return (self.base_files, self.first_files, self.copies)

    @property
    def files(self) -> tuple[tuple[str, int], ...]:
        """Return (name, bytes) of every file that will be written, except the manifest."""
        index = ((INDEX, len(self.index)),) if self.index else ()
        copies = tuple((file.name, file.size) for file in self.copies)
        return (*((shard.file, shard.size) for shard in self.shards), *index, *copies)

    @property
    def bytes_to_write(self) -> int:
        """Return the bytes of all files, except the manifest."""
        return sum(size for _, size in self.files)

    @property
    def disk_needed(self) -> int:
        """Return the free bytes that the run requires: everything it writes, and the manifest."""
        return self.bytes_to_write + _DISK_MARGIN

    @property
    def bytes_of_weights(self) -> int:
        """Return the bytes of the shards alone, which progress counts."""
        return sum(shard.size for shard in self.shards)

    @property
    def bytes_to_read(self) -> int:
        """Return the bytes of all ranges that are read, each counted once.

        Mean rows and the base check read some of them twice.
        """
        tasks = [task for shard in self.shards for task in shard.tasks]
        ranges = sum(task.first.bytes_to_read + sum(term.nbytes for term in task.terms) for task in tasks)
        return ranges + sum(file.source.size for file in self.copies)

    def to_json(self) -> dict[str, Any]:
        """Return the plan as one JSON object without paths.

        It is stored with the job and shown to the owner.
        """
        return {
            "action": self.action,
            "identity": self.identity,
            "options": self.options,
            "dtype": self.dtype_name,
            "base": _input_facts(self.base, self.base_files),
            self.first.role: _input_facts(self.first, self.first_files),
            "files": [{"file": name, "bytes": size} for name, size in self.files],
            "shards": [
                {
                    "file": shard.file,
                    "bytes": shard.size,
                    "tensors": [
                        {
                            "name": task.name,
                            "rule": task.rule,
                            "dtype": task.whole or self.dtype,
                            "shape": list(task.shape),
                        }
                        for task in shard.tasks
                    ],
                }
                for shard in self.shards
            ],
            "resized": list(self.resized),
            "dropped": list(self.dropped),
            "notes": list(self.notes),
            "base_is_checked": bool(self.base_tensors),
            "expected_sum": self.expected.to_json() if self.expected else None,
            "bytes_to_read": self.bytes_to_read,
            "bytes_to_write": self.bytes_to_write,
            "disk_needed": self.disk_needed,
            "peak_memory": self.peak_memory,
        }

    def summary(self) -> str:
        """Return the plan in a few lines for a person."""
        how = f"{self.compat} arithmetic" if self.options["method"] == "add" else "exclusive or of files"
        weights, others = len(self.shards), len(self.files) - len(self.shards)
        lines = [
            _input_line(self.base, self.base_files),
            _input_line(self.first, self.first_files),
            f"{self.action}: {how}, written as {self.dtype_name} in {weights} weight file(s) and {others} other(s)",
            *_first_lines("written", [f"{name}, {human(size)}" for name, size in self.files]),
            *_first_lines("grown", self.resized),
            *_first_lines("dropped", self.dropped),
            *_first_lines("note", self.notes),
        ]
        if self.action == "recover":
            checks = []  # how it is known that base and diff match
            if self.base_tensors:
                checks.append("checked against the diff's manifest before anything is written")
            if self.expected:
                checks.append(f"{self.expected.describe()}, compared before the result becomes visible")
            if not checks:
                hint = "; compare the base files with the checksums that the publisher lists"
                checks.append(f"not named by the diff{hint if self.options['method'] == 'xor' else ''}")
            lines += [f"identity of the base: {check}" for check in checks]
        lines += [
            f"reads {human(self.bytes_to_read)}, writes {human(self.bytes_to_write)}",
            f"needs {human(self.disk_needed)} of free disk and at most about {human(self.peak_memory)} of memory",
        ]
        return "\n".join(map(one_line, lines))


def _input_facts(checkpoint: Checkpoint, files: tuple[FileIdentity, ...]) -> dict[str, Any]:
    return {
        "format": checkpoint.format,
        "dtypes": list(checkpoint.dtypes),
        "tensors": len(checkpoint.tensors),
        "tied": [list(tie.names) for tie in checkpoint.ties],
        "files": [{"file": file.name, "bytes": file.size} for file in files],
    }


def _input_line(checkpoint: Checkpoint, files: tuple[FileIdentity, ...]) -> str:
    kinds = "/".join(INPUT_NAMES.get(dtype, dtype) for dtype in checkpoint.dtypes)
    size = human(sum(file.size for file in files))
    return (
        f"{checkpoint.role}: {len(checkpoint.tensors)} tensors, {kinds}, {checkpoint.format}, "
        f"{len(files)} file(s), {size}"
    )


def _first_lines(word: str, entries: Sequence[str]) -> list[str]:
    """Return a line for each entry; if there are many, only the first, since the JSON has them all."""
    shown = entries if len(entries) <= _MOST_LINES else entries[: _MOST_LINES - 1]
    more = len(entries) - len(shown)
    return [*(f"{word}: {entry}" for entry in shown), *([f"{word}: and {more} more"] if more else [])]


def human(size: float) -> str:
    """Return a size for a person, in powers of ten."""
    for unit in ("B", "KB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.2f} GB"
