"""Untrusted Markdown is rendered within limits, in a child without secrets, or shown as it was written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from access_requests.rendering.markdown import render_markdown
from access_requests.rendering.process import CHILD, ROOT, SHORT, Piece, as_written, is_cheap, render_all

SLOW = Piece("markdown", "![" * 128 * 1024)  # 7 s of CPU time without a limit
LONG = Piece("markdown", "# A\n\nSome *words*.\n\n" * 1000, base="/a/b/")
SHORT_ONE = Piece("inline", "I **agree**")


def test_long_text_is_rendered_as_a_short_one_would_be() -> None:
    made = render_all([LONG, SHORT_ONE, Piece("plain", "`a` b")])
    assert made.texts == [render_markdown(LONG.text, base="/a/b/"), "I <strong>agree</strong>", "a b"]
    assert not made.later


def test_text_that_reaches_the_limit_is_left_out_and_short_ones_are_not() -> None:
    made = render_all([SHORT_ONE, SLOW, LONG, SHORT_ONE], cpu=1)
    assert made.texts == ["I <strong>agree</strong>", None, None, "I <strong>agree</strong>"]
    assert not made.later


@pytest.mark.parametrize(
    "text",
    [
        "x" * (SHORT + 1),
        "|" + "a|" * 200 + "\n|" + "-|" * 200 + "\n" + "a\n" * 100,  # markdown-it fills it up to 20,000 cells
    ],
)
def test_text_that_may_be_dear_goes_to_the_child(text: str) -> None:
    assert not is_cheap([Piece("markdown", text)])
    assert is_cheap([Piece("markdown", text[:100])])


def test_texts_are_counted_together() -> None:
    half = Piece("inline", "x" * (SHORT // 2))
    assert is_cheap([half, half])
    assert not is_cheap([half, half, SHORT_ONE])


def test_html_that_is_too_large_is_left_out() -> None:
    """References turn a text of 60 kB into several megabytes."""
    many = Piece("markdown", f"[a]: /{'x' * 2000}\n\n" + "[a] " * 15_000)
    assert render_all([many]).texts == [None]


def test_child_has_nothing_of_the_environment() -> None:
    """The child has the (empty) environment of `render_all`, can write no file and starts with its limits."""
    look = CHILD.replace(
        "main()",
        "child._set_limits(5); import json, os, resource; "
        "print(json.dumps([dict(os.environ), resource.getrlimit(resource.RLIMIT_CPU), "
        "resource.getrlimit(resource.RLIMIT_FSIZE)]))",
    ).replace("access_requests.rendering.child import main", "access_requests.rendering import child")
    assert os.environ["DATABASE_URL"]
    found = subprocess.run(
        [sys.executable, "-I", "-X", "utf8", "-c", look, str(ROOT), "5"],
        env={},
        capture_output=True,
        check=True,
    )
    seen, cpu, size = json.loads(found.stdout)
    assert {name for name in seen if name != "LC_CTYPE"} == set()
    assert (cpu, size) == ([5, 5], [0, 0])


def test_text_as_written_cannot_run_anything() -> None:
    assert as_written(Piece("markdown", "<script>\0\ud800")) == "<pre>&lt;script&gt;\ufffd\ufffd</pre>"
    assert as_written(Piece("inline", "<b>\n x")) == "&lt;b&gt; x"
    assert as_written(Piece("plain", "<b>\n x")) == "<b> x"


def test_child_ends_with_the_process_that_waits_for_it() -> None:
    """The child of a killed worker ends with it; with the limit set here it could run on for minutes."""
    code = (
        "from access_requests.rendering.process import Piece, render_all\n"
        "render_all([Piece('markdown', '![' * 1024 * 1024)], cpu=600)"
    )
    parent = subprocess.Popen(
        [sys.executable, "-P", "-c", code], cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    try:
        while not (children := children_of(parent.pid)):
            assert parent.poll() is None
            time.sleep(0.01)
        child = children[0]
        while not is_limited(child):
            assert is_running(child)
            time.sleep(0.01)
    finally:
        parent.kill()
        parent.wait()
    deadline = time.monotonic() + 120
    while is_running(child):
        assert time.monotonic() < deadline, "the child outlived its parent"
        time.sleep(0.05)


def children_of(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_limited(pid: int) -> bool:
    """Return whether the child has set its limits; it ties its life to the parent's before that."""
    return any(
        line.split()[:4] == ["Max", "cpu", "time", "600"]
        for line in Path(f"/proc/{pid}/limits").read_text().splitlines()
    )


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
