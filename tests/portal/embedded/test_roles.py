"""The embedded database's two roles, and state folders of the version with one role, a trusted superuser."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from portal.embedded import embedded_servers, wipe_servers
from portal.embedded.roles import RULES, owner_password, password_file
from tests.portal.embedded.conftest import copy_state
from tests.portal.embedded.test_servers import server_pids
from tests.portal.embedded.test_up import answer
from tests.waiting import wait_until

OLD_RULES = "local all all trust\nlocal replication all trust\nhost all all 127.0.0.1/32 reject\n"
OLD_FILES = (
    "logs/web.log",
    "run/mark",
    "run/beat",
    "pg/migrated",
    "weights/blobs/ab/abc",
    "downloads/1.jsonl",
)
WHO = (
    "from django.db import connection; from access_requests.services.event_log.protection import unprotected;"
    "from access_requests.services.event_log.append import append_event, verify_chain;"
    "append_event(kind='test.after');"
    "c = connection.cursor(); c.execute('SELECT current_user'); print(c.fetchone()[0], unprotected(), verify_chain().ok)"
)
AS_BEFORE = ("DROP OWNED BY gatehouse_portal", "DROP ROLE gatehouse_portal", "ALTER ROLE gatehouse PASSWORD NULL",
             "GRANT CONNECT, TEMPORARY ON DATABASE postgres, template1, gatehouse TO PUBLIC")  # fmt: skip
START = "import sys; from pathlib import Path; from portal.embedded import servers\nwith servers(Path(sys.argv[1])) as urls: print(urls.dsn)"


@pytest.fixture(scope="module")
def old_state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return a state folder with tables and an event, as the last version left it: one role, no password."""
    state = tmp_path_factory.mktemp("old") / "state"
    code = (
        "from access_requests.services.event_log.append import append_event; append_event(kind='test.before')"
    )
    assert answer(state, "manage", "shell", "--no-imports", "-c", code)[0] == 0
    with embedded_servers(state, fsync=False) as pair:
        for database in ("gatehouse", "postgres"):
            with psycopg.connect(pair.postgres.owner_dsn(database), autocommit=True) as owner:
                owner.execute("DROP OWNED BY gatehouse_portal")
        with psycopg.connect(pair.postgres.owner_dsn(), autocommit=True) as owner:
            for statement in AS_BEFORE:
                owner.execute(statement)
    (state / "pg" / "data" / "pg_hba.conf").write_text(OLD_RULES)
    password_file(state).unlink()
    (state / "run" / "tightened").unlink(missing_ok=True)
    for name in OLD_FILES:
        path = state / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.parent.chmod(0o755)
        path.touch()
        path.chmod(0o644)
    yield state
    wipe_servers(state)


@pytest.fixture
def state(tmp_path: Path, old_state: Path) -> Iterator[Path]:
    folder = copy_state(old_state, tmp_path / "state")
    yield folder
    wipe_servers(folder)


def converted(state: Path) -> None:
    """Check that a command runs as the portal's role on the old rows, with a log protected from that role."""
    status, output, errors = answer(state, "manage", "shell", "--no-imports", "-c", WHO)
    assert (status, errors) == (0, "")
    assert output.strip() == "gatehouse_portal [] True", output
    assert (state / "pg" / "data" / "pg_hba.conf").read_text() == RULES
    assert stat.S_IMODE(password_file(state).stat().st_mode) == 0o600
    with embedded_servers(state, fsync=False) as pair:
        sockets = str(pair.postgres.sockets)
        with pytest.raises(psycopg.OperationalError, match="no password supplied"):
            psycopg.connect(dbname="gatehouse", user="gatehouse", host=sockets, passfile="/nonexistent")
        with psycopg.connect(pair.postgres.owner_dsn()) as owner:
            tables = "SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'"
            assert owner.execute(tables).fetchall() == [("gatehouse",)]


