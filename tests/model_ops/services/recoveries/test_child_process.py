from __future__ import annotations

import os
import threading
from typing import Any

import pytest

from model_ops.child_environment import ENGINE, FETCH
from model_ops.services.recoveries.child_process import run_child

SHOW = "import json, os; print(json.dumps({'names': sorted(os.environ), 'umask': os.umask(0)}))"
TOLD = "import json, sys; print(json.dumps({'told': sys.stdin.read()}))"
FDS = "import json, os; print(json.dumps({'fds': sorted(int(fd) for fd in os.listdir('/proc/self/fd'))}))"
SECRETS = ("SECRET_KEY", "DATABASE_URL", "REDIS_URL", "EMAIL_URL", "GATEHOUSE_HUB_TOKEN", "GATEHOUSE_FOLLOW_TOKENS", "HF_TOKEN",
           "AWS_SECRET_ACCESS_KEY", "GATEHOUSE_OWNER_DATABASE_URL", "PYTHONPATH")  # fmt: skip


def result(code: str, **options: Any) -> dict[str, Any]:
    ended = run_child(
        arguments=["-P", "-c", code], on_progress=lambda _: None, stop=threading.Event(), **options
    )
    assert (ended.status, ended.last_words) == (0, "")
    return ended.result


@pytest.fixture
def worker_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of a worker with every secret, a proxy and a device."""
    for name in os.environ:
        monkeypatch.delenv(name)
    for name in (*SECRETS, "PATH", "HTTPS_PROXY", "no_proxy", "CUDA_VISIBLE_DEVICES", "LC_ALL"):
        monkeypatch.setenv(name, "C")


@pytest.mark.parametrize(
    ("allowed", "expected"),
    [(ENGINE, {"CUDA_VISIBLE_DEVICES"}), (FETCH, {"HTTPS_PROXY", "no_proxy"})],
    ids=["engine", "fetch"],
)
def test_child_gets_what_it_uses_and_no_secret_of_the_portal(
    worker_environment: None, allowed: tuple[str, ...], expected: set[str]
) -> None:
    said = result(SHOW, allowed=allowed)
    always = {"PATH", "LC_ALL", "PYTHONUNBUFFERED", "GATEHOUSE_PRIVATE_FILES"}
    assert (set(said["names"]) - {"LC_CTYPE"}, said["umask"]) == (always | expected, 0o077)


def test_child_reads_what_it_is_told_where_no_process_list_shows_it() -> None:
    assert result(TOLD, told="hf_secret") == {"told": "hf_secret"}
    assert result(TOLD) == {"told": ""}


def test_child_has_no_open_file_of_ours() -> None:
    with open(os.devnull) as ours:  # noqa: PTH123 - any open file
        os.set_inheritable(ours.fileno(), True)
        said = result(FDS)
    assert len(said["fds"]) == 4, said  # the three standard ones and the folder that it lists
