"""A live portal restarts killed processes without leftovers; clients do not notice a killed web server."""

from __future__ import annotations

import base64
import hashlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import huggingface_hub
import psycopg
import pytest

from portal.embedded import programs, wipe_servers
from portal.embedded.processes import Child, in_session, running_with
from portal.embedded.programs import Part, beat_command
from portal.embedded.state import short_socket_folder
from portal.embedded.supervisor import RUN_MARK, Supervisor, run_portal
from portal.parts import environment_of
from tests.model_ops.hub.conftest import CHECKOUT, SEEDER, Portal
from tests.portal.embedded.conftest import PORTAL_SETTINGS
from tests.waiting import wait_until

REPO = "maker/drained"
LARGE = os.urandom(1_000_000) * 40  # more than the sockets' buffers on both sides can hold
CLIENTS = 20
PIECE = 65_536  # bytes
QUEUE_MAIL = (
    "import sys; from access_requests.models import OutgoingMail;"
    "OutgoingMail.objects.create(key=sys.argv[-1], to='ada@example.org', subject=sys.argv[-1], text='Hello.')"
)


@pytest.fixture(scope="module")
def supervisor(tmp_path_factory: pytest.TempPathFactory) -> Generator[Supervisor]:
    state = tmp_path_factory.mktemp("killed") / "state"
    extra = {"SECRET_KEY": "a-key-of-these-tests-and-of-nothing-else", "GATEHOUSE_WEB_PROCESSES": "2"}
    with pytest.MonkeyPatch.context() as patch:
        for name in PORTAL_SETTINGS:
            patch.delenv(name, raising=False)
        with run_portal(state, extra_env=extra) as running:
            yield running
    wipe_servers(state)


@pytest.fixture(scope="module")
def portal(supervisor: Supervisor) -> Generator[Portal]:
    """Return the same portal for clients, with a seeder for its database."""
    log = supervisor.state / "logs" / "web.log"
    with (supervisor.state / "logs" / "seeder.log").open("w") as seeder_log:
        seeder = subprocess.Popen(
            [sys.executable, "-P", "-c", SEEDER], cwd=CHECKOUT, env=supervisor.environment,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=seeder_log, text=True,
        )  # fmt: skip
    yield Portal(supervisor.address, supervisor.environment, seeder, log)
    seeder.communicate()


def part_of(supervisor: Supervisor, name: str) -> Part:
    (part,) = [each for each in supervisor.parts if each.name == name]
    return part


def kill(supervisor: Supervisor, name: str) -> Child:
    """Kill a part's main process, wait for its successor, and return what was killed."""
    part = part_of(supervisor, name)
    killed = part.child
    assert killed is not None
    killed.process.send_signal(signal.SIGKILL)
    wait_until(lambda: part.child is not killed)
    return killed


def sessions(supervisor: Supervisor) -> set[int]:
    """Return the sessions of all running programs of the portal, except those that we started ourselves."""
    found = set()
    for pid in running_with(RUN_MARK, (supervisor.state / "run" / "mark").read_text()):
        try:
            found.add(os.getsid(pid))
        except ProcessLookupError:
            continue
    return found - {os.getsid(0)}


def only_the_parts_run(supervisor: Supervisor) -> bool:
    return sessions(supervisor) == {part.child.pid for part in supervisor.parts if part.child}


def queue_mail(supervisor: Supervisor, key: str) -> None:
    """Queue an email whose message to the worker was lost, so that only beat can send it."""
    command = [
        sys.executable,
        "-P",
        "manage.py",
        "shell",
        "--no-imports",
        "-c",
        QUEUE_MAIL.replace("sys.argv[-1]", repr(key)),
    ]
    subprocess.run(command, cwd=CHECKOUT, env=supervisor.environment, check=True, timeout=200)


