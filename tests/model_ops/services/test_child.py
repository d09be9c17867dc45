from __future__ import annotations

import threading

import pytest

from model_ops.services.child import run_child

SHOW = "import os, sys; sys.exit(' '.join(sorted(set(os.environ) & set(sys.argv[1:]))))"


def test_child_gets_the_way_out_and_no_secret_of_the_portal(monkeypatch: pytest.MonkeyPatch) -> None:
    given = [
        "HTTPS_PROXY",
        "no_proxy",
        "SECRET_KEY",
        "DATABASE_URL",
        "REDIS_URL",
        "GATEHOUSE_HUB_TOKEN",
        "HF_TOKEN",
    ]
    for name in given:
        monkeypatch.setenv(name, "http://proxy.example.org:3128")
    ended = run_child(arguments=["-c", SHOW, *given], on_progress=lambda _: None, stop=threading.Event())
    assert (ended.status, ended.stopped, ended.last_words) == (1, False, "HTTPS_PROXY no_proxy")
