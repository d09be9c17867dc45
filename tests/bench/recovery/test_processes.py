"""Watching a process counts its children's memory and the bytes read, and long output does not block."""

import sys

import pytest

from tests.bench.recovery.processes import watch

HOLD = "x = bytearray(b'x' * {size}); import time; time.sleep(0.3)"


def test_memory_of_parent_and_child_is_added():
    size = 100_000_000
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {HOLD.format(size=size)!r}])"
    seen = watch([sys.executable, "-c", f"held = bytearray(b'x' * {size}); {child}"])
    assert seen.status == 0
    assert seen.peak_rss > 2 * size


def test_bytes_read_are_counted_to_the_end(tmp_path):
    (tmp_path / "file").write_bytes(b"x" * 50_000_000)
    seen = watch([sys.executable, "-c", f"print(len(open({str(tmp_path / 'file')!r}, 'rb').read()))"])
    assert seen.last_line == "50000000"
    assert 50_000_000 < seen.chars_read < 60_000_000


def test_long_output_and_the_last_complaint_are_kept():
    seen = watch([sys.executable, "-c", "import sys; print('x' * 10**6); sys.exit('a\\nb')"])
    assert (seen.status, len(seen.output), seen.complaint) == (1, 10**6 + 1, "b")


@pytest.mark.parametrize("code", ["", "import time; time.sleep(0.05)"])
def test_process_that_says_nothing(code):
    seen = watch([sys.executable, "-c", code])
    assert (seen.status, seen.last_line, seen.complaint) == (0, "", "it said nothing")