def caught(supervisor: Supervisor, key: str) -> int:
    """Return how often that email has arrived."""
    with psycopg.connect(supervisor.servers.urls.dsn) as connection:
        row = connection.execute(
            "SELECT count(*) FROM accounts_caughtmail WHERE subject = %s", [key]
        ).fetchone()
    assert row is not None
    return int(row[0])


def test_killed_clock_is_started_again_and_periodic_work_goes_on(supervisor: Supervisor) -> None:
    for key in ("first", "second"):
        kill(supervisor, "beat")
        queue_mail(supervisor, key)
        wait_until(lambda key=key: caught(supervisor, key))
    assert [caught(supervisor, key) for key in ("first", "second")] == [1, 1]


def test_clock_that_hangs_is_started_again(supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch) -> None:
    part = part_of(supervisor, "beat")
    hanging, started = part.child, part.signed
    assert hanging is not None
    wait_until(lambda: part.signed != started)  # it reports that it is alive
    monkeypatch.setattr(programs, "HUNG_AFTER", 5.0)
    hanging.process.send_signal(signal.SIGSTOP)
    wait_until(lambda: part.child is not hanging)
    monkeypatch.undo()  # its successor may start slowly


def test_two_clocks_at_once_send_an_email_once(supervisor: Supervisor, tmp_path: Path) -> None:
    environment = environment_of("beat", supervisor.environment)
    sign = tmp_path / "sign"
    with (tmp_path / "log").open("w") as log:
        second = subprocess.Popen(beat_command(sign), cwd=CHECKOUT, env=environment, stdout=log, stderr=log)
    try:
        wait_until(sign.exists)
        keys = ("by two clocks", "by them again")  # when the second arrives, both have found the first due
        for key in keys:
            queue_mail(supervisor, key)
            wait_until(lambda key=key: caught(supervisor, key))
        assert [caught(supervisor, key) for key in keys] == [1, 1]
    finally:
        second.terminate()
        second.wait()


@pytest.mark.parametrize("name", ["worker-default", "worker-mail", "worker-remote", "worker-recovery"])
def test_killed_worker_leaves_nothing_running_beside_its_successor(supervisor: Supervisor, name: str) -> None:
    for _ in range(2):
        child = part_of(supervisor, name).child
        assert child is not None
        wait_until(lambda child=child: len(in_session(child.pid)) > 1)
        (busy, *_) = set(in_session(child.pid)) - {child.pid}
        os.kill(busy, signal.SIGSTOP)  # it cannot notice that its main process is gone
        kill(supervisor, name)
        assert in_session(child.pid) == []
    wait_until(lambda: only_the_parts_run(supervisor))


def test_what_cannot_start_for_now_holds_nothing_else_up(supervisor: Supervisor) -> None:
    valkey, mail = supervisor.servers.valkey, part_of(supervisor, "worker-mail")
    assert valkey is not None
    broker = valkey.child
    short = short_socket_folder(supervisor.state)
    (temporary,) = [
        found
        for folder in (supervisor.state / "run", short)
        if folder and (found := folder / "tmp" / "worker-mail").is_dir()
    ]
    sent, recovery = mail.child, part_of(supervisor, "worker-recovery").child
    assert broker is not None
    assert sent is not None
    for folder_or_file in (valkey.log, temporary):
        folder_or_file.rename(folder_or_file.with_name("aside"))
    valkey.log.mkdir()  # the log file cannot be opened
    temporary.touch()  # and the folder cannot be created
    try:
        broker.process.send_signal(signal.SIGKILL)
        sent.process.send_signal(signal.SIGKILL)
        wait_until(lambda: len(supervisor._reported) == 2)
        kill(supervisor, "worker-recovery")
        assert part_of(supervisor, "worker-recovery").child is not recovery
        assert (valkey.child, mail.child) == (broker, sent)
    finally:
        valkey.log.rmdir()
        temporary.unlink()
    wait_until(lambda: valkey.child is not broker and mail.child is not sent)
    wait_until(lambda: supervisor.health().get("ok"))
    assert supervisor._reported == {}


