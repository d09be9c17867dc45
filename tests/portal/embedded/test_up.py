"""`./dev.py up` and `./dev.py manage` as separate processes: a whole portal starts, runs and stops."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from portal.embedded import wipe_servers
from portal.embedded.processes import running_with
from portal.embedded.state import short_socket_folder
from portal.embedded.supervisor import RUN_MARK, SIGNS, run_portal
from tests.portal.embedded.conftest import clean_environment
from tests.portal.embedded.test_servers import server_pids
from tests.waiting import wait_until

READY = re.compile(r"Gatehouse is ready: (http://127\.0\.0\.1:\d+)/\n")
KEY = "a-key-of-these-tests-and-of-nothing-else"


def command(state: Path, *arguments: object, **environment: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "portal.embedded", *map(str, arguments)],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd="/",
        env=clean_environment(GATEHOUSE_STATE=str(state), **environment),
    )  # fmt: skip


def answer(state: Path, *arguments: object, **environment: str) -> tuple[int, str, str]:
    """Run a command to its end; return its exit status, standard output and standard error."""
    process = command(state, *arguments, **environment)
    output, errors = process.communicate(timeout=200)
    return process.returncode, output, errors


def health(address: str) -> dict[str, bool]:
    with closing(http.client.HTTPConnection(urlsplit(address).netloc, timeout=60)) as connection:
        connection.request("GET", "/healthz")
        return dict(json.loads(connection.getresponse().read()))


def marked(state: Path) -> list[int]:
    """Return the processes of the last start that still run."""
    return running_with(RUN_MARK, (state / "run" / "mark").read_text()) + server_pids(state)


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return one state folder for the module; the first command here creates its tables."""
    folder = tmp_path_factory.mktemp("portal") / "state"
    yield folder
    wipe_servers(folder)


@pytest.fixture
def start(state: Path) -> Iterator[Callable[..., tuple["subprocess.Popen[str]", str]]]:
    """Return a call that starts the portal on a free port and waits for the line with its address."""
    started = []

    def up(*arguments: object, **environment: str) -> tuple["subprocess.Popen[str]", str]:
        process = command(state, "up", "--port", "0", *arguments, **environment)
        started.append(process)
        line = process.stdout.readline()
        if not line:
            pytest.fail(process.stderr.read())
        return process, READY.fullmatch(line)[1]

    yield up
    for process in started:
        process.kill()
        process.communicate()


def test_manage_without_a_portal_starts_servers_and_makes_the_tables(state: Path) -> None:
    code = "from portal.accounts.models import User; print(User.objects.count())"
    assert answer(state, "manage", "shell", "--no-imports", "-c", code) == (0, "0\n", "")
    assert server_pids(state) == []


def test_manage_hands_on_the_status_and_the_sentence_of_a_command(state: Path) -> None:
    status, output, errors = answer(state, "manage", "no_such_command")
    assert (status, output) == (1, "")
    assert errors.startswith("Unknown command: 'no_such_command'\n")


def test_wrong_setting_is_one_sentence_that_names_it(state: Path) -> None:
    sentence = "GATEHOUSE_URL is 'nonsense': write an address such as https://models.example.org\n"
    assert answer(state, "manage", "check", GATEHOUSE_URL="nonsense") == (1, "", sentence)
    status, output, errors = answer(state, "up", "--port", "0", GATEHOUSE_URL="nonsense")
    assert (status, output) == (1, "")
    assert errors.startswith(sentence.strip())
    assert errors.count("\n") == 1
    assert marked(state) == []


