"""Running transfers end with the right to them, however it ends and whichever token started them."""

from __future__ import annotations

import base64
import http.client
import time
from contextlib import ExitStack

import pytest

from tests.model_ops.hub.conftest import Portal
from tests.model_ops.hub.ways import slow_download

WITHIN = 60  # seconds
# The person's state towards the model, and how it ends.
CASES = [
    ("granted", "grant revoked"),
    ("granted", "grant over"),
    ("granted", "token revoked"),
    ("granted", "token over"),
    ("granted", "account disabled"),
    ("user_token", "grant revoked"),
    ("user_token", "token revoked"),
    ("decider", "role taken away"),
    ("decider", "account disabled"),
    ("owner", "role taken away"),
    ("superuser", "no superuser"),
    ("granted", "nothing"),
    ("user_token", "nothing"),
    ("decider", "nothing"),
]


def test_every_running_transfer_without_a_right_is_closed(portal: Portal, large: tuple[str, bytes]) -> None:
    """All run at once: those whose right ends are cut within a minute, including sendfile; the others finish."""
    path, content = large
    began = {}
    with ExitStack() as stack:
        for number, (state, _) in enumerate(CASES):
            token = portal.order("person", name=f"r-{number}", repo_id="maker/large", state=state)["token"]
            began[number] = stack.enter_context(slow_download(portal, path, token))
            assert (began[number].status, began[number].read(1000)) == (200, content[:1000])
        before = time.monotonic()
        for number, (_, how) in enumerate(CASES):
            portal.order("end", name=f"r-{number}", repo_id="maker/large", how=how)
        losers = [number for number, (_, how) in enumerate(CASES) if how != "nothing"]
        wait_for_end(portal, "maker/large", [f"r-{number}" for number in losers])
        assert time.monotonic() - before < WITHIN
        for number in losers:
            with pytest.raises((http.client.IncompleteRead, ConnectionError)):
                began[number].read()
        for number in set(began) - set(losers):
            assert began[number].read() == content[1000:]


def test_transfer_of_an_open_model_ends_when_its_gate_is_switched_on(
    portal: Portal, large: tuple[str, bytes]
) -> None:
    """This holds for anonymous and signed-in readers; an owner's transfer continues."""
    content = large[1]
    portal.order("model", repo_id="maker/opened", gate="none")
    add = {"large.bin": base64.b64encode(content).decode()}
    commit = portal.order("commit", repo_id="maker/opened", add=add)["commit"]
    path = f"/maker/opened/resolve/{commit}/large.bin"
    reader = portal.order("person", name="reader-of-all", repo_id="maker/opened", state="stranger")["token"]
    owner = portal.order("person", name="owner-of-it", repo_id="maker/opened", state="owner")["token"]
    with (
        slow_download(portal, path, None) as anonymous,
        slow_download(portal, path, reader) as read,
        slow_download(portal, path, owner) as owned,
    ):
        assert [response.status for response in (anonymous, read, owned)] == [200] * 3
        portal.order("end", name="nobody", repo_id="maker/opened", how="gate switched on")
        wait_for_end(portal, "maker/opened", [None, "reader-of-all"])
        for cut in (anonymous, read):
            with pytest.raises((http.client.IncompleteRead, ConnectionError)):
                cut.read()
        assert owned.read() == content
    assert portal.ask("GET", path).status == 401


def wait_for_end(portal: Portal, repo_id: str, names: list[str | None]) -> None:
    """Wait until the log has a body of each of these people that was cut off."""
    deadline = time.monotonic() + WITHIN
    while time.monotonic() < deadline:
        ended = {row["user"]: row for row in portal.order("downloads", repo_id=repo_id)}
        if set(names) <= set(ended):
            assert all(ended[name]["bytes_sent"] < ended[name]["bytes_asked"] for name in names)
            return
        time.sleep(0.1)
    pytest.fail(f"still running: {set(names) - set(ended)}")
