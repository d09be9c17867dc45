"""Validate the record of a finished shard, read back from a folder that others may have written to."""

from __future__ import annotations

from typing import Any

from model_ops.recovery.planning.plan import ShardPlan

_COUNTS = ("non_finite", "not_restored")
_VALUES = ("total", "min", "max")


def is_record(record: dict[str, Any], shard: ShardPlan) -> bool:
    """Return whether a record has the form that making this shard returns."""
    tensors, base_tensors = record.get("tensors"), record.get("base_tensors")
    open_entries = record.get("open_entries")
    return (
        (record.get("path"), record.get("size")) == (shard.file, shard.size)
        and all(isinstance(record.get(key), str) for key in ("sha256", "git_sha1"))
        and isinstance(tensors, dict)
        and tensors.keys() <= {task.name for task in shard.tasks}
        and all(map(_is_seen, tensors.values()))
        and isinstance(base_tensors, dict)
        and all(isinstance(fact, dict) for fact in base_tensors.values())
        and isinstance(open_entries, dict)
        and all(isinstance(ranges, list) and all(map(_is_range, ranges)) for ranges in open_entries.values())
    )


def _is_range(value: Any) -> bool:
    """Return whether a value is a range of an entry with its checksum."""
    return (
        isinstance(value, list)
        and len(value) == 3
        and all(type(each) is int and each >= 0 for each in value)
        and value[0] <= value[1]
        and value[2] < 2**32
    )


def _is_seen(seen: Any) -> bool:
    """Return whether a value has the form of one tensor's statistics."""
    return (
        isinstance(seen, dict)
        and all(type(seen.get(name)) is int and seen[name] >= 0 for name in _COUNTS)
        and all(isinstance(seen.get(name), int | float | None) for name in _VALUES)
    )
