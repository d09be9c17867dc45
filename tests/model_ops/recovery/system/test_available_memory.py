"""Free memory as Linux reports it, read from folders that look like `proc` and `sys`."""

import pytest

from model_ops.recovery.system.available_memory import available_memory

GB = 10**9
MEMINFO = "MemTotal:  16000000 kB\nMemAvailable:  10000000 kB\nCached: 1 kB\n"


def lay_out(root, groups, files):
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/meminfo").write_text(MEMINFO)
    (root / "proc/self/cgroup").write_text(groups)
    for name, text in files.items():
        path = root / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    return root


def version_2(folder, limit, used, cached=0):
    names = ("memory.max", "memory.current", "memory.stat")
    return {
        f"{folder}{name}": text
        for name, text in zip(names, (limit, used, f"anon 1\ninactive_file {cached}"), strict=True)
    }


def version_1(folder, limit, used, cached=0):
    names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "memory.stat")
    texts = (limit, used, f"inactive_file 1\ntotal_inactive_file {cached}")
    return {f"memory/{folder}{name}": text for name, text in zip(names, texts, strict=True)}


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        ("0::/\n", {}, 10_240_000_000),
        ("0::/\n", version_2("", "max", 3 * GB), 10_240_000_000),
        ("0::/\n", version_2("", 4 * GB, 3 * GB, cached=GB), 2 * GB),
        ("0::/job/step\n", {**version_2("job/", 2 * GB, GB), **version_2("job/step/", "max", GB)}, GB),
        ("0::/\n", version_2("", GB, 2 * GB), 0),
        ("5:cpu:/a\n4:memory:/box\n0::/\n", version_1("box/", 5 * GB, 3 * GB, cached=GB), 3 * GB),
        ("4:memory:/\n", version_1("", 9223372036854771712, GB), 10_240_000_000),
        ("4:memory:/not/seen/here\n", version_1("", 3 * GB, GB), 2 * GB),
    ],
)  # fmt: skip
def test_least_of_machine_and_groups_counts(tmp_path, groups, files, expected):
    assert available_memory(lay_out(tmp_path, groups, files)) == expected


def test_a_system_that_does_not_say_is_none(tmp_path):
    assert available_memory(tmp_path) is None


def test_this_machine_has_some_memory():
    assert available_memory() > 10**6
