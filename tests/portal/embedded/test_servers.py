"""PostgreSQL and Valkey: start, stop, death of the supervisor, and the users and folders that they allow."""

import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

import psycopg
import pytest

from portal.embedded import StartError, embedded_servers, servers, wipe_servers
from portal.embedded.processes import running_in
from portal.embedded.state import StateLock, prepare_state
from tests.portal.embedded.conftest import CHECKOUT, clean_environment, copy_state
from tests.waiting import wait_until

NAMES = ("postgres", "valkey-server", "redis-server")
ROOT = os.geteuid() == 0
# Starts servers on argv[1], writes one row, reports it, and waits to be killed.
HOLD = """
import sys, time
from pathlib import Path
import psycopg
from portal.embedded import embedded_servers
with embedded_servers(Path(sys.argv[1])) as pair:
    with psycopg.connect(pair.postgres.owner_dsn(), autocommit=True) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS notes (line text)")
        connection.execute("GRANT SELECT ON notes TO gatehouse_portal")
        connection.execute("INSERT INTO notes VALUES ('kept')")
    print(pair.urls.dsn, flush=True)
    time.sleep(float(sys.argv[2]))
"""


def interpreter_for_everyone() -> str | None:
    """Return a Python of our version that any user may run, or None if the checkout is not open to all."""
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    found = [Path(sys.executable), *(Path(folder, version) for folder in ("/usr/local/bin", "/usr/bin"))]
    return next(
        (str(path) for path in found if path.exists() and open_to_all(path) and open_to_all(CHECKOUT)), None
    )


def open_to_all(path: Path) -> bool:
    return all(part.stat().st_mode & 0o001 for part in (path.resolve(), *path.resolve().parents))


def server_pids(state: Path) -> list[int]:
    return running_in(state / "pg" / "data", NAMES) + running_in(state / "valkey", NAMES)


def notes(dsn: str) -> list[tuple[str]]:
    with psycopg.connect(dsn) as connection:
        return connection.execute("SELECT line FROM notes").fetchall()


def test_servers_start_and_stop(state: Path) -> None:
    with embedded_servers(state, fsync=False) as pair:
        with psycopg.connect(pair.urls.dsn) as connection:
            answer = connection.execute(
                "SELECT current_setting('server_encoding'), current_setting('listen_addresses'), upper('é')"
            ).fetchone()
        assert answer == ("UTF8", "", "É")
        assert pair.valkey is not None
        assert pair.valkey.command("SET", "greeting", "hello") == "+OK\r\n"
        assert len(server_pids(state)) > 1
    assert server_pids(state) == []
    with embedded_servers(state, fsync=False) as again:
        assert again.valkey is not None
        assert again.valkey.command("GET", "greeting") == "$5\r\nhello\r\n"
    assert not (state / "run" / "valkey.sock").exists()


def test_database_is_written_through_unless_told_otherwise(state: Path) -> None:
    with servers(state) as urls, psycopg.connect(urls.dsn) as connection:
        assert connection.execute("SHOW fsync").fetchone() == ("on",)


def test_folders_are_for_their_owner_alone(state: Path) -> None:
    with servers(state, fsync=False):
        modes = {path.name: path.stat().st_mode & 0o777 for path in (state, state / "run", state / "logs")}
        sockets = {path.stat().st_mode & 0o077 for path in (state / "run").iterdir() if path.is_socket()}
    assert modes == {"state": 0o700, "run": 0o700, "logs": 0o700}
    assert sockets == {0}


def test_state_folder_in_use_is_refused_in_one_sentence(state: Path) -> None:
    with (
        StateLock(prepare_state(state), purpose="a running portal"),
        pytest.raises(StartError) as refusal,
        servers(state),
    ):
        pass
    assert (
        str(refusal.value)
        == f"The state folder {state} is in use by a running portal (process {os.getpid()})."
    )


def test_broker_that_died_is_started_again_with_its_data(state: Path) -> None:
    with embedded_servers(state, fsync=False) as pair:
        assert pair.valkey is not None
        assert pair.valkey.child is not None
        pair.valkey.command("SET", "greeting", "hello")
        wait_until(lambda: b"hello" in b"".join(p.read_bytes() for p in (state / "valkey").rglob("*.aof")))
        os.kill(pair.valkey.child.pid, signal.SIGKILL)
        assert pair.valkey.child.wait(60)
        assert pair.restart(pair.valkey)
        pair.valkey.wait_ready()
        assert pair.valkey.command("GET", "greeting") == "$5\r\nhello\r\n"


@pytest.mark.parametrize("namespace", ["on", "off"])
def test_killed_supervisor_leaves_nothing_running_and_the_next_start_works(
    state, python_process, namespace
) -> None:
    holder = python_process(HOLD, state, 60, GATEHOUSE_USER_NAMESPACE=namespace)
    assert holder.stdout.readline().startswith("postgres://")
    holder.kill()
    holder.wait()
    wait_until(lambda: not server_pids(state))
    again = python_process(HOLD, state, 0, GATEHOUSE_USER_NAMESPACE=namespace)
    assert again.wait(60) == 0, again.stderr.read()
    with servers(state, fsync=False) as urls:
        assert notes(urls.dsn) == [("kept",), ("kept",)]


