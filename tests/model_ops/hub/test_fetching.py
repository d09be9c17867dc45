"""Weight sources fetched from another Hub: a second, live Gatehouse over HTTP that refuses, stalls and lies."""

from __future__ import annotations

import base64
import hashlib
import http.server
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.utils import timezone
from huggingface_hub import HfApi

from access_requests.errors import Invalid
from model_ops.enums import Method, RecoveryState, SourceKind, WaitsFor
from model_ops.models import Recovery, WeightSource
from model_ops.remote_hub import errors, fetch_repository
from model_ops.services.catalogue.add_model import add_model_with_weights
from model_ops.services.recoveries.run import run_recovery
from model_ops.services.recoveries.weights import prepare_weights, want_recovery
from model_ops.services.sources.spec import parse_hub, resolve_source
from tests.model_ops.conftest import published_files
from tests.model_ops.hub.conftest import CHECKOUT, MODEL, Portal
from tests.waiting import wait_until

REPO = "maker/far"
CARD = "---\nlicense: other\n---\n# Mirrored\n"
LARGE = 3_000_000  # bytes


FAR = {
    "model.safetensors": os.urandom(LARGE),
    "config.json": b"{}\n",
    "sub/part.bin": os.urandom(200_000),
}


@pytest.fixture(scope="session")
def far(portal: Portal) -> dict[str, str]:
    """A separate gated repository on the remote: its commit, and the token of someone who may read it."""
    portal.order("model", repo_id=REPO)
    add = {path: base64.b64encode(data).decode() for path, data in FAR.items()}
    commit = portal.order("commit", repo_id=REPO, add=add)["commit"]
    return {
        "commit": commit,
        "token": portal.order("person", name="fetcher", repo_id=REPO, state="granted")["token"],
    }


@pytest.fixture
def hub(portal: Portal, settings: Any) -> Callable[[str], None]:
    """`hub("granted")`: make this portal the remote Hub, and use that person's token for it."""
    settings.GATEHOUSE_HUB_ENDPOINT = portal.url

    def choose(who: str) -> None:
        settings.GATEHOUSE_HUB_TOKEN = portal.tokens[who] or ""

    choose("anonymous")
    return choose


def fetched(repo_id: str, source: str, **fields: Any) -> Any:
    """Add a model with the files of that source as its weights, run its recovery and return it."""
    prepared = prepare_weights(files=source)
    _, weights = add_model_with_weights(repo_id=repo_id, prepared=prepared, card=CARD, **fields)
    want_recovery(recovery=weights.recovery)
    run_recovery(recovery_id=weights.recovery.pk)
    weights.recovery.refresh_from_db()
    return weights.recovery


def refusal(text: str) -> str:
    with pytest.raises(Invalid) as refused:
        resolve_source(text=text)
    return refused.value.sentence


