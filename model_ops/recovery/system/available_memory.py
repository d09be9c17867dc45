"""Find out how much memory this process may still use: what the machine and its control group have left."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

# (controller in /proc/self/cgroup, its folder, limit, usage, the line of memory.stat that counts reclaimable
# memory)
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
    """Return the available bytes; None if the system does not say. `root` is where `proc` and `sys` are."""
    known = [
        int(line.split()[1]) * 1024
        for line in _read_lines(root / "proc/meminfo")
        if line.startswith("MemAvailable:")
    ]
    for group, limit_file, used_file, freed_line in _control_groups(root):
        limit, used = _read_number(group / limit_file), _read_number(group / used_file)
        if limit is not None and used is not None:
            lines = _read_lines(group / "memory.stat")
            freed = [line.split()[1] for line in lines if line.startswith(f"{freed_line} ")]
            known.append(limit - used + sum(map(int, freed)))
    return max(0, min(known)) if known else None


def _control_groups(root: Path) -> Iterator[tuple[Path, str, str, str]]:
    """Yield this process's groups and their parents, each with the last three columns of `_VERSIONS`."""
    for line in _read_lines(root / "proc/self/cgroup"):
        _, controllers, place = line.split(":", 2)
        for controller, folder, limit_file, used_file, freed_line in _VERSIONS:
            if controller in controllers.split(","):
                top = root / folder
                here = top / place.strip("/")
                for group in (here, *here.parents):
                    if group.is_relative_to(top):
                        yield group, limit_file, used_file, freed_line


def _read_number(path: Path) -> int | None:
    """Return the number in a file; None if the file is missing or says `max`."""
    text = "".join(_read_lines(path)).strip()
    return int(text) if text.isdigit() else None


def _read_lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
