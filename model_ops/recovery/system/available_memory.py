"""How much memory this process may still take: what the machine has left, and what its control group does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

# (controller in /proc/self/cgroup, its folder, limit, in use, the line of memory.stat that counts what can be given back)
_VERSIONS = (
    ("", "sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"),
    (
        "memory",
        "sys/fs/cgroup/memory",
        "memory.limit_in_bytes",
        "memory.usage_in_bytes",
        "total_inactive_file",
    ),
)


def available_memory(root: Path = Path("/")) -> int | None:
    """Bytes; None where the system does not say. `root` is where `proc` and `sys` lie."""
    known = [*_of_the_machine(root), *_of_control_groups(root)]
    return max(0, min(known)) if known else None


def _of_the_machine(root: Path) -> Iterator[int]:
    for line in _lines(root / "proc/meminfo"):
        if line.startswith("MemAvailable:"):
            yield int(line.split()[1]) * 1024


def _of_control_groups(root: Path) -> Iterator[int]:
    """Return what is left in each group of this process and in the groups around it."""
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, place = line.split(":", 2)
        for controller, folder, *files in _VERSIONS:
            if controller in controllers.split(","):
                top = root / folder
                here = top / place.strip("/")
                for group in (here, *here.parents):
                    if group.is_relative_to(top):
                        yield from _left(group, *files)


def _left(group: Path, limit_file: str, used_file: str, freed_line: str) -> Iterator[int]:
    limit, used = _number(group / limit_file), _number(group / used_file)
    if limit is None or used is None:
        return
    freed = [line.split()[1] for line in _lines(group / "memory.stat") if line.startswith(f"{freed_line} ")]
    yield limit - used + sum(map(int, freed))


def _number(path: Path) -> int | None:
    """None where the file is missing, or says `max`."""
    text = "".join(_lines(path)).strip()
    return int(text) if text.isdigit() else None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