def test_state_folder_of_the_version_before_is_converted_by_its_next_start(state: Path) -> None:
    converted(state)


def without_rules(state: Path) -> None:
    """Leave what a kill leaves after the rules were removed, before there was a password."""
    (state / "pg" / "data" / "pg_hba.conf").unlink()


def with_unset_password(state: Path) -> None:
    """Leave what a kill leaves after the password was written, before it was set."""
    without_rules(state)
    password_file(state).write_text("written-and-not-set\n")
    password_file(state).chmod(0o600)


def with_empty_password(state: Path) -> None:
    """Leave an empty password file, as a machine that went down does."""
    password_file(state).touch(mode=0o600)


def with_a_server_that_was_killed(state: Path) -> None:
    """Leave a killed server, whose database first has to recover from its log."""
    with embedded_servers(state) as pair:
        pair.postgres.child.process.kill()
        pair.postgres.child.wait(60)
    (state / "pg" / "data" / "pg_hba.conf").write_text(OLD_RULES)


@pytest.mark.parametrize(
    "cut_short", [without_rules, with_unset_password, with_empty_password, with_a_server_that_was_killed]
)
def test_conversion_that_was_cut_short_is_completed_by_the_next_start(state: Path, cut_short) -> None:
    cut_short(state)
    converted(state)


def test_conversion_that_is_killed_is_completed_by_the_next_start(state: Path, python_process) -> None:
    """The kill may come at any point of the conversion."""
    starting = python_process(START, state)
    wait_until(password_file(state).exists)
    starting.kill()
    starting.wait()
    wait_until(lambda: not server_pids(state))
    converted(state)


def test_lost_password_is_replaced_by_the_next_start(state: Path) -> None:
    with embedded_servers(state, fsync=False):
        before = owner_password(state)
    password_file(state).unlink()
    with embedded_servers(state, fsync=False) as pair, psycopg.connect(pair.postgres.owner_dsn()) as owner:
        assert owner.execute("SELECT current_user").fetchone() == ("gatehouse",)
    assert owner_password(state) not in ("", before)


def test_rules_that_were_changed_by_hand_are_written_again(state: Path) -> None:
    with embedded_servers(state, fsync=False):
        pass
    rules = state / "pg" / "data" / "pg_hba.conf"
    rules.write_text("local all all trust\n")
    with embedded_servers(state, fsync=False) as pair:
        with pytest.raises(psycopg.OperationalError, match="no password supplied"):
            psycopg.connect(dbname="gatehouse", user="gatehouse", host=str(pair.postgres.sockets), passfile="/nonexistent")  # fmt: skip
        with psycopg.connect(pair.postgres.owner_dsn()) as owner:
            assert owner.execute("SELECT 1").fetchone() == (1,)


def test_owners_address_is_in_no_note_and_no_log(state: Path) -> None:
    assert answer(state, "manage", "migrate", "-v0") == (0, "", "")
    secret = owner_password(state)
    assert secret
    holders = [
        str(path.relative_to(state))
        for path in state.rglob("*")
        if path.is_file() and secret.encode() in path.read_bytes()
    ]
    assert holders == ["pg/owner_password"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root needs to become someone else")
def test_root_without_user_namespace_converts_with_nobody_as_the_server(state: Path, monkeypatch) -> None:
    monkeypatch.setenv("GATEHOUSE_USER_NAMESPACE", "off")
    with embedded_servers(state, fsync=False) as pair:
        home = Path(json.loads((state / "pg" / "home.json").read_text())["home"])
        rules = home / "data" / "pg_hba.conf"
        assert (rules.owner(), rules.stat().st_mode & 0o777, rules.read_text()) == ("nobody", 0o600, RULES)
        with psycopg.connect(pair.postgres.owner_dsn()) as owner:
            assert owner.execute("SELECT current_user").fetchone() == ("gatehouse",)
    assert not (home / "owner_password").exists()