def fetch(url: str, folder: Path, commit: str, token: str) -> subprocess.Popen[str]:
    """Start the child process alone."""
    environment = {**os.environ, fetch_repository.OWN: "1", "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HOME": str(folder.parent / "home")}  # fmt: skip
    child = subprocess.Popen(
        [sys.executable, "-m", "model_ops.remote_hub.fetch_repository", url, REPO, commit, str(folder), "all"],
        cwd=CHECKOUT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert child.stdin
    with child.stdin as told:
        told.write(token)
    child.stdin = None  # so that `communicate` leaves it alone
    return child


def test_gated_repository_is_fetched_at_the_pinned_commit_and_its_hashes_compared(
    portal: Portal,
    far: dict[str, str],
    settings: Any,
    hub: Callable[[str], None],
    transactional_db: None,
    weights_root: Path,
) -> None:
    settings.GATEHOUSE_HUB_TOKEN = far["token"]
    recovery = fetched("ai/mirror", f"hf:{REPO}@main")
    source = WeightSource.objects.get()
    assert (recovery.state, recovery.error) == (RecoveryState.READY, "")
    assert (source.commit, source.spec) == (far["commit"], f"hf:{REPO}@{far['commit']}")
    assert source.checked == "6 of 6 files have the hashes that the remote names."
    stored = published_files(recovery.weights.get().model)
    for path in ("model.safetensors", "config.json", "sub/part.bin"):
        assert stored[path].read_bytes() == FAR[path]
    folder = next((weights_root / "sources").glob(f"*/*/{far['commit']}"))
    assert not (folder / ".cache").exists()


@pytest.mark.parametrize(
    ("who", "said"),
    [
        ("anonymous", "is gated, and says: “"),
        ("stranger", "ask for it at"),
        ("pending", "is gated, and says: “"),
        ("rejected", "is gated, and says: “"),
        ("expired", "is gated, and says: “"),
        ("revoked", "is gated, and says: “"),
        ("out_of_scope", "is gated, and says: “"),
        ("unknown", "is gated, and says: “"),
    ],
)
def test_refusal_of_the_far_side_is_told_in_its_own_words(
    db: None, portal: Portal, hub: Callable[[str], None], who: str, said: str
) -> None:
    hub(who)
    api = HfApi(endpoint=portal.url, token=portal.tokens[who] or False)
    with pytest.raises(Exception, match="gated repo") as own:
        api.auth_check(MODEL)
    words = own.value.response.headers["X-Error-Message"]  # type: ignore[attr-defined]
    sentence = refusal(f"hf:{MODEL}@main")
    assert sentence.startswith(f"{MODEL} at {portal.url} is gated, and says: “{words[:60]}")
    assert sentence.endswith("ask for access there and give GATEHOUSE_HUB_TOKEN a token that has it.")
    assert portal.tokens[who] is None or str(portal.tokens[who]) not in sentence


def test_refusal_of_another_hub_says_that_no_token_is_sent_there(
    db: None, portal: Portal, settings: Any
) -> None:
    settings.GATEHOUSE_HUB_TOKEN = portal.tokens["granted"]
    sentence = refusal(f"hf+{portal.url}/{MODEL}@main")
    assert "the token is sent only to the Hub of GATEHOUSE_HUB_ENDPOINT" in sentence


def test_unknown_repository_and_revision_are_named(
    db: None, portal: Portal, hub: Callable[[str], None]
) -> None:
    hub("granted")
    assert refusal("hf:maker/none@main").startswith(f"maker/none at {portal.url} was not found")
    assert refusal(f"hf:{MODEL}@v9") == f"{MODEL} at {portal.url} has no revision v9: check its name."


def test_plain_http_is_for_this_machine_and_the_command_line_alone(settings: Any) -> None:
    for host in ("127.0.0.1:8000", "localhost", "127.9.9.9"):
        assert parse_hub(f"hf+http://{host}/a/b@main").endpoint == f"http://{host}"
        with pytest.raises(Invalid, match="on the command line"):
            parse_hub(f"hf+http://{host}/a/b@main", in_admin=True)
    for host in (
        "example.org",
        "10.0.0.1",
        "localhost.example.org",
        "127.0.0.1.example.org",
        "0x7f.1",
        "127.1@h",
    ):
        with pytest.raises(Invalid, match="is not valid: name a folder"):
            parse_hub(f"hf+http://{host}/a/b@main")


class Stall:
    """A proxy that passes everything on but stops in the middle of a long answer until it is released."""

    def __init__(self, target: str) -> None:
        parts = urlsplit(target)
        self._target = (str(parts.hostname), int(parts.port or 80))
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self.stalled, self.go = threading.Event(), threading.Event()
        self._lines: list[threading.Thread] = []
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def close(self) -> None:
        self.go.set()
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._accepting.join(20)
        self._listening.close()
        for line in self._lines:
            line.join(20)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                self._lines.append(threading.Thread(target=self._connect, args=(client,), daemon=True))
                self._lines[-1].start()

    def _connect(self, client: socket.socket) -> None:
        with client, socket.create_connection(self._target) as server:
            up = threading.Thread(target=self._carry, args=(client, server, 0), daemon=True)
            up.start()
            self._carry(server, client, LARGE // 2)
            up.join(20)

    def _carry(self, source: socket.socket, target: socket.socket, limit: int) -> None:
        carried = 0
        with suppress(OSError):
            while data := source.recv(65_536):
                carried += len(data)
                if 0 < limit < carried:
                    self.stalled.set()
                    self.go.wait(60)
                target.sendall(data)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def stall(portal: Portal) -> Generator[Stall]:
    line = Stall(portal.url)
    yield line
    line.close()


def test_fetch_that_was_killed_goes_on_and_asks_for_no_complete_file_again(
    portal: Portal, far: dict[str, str], stall: Stall, tmp_path: Path
) -> None:
    folder = tmp_path / "fetched"
    token = portal.order("person", name="goes-on", repo_id=REPO, state="granted")["token"]
    first = fetch(stall.url, folder, far["commit"], token)
    assert stall.stalled.wait(60)
    small = [".gitattributes", "README.md", "config.json", "sub/part.bin", "tiny_license.txt"]
    notes = tmp_path / "fetched.partial" / ".cache" / "huggingface" / "download"
    wait_until(lambda: all((notes / f"{name}.metadata").is_file() for name in small))
    assert first.stdout
    told = json.loads(first.stdout.readline())
    first.send_signal(signal.SIGKILL)
    first.communicate()
    assert not folder.exists()
    stall.go.set()
    second = fetch(stall.url, folder, far["commit"], token)
    out, err = second.communicate(timeout=120)
    assert (second.returncode, err) == (0, "")
    lines = [json.loads(line) for line in out.splitlines()]
    assert lines[-1] == {"checked": "6 of 6 files have the hashes that the remote names."}
    assert lines[0]["bytes_total"] == told["bytes_total"]
    assert lines[0]["bytes_done"] > 200_000  # what was already there counts
    assert (folder / "model.safetensors").read_bytes() == FAR["model.safetensors"]

    def sent() -> list[dict[str, Any]]:
        return [row for row in portal.order("downloads", repo_id=REPO) if row["user"] == "goes-on"]

    rows = wait_until(lambda: len(found := sent()) >= 7 and found)
    assert sorted(row["path"] for row in rows) == sorted([*small, "model.safetensors", "model.safetensors"])


def test_flipped_byte_is_found_removed_and_fetched_anew(
    portal: Portal, far: dict[str, str], tmp_path: Path
) -> None:
    right = FAR["model.safetensors"]
    blob = Path(portal.order("blob", sha256=hashlib.sha256(right).hexdigest())["path"])
    blob.chmod(0o644)
    blob.write_bytes(right[:-1] + bytes([right[-1] ^ 1]))
    try:
        child = fetch(portal.url, tmp_path / "fetched", far["commit"], far["token"])
        _, err = child.communicate(timeout=120)
    finally:
        blob.write_bytes(right)
    assert child.returncode == 1
    assert err == (
        f"{REPO} at {portal.url} sent files that do not match the hashes in its file list: model.safetensors. "
        "They were deleted; try again.\n"
    )
    assert not (tmp_path / "fetched").exists()
    assert not (tmp_path / "fetched.partial" / "model.safetensors").exists()
    again = fetch(portal.url, tmp_path / "fetched", far["commit"], far["token"])
    assert again.communicate(timeout=120)[1] == ""
    assert (tmp_path / "fetched" / "model.safetensors").read_bytes() == right


def test_right_that_ends_before_the_fetch_fails_the_recovery_in_the_far_sides_words(
    portal: Portal,
    far: dict[str, str],
    settings: Any,
    hub: Callable[[str], None],
    transactional_db: None,
    weights_root: Path,
) -> None:
    settings.GATEHOUSE_HUB_TOKEN = portal.order("person", name="short", repo_id=REPO, state="granted")[
        "token"
    ]
    prepared = prepare_weights(files=f"hf:{REPO}@main")
    portal.order("revoke", name="short", repo_id=REPO)
    _, weights = add_model_with_weights(repo_id="ai/late", prepared=prepared, card=CARD)
    want_recovery(recovery=weights.recovery)
    run_recovery(recovery_id=weights.recovery.pk)
    weights.recovery.refresh_from_db()
    assert weights.recovery.state == RecoveryState.FAILED
    assert weights.recovery.error.startswith(f"{REPO} at {portal.url} is gated, and says: “")
    assert "revoked" in weights.recovery.error
    assert str(settings.GATEHOUSE_HUB_TOKEN) not in weights.recovery.error


def test_hidden_hashes_are_said_not_to_be_checked(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"seven b")
    (tmp_path / "b").write_bytes(b"")
    empty = fetch_repository.Far("b", 0, "", "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391")
    assert fetch_repository._check_files(tmp_path, [fetch_repository.Far("a", 7, "", ""), empty]) == (
        "1 of 2 files have the hashes that the remote names; it hides those of the others, "
        "so only their sizes could be checked: a."
    )
    with pytest.raises(
        fetch_repository.Refused, match="sent files that do not match the hashes in its file list: a"
    ):
        fetch_repository._check_files(tmp_path, [fetch_repository.Far("a", 8, "", "")])


def test_what_does_not_fit_is_refused_before_the_first_byte(tmp_path: Path) -> None:
    with pytest.raises(
        fetch_repository.Refused, match=r"needs 1000000000\.00 GB more below .*make room and try again"
    ):
        fetch_repository._check_room(tmp_path / "x.partial", [fetch_repository.Far("a", 10**18, "", "")])


class Item:
    def __init__(self, path: str) -> None:
        self.path, self.size, self.blob_id, self.lfs = path, 1, "*" * 40, None


@pytest.mark.parametrize("path", ["../up", "/etc/passwd", "a/../../b", "a\\b", "a\x1b[2Jb", "new\nline"])
def test_name_that_leads_elsewhere_is_never_fetched(path: str) -> None:
    with pytest.raises(fetch_repository.Refused, match="unusable name"):
        fetch_repository._read_far_file(Item(path))


def test_masked_ids_are_no_ids() -> None:
    assert fetch_repository._read_far_file(Item("a")) == fetch_repository.Far("a", 1, "", "")


@pytest.fixture
def rude() -> Generator[Any]:
    """A remote that gives the answers chosen by the test."""

    class Rude(http.server.BaseHTTPRequestHandler):
        answers: list[tuple[int, dict[str, str]]] = []
        asked = 0

        def do_GET(self) -> None:
            status, headers = type(self).answers[min(type(self).asked, len(type(self).answers) - 1)]
            type(self).asked += 1
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        do_HEAD = do_GET

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Rude)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    Rude.url = f"http://127.0.0.1:{server.server_address[1]}"
    yield Rude
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("status", "headers", "sentence"),
    [
        (429, {"Retry-After": "70000"}, "{url} has reached its rate limit for us: try again in 70000 s."),
        (429, {"RateLimit": '"api";r=0;t=55'}, "{url} has reached its rate limit for us: try again in 55 s."),
        (429, {}, "{url} has reached its rate limit for us: try again later."),
        (403, {"X-Error-Message": "No\x1b[31m way. "}, "a/b at {url} refused with status 403, and says: “No[31m way”: look there for the reason."),
        (401, {"X-Error-Message": "Invalid username or password."}, "{url} does not accept the token in GATEHOUSE_HUB_TOKEN, and says: “Invalid username or password”: give it a valid one."),
    ],
)  # fmt: skip
def test_answers_of_other_hubs_become_one_sentence(
    rude: Any, status: int, headers: dict[str, str], sentence: str
) -> None:
    rude.answers = [(status, headers)]
    with pytest.raises(Exception) as refused:  # noqa: PT011 - whatever the client makes of it
        HfApi(endpoint=rude.url, token="hf_x").model_info("a/b")
    said = errors.refused_because(refused.value, repo_id="a/b", endpoint=rude.url, token=True)
    assert said == sentence.format(url=rude.url)