def test_next_start_does_not_wait_for_a_killed_supervisors_servers_by_itself(state, python_process) -> None:
    """The orphan may still be shutting down or be stopped with SIGSTOP: the next start ends it."""
    holder = python_process(HOLD, state, 60)
    holder.stdout.readline()
    postmaster = int((state / "pg" / "data" / "postmaster.pid").read_text().split()[0])
    os.kill(postmaster, signal.SIGSTOP)
    holder.kill()
    holder.wait()
    assert postmaster in server_pids(state)
    os.kill(postmaster, signal.SIGCONT)
    with servers(state, fsync=False) as urls:
        assert notes(urls.dsn) == [("kept",)]


def test_stale_pid_file_of_a_foreign_process_is_no_obstacle(state: Path) -> None:
    with servers(state, fsync=False):
        pass
    (state / "pg" / "data" / "postmaster.pid").write_text(
        f"{os.getpid()}\n{state}/pg/data\n0\n5432\n\n\n0 0\nready\n"
    )
    (state / "run" / ".s.PGSQL.5432.lock").write_text(f"{os.getpid()}\n")
    with servers(state, fsync=False) as urls, psycopg.connect(urls.dsn) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_interrupted_initdb_is_done_again(state: Path) -> None:
    (state / "pg" / "data").rename(state / "pg" / "data.new")
    with servers(state, fsync=False) as urls, psycopg.connect(urls.dsn) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_data_of_another_version_is_refused_in_one_sentence(state: Path) -> None:
    with servers(state, fsync=False):
        pass
    version = state / "pg" / "data" / "PG_VERSION"
    version.write_text("9")
    with pytest.raises(StartError, match="was made by PostgreSQL 9, but only"), servers(state):
        pass


@pytest.mark.parametrize("name", ["a" * 120, "with spaces, commas & ünicode"])
def test_awkward_state_folder_gets_its_sockets_in_a_short_private_one(
    tmp_path: Path, made_state: Path, name: str
) -> None:
    state = copy_state(made_state, tmp_path / name)
    with servers(state, fsync=False) as urls, psycopg.connect(urls.dsn) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
        folder = Path(json.loads((state / "run" / "sockets.json").read_text())["folder"])
        assert folder.stat().st_mode & 0o777 == 0o700
        assert len(f"{folder}/.s.PGSQL.5432") <= 100
    wipe_servers(state)
    assert not folder.exists()


@pytest.mark.skipif(not ROOT, reason="only root needs to become someone else")
def test_root_without_user_namespace_keeps_the_database_with_nobody(state, monkeypatch) -> None:
    monkeypatch.setenv("GATEHOUSE_USER_NAMESPACE", "off")
    with (
        embedded_servers(state, fsync=False) as pair,
        psycopg.connect(pair.postgres.owner_dsn(), autocommit=True) as connection,
    ):
        connection.execute("CREATE TABLE notes (line text)")
        connection.execute("GRANT SELECT ON notes TO gatehouse_portal")
        connection.execute("INSERT INTO notes VALUES ('moved')")
        home = Path(json.loads((state / "pg" / "home.json").read_text())["home"])
        assert not home.is_relative_to(CHECKOUT)
        assert home.owner() == (home / "data").owner() == "nobody"
        assert home.stat().st_mode & 0o777 == 0o700
    monkeypatch.setenv("GATEHOUSE_USER_NAMESPACE", "on")
    with servers(state, fsync=False) as urls:
        assert notes(urls.dsn) == [("moved",)]
    assert not home.exists()


@pytest.mark.skipif(not ROOT, reason="only root may enter a folder of another user's")
def test_state_folder_of_another_user_is_refused_in_one_sentence(state: Path) -> None:
    os.chown(state, 65534, 65534)
    with pytest.raises(StartError, match="belongs to user id 65534, and you are 0"), servers(state):
        pass
    os.chown(state, 0, 0)


@pytest.mark.parametrize("namespace", ["on", "off"])
def test_checkout_that_only_its_owner_may_enter_keeps_its_mode(tmp_path, namespace, monkeypatch) -> None:
    monkeypatch.setenv("GATEHOUSE_USER_NAMESPACE", namespace)
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    state = private / "checkout" / ".gatehouse"
    with servers(state, fsync=False) as urls, psycopg.connect(urls.dsn) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    assert private.stat().st_mode & 0o777 == 0o700
    wipe_servers(state)


@pytest.mark.skipif(not ROOT, reason="an ordinary user runs the whole suite as one")
@pytest.mark.parametrize("uid", [65534, 54321], ids=["named", "nameless"])
def test_ordinary_user_runs_servers(uid: int) -> None:
    """`setpriv` switches to that user; the user without an entry in /etc/passwd needs a user namespace."""
    interpreter = interpreter_for_everyone()
    if shutil.which("setpriv") is None or interpreter is None:
        pytest.skip("needs setpriv, and a Python and a checkout that other users may enter")
    folder = Path(tempfile.mkdtemp(prefix=f"gatehouse-test-{uid}-", dir="/var/tmp"))
    os.chown(folder, uid, uid)
    become = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]
    command = [*become, interpreter, "-P", "-c", HOLD, str(folder / "state"), "0"]
    packages = os.pathsep.join([str(CHECKOUT), sysconfig.get_path("purelib")])
    try:
        result = subprocess.run(
            command, env=clean_environment(HOME=str(folder), PYTHONPATH=packages), cwd="/",
            capture_output=True, text=True, check=False, timeout=200,
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
        assert result.stdout.startswith("postgres://")
    finally:
        shutil.rmtree(folder)
