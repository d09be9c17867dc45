"""Each refusal of the gate with each client: the exception, and the message that reaches the terminal."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from tests.clients.driving import Driver
from tests.model_ops.hub.conftest import MODEL, Portal

FETCH = "from huggingface_hub import hf_hub_download\nhf_hub_download({repo!r}, {path!r}, revision={revision!r}, cache_dir='refused')"


@dataclass(frozen=True)
class Refusal:
    """A refused download: whose, of what, the exception's class and its message.

    `{page}` is the model's page.
    """

    who: str
    sentence: str
    error: str = "GatedRepoError"
    repo: str = MODEL
    path: str = "config.json"
    revision: str | None = None
    by_command: str = ""  # where `hf` prints its own message instead


# In the order of the Gate list.
REFUSALS = {
    "anonymous": Refusal("anonymous", "Sign in and ask for access at {page}"),
    "not asked": Refusal("stranger", "Ask for access at {page}"),
    "draft": Refusal("draft", "is a draft: submit it at {page}/request"),
    "pending": Refusal("pending", "is waiting for a reviewer (position 1 in the queue): {page}"),
    "changes requested": Refusal("changes_requested", "asked for changes to your request"),
    "rejected": Refusal("rejected", "was rejected (the intended use is not described well enough): read why, appeal"),
    "withdrawn": Refusal("withdrawn", "You withdrew your request"),
    "reset": Refusal("reset", "A reviewer closed your request"),
    "expired": Refusal("expired", "Your access ended on"),
    "revoked": Refusal("revoked", "Your access was revoked on"),
    "licence owed": Refusal("owing", "read it and agree at", repo="maker/relicensed"),
    "token expired": Refusal("token_over", "This token ended on"),
    "token revoked": Refusal("ended_token", "This token was revoked on"),
    "token of another model": Refusal("out_of_scope", "This token belongs to another grant"),
    "token unknown": Refusal("unknown", "This is not a Gatehouse token"),
    "account disabled": Refusal("disabled", "The account of this token is disabled"),
    "weights being made": Refusal("waiting", "are being recovered, 42 %", repo="maker/coming", path="model.safetensors"),
    "repo unknown": Refusal("granted", "Repository not found: no/such", "RepositoryNotFoundError", repo="no/such", by_command="not found"),
    "revision unknown": Refusal("granted", "Invalid rev id: nope", "RevisionNotFoundError", revision="nope", by_command="nope"),
    "file unknown": Refusal("granted", "Entry not found: none.json", "EntryNotFoundError", path="none.json", by_command="none.json"),
    "hidden": Refusal("stranger", "Repository not found: maker/hidden", "RepositoryNotFoundError", repo="maker/hidden", by_command="not found"),
}  # fmt: skip


@pytest.fixture(scope="session")
def prepared(portal: Portal) -> Portal:
    """Return the portal, with what the hub's tests do not set up."""
    portal.order("model", repo_id="maker/hidden", listed=False)
    portal.order("model", repo_id="maker/relicensed")
    portal.tokens["owing"] = portal.order(
        "person", name="owing", repo_id="maker/relicensed", state="granted"
    )["token"]
    portal.order("demand_licence", repo_id="maker/relicensed")
    portal.order("model", repo_id="maker/coming")
    portal.tokens["waiting"] = portal.order(
        "person", name="waiting", repo_id="maker/coming", state="granted"
    )["token"]
    portal.order("recovery", repo_id="maker/coming", state="running", done=42, total=100)
    over = portal.order("person", name="token-over", repo_id=MODEL, state="granted")["token"]
    portal.order("expire", secret=over)
    portal.tokens["token_over"] = over
    portal.tokens["reset"] = portal.order("person", name="was-reset", repo_id=MODEL, state="pending")["token"]
    portal.order("reset", name="was-reset", repo_id=MODEL)
    return portal


def sentence_of(refusal: Refusal, portal: Portal) -> str:
    return refusal.sentence.format(page=f"{portal.url}/{refusal.repo}")


@pytest.mark.parametrize("name", REFUSALS)
def test_python_raises_and_shows_the_sentence(driver: Driver, prepared: Portal, name: str) -> None:
    refusal = REFUSALS[name]
    code = FETCH.format(repo=refusal.repo, path=refusal.path, revision=refusal.revision)
    run = driver.python(code, token=prepared.tokens[refusal.who])
    assert run.status == 1
    raised = [
        line.rpartition(":")[0].strip() for line in run.stderr.splitlines() if f"{refusal.error}: " in line
    ]
    assert raised or f".{refusal.error}:" in run.stderr.replace("Remote", ""), run.stderr[-3000:]
    assert "LocalEntryNotFoundError" not in run.stderr
    assert sentence_of(refusal, prepared) in run.said


@pytest.mark.parametrize("name", REFUSALS)
def test_the_command_shows_the_sentence(driver: Driver, prepared: Portal, name: str) -> None:
    refusal = REFUSALS[name]
    argv = ["download", refusal.repo, refusal.path, "--cache-dir", "refused-command"]
    argv += ["--revision", refusal.revision] if refusal.revision else []
    run = driver.hf(*argv, token=prepared.tokens[refusal.who])
    assert run.status == 1
    expected = sentence_of(refusal, prepared)
    assert expected in run.said or (refusal.by_command and refusal.by_command in run.said), run.said[-3000:]


def test_an_end_that_is_near_is_said_with_the_file(new_driver: Driver, prepared: Portal) -> None:
    run = new_driver.hf(
        "download", MODEL, "config.json", "--cache-dir", "soon", token=prepared.tokens["ends_soon"]
    )
    assert run.status == 0
    assert "ask again in time" in run.said or f"{prepared.url}/{MODEL}" in run.said, run.said