def test_killed_web_server_closes_no_accepted_connection(supervisor: Supervisor, portal: Portal) -> None:
    portal.order("model", repo_id=REPO)
    made = portal.order("commit", repo_id=REPO, add={"large.bin": base64.b64encode(LARGE).decode()})
    token = portal.order("person", name="walter", repo_id=REPO, state="granted")["token"]
    path = f"/{REPO}/resolve/{made['commit']}/large.bin"
    killed: list[Child] = []
    with ExitStack() as stack:
        downloads = [stack.enter_context(slow_download(portal, path, token)) for _ in range(2)]
        clients = stack.enter_context(Clients(portal, token))
        for _ in range(3):
            killed.append(kill(supervisor, "web"))
            clients.wait_for_answers()
        assert clients.errors == []
        assert all(in_session(child.pid) for child in killed[:1]), "the first one's downloads still run"
        assert [finish() for finish in downloads] == [hashlib.sha256(LARGE).hexdigest()] * 2
    wait_until(lambda: only_the_parts_run(supervisor))
    rows = portal.finished_downloads(REPO, 2)
    assert [(row["state"], row["bytes_sent"]) for row in rows] == [("complete", len(LARGE))] * 2


class Clients:
    """Clients that request facts about the model all the time, each on its own open connections."""

    def __init__(self, portal: Portal, token: str) -> None:
        self.portal, self.token = portal, token
        self.errors: list[BaseException] = []
        self.answers = [0] * CLIENTS
        self._done, self._open = threading.Event(), ExitStack()
        self._threads = [threading.Thread(target=self._ask, args=(number,)) for number in range(CLIENTS)]

    def _ask(self, number: int) -> None:
        ask = self._by_hub() if number % 2 else self._by_hand()
        try:
            while not self._done.is_set():
                ask()
                self.answers[number] += 1
        except BaseException as error:
            self.errors.append(error)

    def _by_hub(self) -> Callable[[], object]:
        api = huggingface_hub.HfApi(endpoint=self.portal.url, token=self.token)
        return lambda: api.model_info(REPO)

    def _by_hand(self) -> Callable[[], object]:
        connection = http.client.HTTPConnection(urlsplit(self.portal.url).netloc, timeout=120)
        session = self._open.enter_context(closing(connection))
        headers = {"Authorization": f"Bearer {self.token}"}

        def ask() -> None:
            session.request("GET", f"/api/models/{REPO}", headers=headers)
            answer = session.getresponse()
            assert (answer.status, len(answer.read()) > 0) == (200, True)

        return ask

    def wait_for_answers(self) -> None:
        """Wait until each client has two more answers, or one client has failed."""
        before = list(self.answers)
        wait_until(
            lambda: (
                self.errors or all(now > then + 1 for now, then in zip(self.answers, before, strict=True))
            ),
            seconds=120,
        )

    def __enter__(self) -> Clients:
        for thread in self._threads:
            thread.start()
        self.wait_for_answers()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join()
        self._open.close()
        huggingface_hub.close_session()


@contextmanager
def slow_download(portal: Portal, path: str, token: str) -> Generator[Callable[[], str]]:
    """Download a file slowly; calling the result reads the rest at once and returns the hash of the file."""
    connection = http.client.HTTPConnection(urlsplit(portal.url).netloc, timeout=120)
    connection.connect()
    connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, PIECE)
    connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
    answer, seen, hurry = connection.getresponse(), hashlib.sha256(), threading.Event()
    assert answer.status == 200

    def take() -> None:
        while piece := answer.read(PIECE):
            seen.update(piece)
            hurry.wait(0.5)

    taking = threading.Thread(target=take)
    taking.start()

    def finish() -> str:
        hurry.set()
        taking.join()
        return seen.hexdigest()

    try:
        yield finish
    finally:
        finish()
        connection.close()