def test_taken_port_is_one_sentence(state: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert answer(state, "up", "--port", port) == (
            1,
            "",
            f"Port {port} on 127.0.0.1 is taken: stop what listens there, or choose another with --port.\n",
        )


def test_refusal_leaves_no_new_state_folder(tmp_path: Path) -> None:
    state = tmp_path / "new"
    assert answer(state, "up", "--port", "65536")[0] == 1
    assert not state.exists()
    assert answer(state, "up", "--port", "0", GATEHOUSE_WEB_PROCESSES="many") == (
        1, "", "GATEHOUSE_WEB_PROCESSES is 'many': write a number from 1 to 64.\n",
    )  # fmt: skip
    assert not state.exists()


@pytest.mark.parametrize("port", [65536, 99999, -1])
def test_number_that_is_no_port_is_one_sentence(state: Path, port: int) -> None:
    sentence = f"{port} is not a port: give --port a number from 1 to 65535.\n"
    assert answer(state, "up", f"--port={port}") == (1, "", sentence)


def test_database_that_does_not_answer_is_one_sentence_that_names_its_setting(state: Path) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))  # bound but not listening, so that no one else can listen there
        port = silent.getsockname()[1]
        status, output, errors = answer(
            state, "up", "--port", "0", DATABASE_URL=f"postgres://u:p@127.0.0.1:{port}/x"
        )
    assert (status, output, marked(state)) == (1, "", [])
    assert errors.startswith("The database that DATABASE_URL names does not accept the connection (")


def test_portal_serves_helps_other_commands_and_stops(state: Path, start) -> None:
    process, address = start()
    well = {"ok": True, "database": True, "broker": True, "worker": True, "clock": True}
    wait_until(lambda: health(address) == well | {"mail": True, "remote": True, "recovery": True})
    owner = process.stdout.readline()
    assert re.fullmatch(rf"This portal has no owner yet\. .* here: {address}/accounts/owner/\S+\n", owner)

    status, output, errors = answer(state, "up", "--port", "0")
    in_use = f"The state folder {state} is in use by a running portal (process {process.pid}).\n"
    assert (status, output, errors) == (1, "", in_use)

    code = "from django.conf import settings; print(settings.GATEHOUSE_URL, settings.DATABASES['default']['HOST'])"
    assert answer(state, "manage", "shell", "--no-imports", "-c", code) == (0, f"{address} {state}/run\n", "")

    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=10) == 0
    assert marked(state) == []
    assert not (state / "run" / "servers.json").exists()


def test_what_dies_is_started_again_and_ctrl_c_stops_all(state: Path, start) -> None:
    process, address = start()
    assert process.stdout.readline().startswith("This portal has no owner yet.")
    os.kill(int((state / "pg" / "data" / "postmaster.pid").read_text().split()[0]), signal.SIGKILL)
    for pid in running_with(RUN_MARK, (state / "run" / "mark").read_text()):
        with suppress(FileNotFoundError, ProcessLookupError):
            if b"gunicorn" in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGKILL)
    while not (line := process.stderr.readline()).startswith("postgres stopped and was started again"):
        assert line.startswith("web stopped and was started again")  # reported a moment earlier
    wait_until(lambda: health(address).get("ok"))
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=10) == 0
    assert marked(state) == []


def test_killed_portal_leaves_nothing_running_and_starts_again(state: Path, start) -> None:
    process, _ = start()
    process.kill()
    process.wait()
    outside = short_socket_folder(state)
    temporary = [
        folder / "tmp" for folder in (state / "run", outside) if folder and (folder / "tmp").is_dir()
    ]
    left = [folder / part / "pymp-left" for folder in temporary for part in ("web", "worker-default")]
    for folder in left:
        folder.mkdir()
    process, address = start(GATEHOUSE_URL="https://models.example.org")
    assert health(address)["ok"]
    assert [folder.exists() for folder in left] == [False, False]
    process.kill()
    process.wait()
    wait_until(lambda: not marked(state))


def test_portal_can_be_run_from_python(state: Path, monkeypatch) -> None:
    for name in ("DATABASE_URL", "REDIS_URL", "GATEHOUSE_URL"):
        monkeypatch.delenv(name)
    with run_portal(state, extra_env={"SECRET_KEY": KEY}) as portal:
        assert health(portal.address)["ok"]
        assert portal.servers.valkey is not None
        assert portal.servers.valkey.command("EXISTS", *SIGNS) == ":2\r\n"
        assert portal.environment["GATEHOUSE_URL"] == portal.address
    assert marked(state) == []