def test_fetch_waits_as_long_as_the_rate_limit_asks(rude: Any) -> None:
    rude.answers = [(429, {"Retry-After": "1"}), (200, {})]
    api = HfApi(endpoint=rude.url, token=False)
    with suppress(KeyError, TypeError):  # the answer does not describe a model
        fetch_repository._ask_patiently(lambda: api.model_info("a/b"))
    assert rude.asked == 2
    rude.answers, rude.asked = [(429, {"Retry-After": "301"})], 0
    with pytest.raises(Exception, match="429"):
        fetch_repository._ask_patiently(lambda: api.model_info("a/b"))
    assert rude.asked == 1


def recovery_from(url: str) -> Recovery:
    """Run a recovery of a repository's files at that address once, and return it."""
    source = WeightSource.objects.create(
        spec=f"hf+{url}/a/b@{'0' * 40}", kind=SourceKind.HUB, endpoint=url, repo_id="a/b", commit="0" * 40
    )
    recovery = Recovery.objects.create(method=Method.COPY, files=source, wanted_at=timezone.now())
    run_recovery(recovery_id=recovery.pk)
    recovery.refresh_from_db()
    return recovery


@pytest.mark.parametrize(
    ("status", "headers", "said"),
    [
        (503, {}, "a/b at {url} could not be asked (the remote failed with status 503). It will be tried again."),
        (429, {"Retry-After": "1200"}, "{url} has reached its rate limit for us. It will be tried again."),
    ],
)  # fmt: skip
def test_hub_that_has_trouble_is_waited_for(
    rude: Any, status: int, headers: dict[str, str], said: str, weights_root: Path, transactional_db: None
) -> None:
    rude.answers = [(status, headers)]
    before = timezone.now()

    recovery = recovery_from(rude.url)

    assert (recovery.state, recovery.waiting_for) == (RecoveryState.PLANNED, WaitsFor.REMOTE)
    assert recovery.error == f"{said.format(url=rude.url)} The recovery continues by itself."
    asked = int(headers.get("Retry-After", 15))
    assert recovery.retry_at >= before + timedelta(seconds=asked)


def test_hub_that_is_away_is_waited_for(weights_root: Path, transactional_db: None) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"

    recovery = recovery_from(url)

    assert (recovery.state, recovery.waiting_for) == (RecoveryState.PLANNED, WaitsFor.REMOTE)
    assert recovery.error.startswith(f"a/b at {url} could not be asked")


def test_hub_that_refuses_is_not_asked_again(rude: Any, weights_root: Path, transactional_db: None) -> None:
    rude.answers = [(403, {"X-Error-Message": "No way."})]

    recovery = recovery_from(rude.url)

    assert (recovery.state, recovery.waiting_for) == (RecoveryState.FAILED, "")
    assert "refused with status 403, and says: “No way”" in recovery.error
