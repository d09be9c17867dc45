"""Who could read which secrets: each part's environment, the engine's child, and the files of the state folder.

Every part once had all variables of `./dev.py up`, and passed them on to whatever it started; files had mode
0644.
"""

from __future__ import annotations

import http.client
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Generator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from portal.embedded import wipe_servers
from portal.embedded.processes import running_in, running_with
from portal.embedded.supervisor import PRIVATE, RUN_MARK, Supervisor, run_portal
from tests.portal.embedded.test_servers import interpreter_for_everyone
from tests.tiny_models import make_tiny_pair
from tests.waiting import wait_until

CHECKOUT = Path(__file__).resolve().parents[3]
ROOT = os.geteuid() == 0
SECRETS = {
    "SECRET_KEY": "a-key-of-these-tests-and-of-nothing-else",
    "EMAIL_URL": "smtp://user:mail-password@127.0.0.1:9",
    "GATEHOUSE_HUB_TOKEN": "hf_hub_token",
    "GATEHOUSE_FOLLOW_TOKENS": "https://follow.example.org=hf_follow_token",
    "GATEHOUSE_OWNER_DATABASE_URL": "postgres://owner:owner-password@db.example.org/gatehouse",
    "AWS_SECRET_ACCESS_KEY": "aws-secret",
    "HF_TOKEN": "hf_of_the_operator",
    "PGPASSWORD": "of-another-database",
    "SOMETHING_ELSE": "of-the-operators-shell",
}
ADDRESSES = {"DATABASE_URL", "REDIS_URL"}
SENT_ON = {
    "web": {"SECRET_KEY", "EMAIL_URL", "GATEHOUSE_HUB_TOKEN"},
    "worker-default": {"SECRET_KEY"},
    "worker-remote": {"SECRET_KEY", "GATEHOUSE_HUB_TOKEN", "GATEHOUSE_FOLLOW_TOKENS"},
    "worker-mail": {"EMAIL_URL"},
    "beat": set(),
    "worker-recovery": {"GATEHOUSE_HUB_TOKEN"},
}
# Other allowed variables, which depend on the machine, the checkout and the portal's address.
PLAIN = {
    "PATH", "HOME", "LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "DJANGO_SETTINGS_MODULE",
    "GATEHOUSE_RUN", "GATEHOUSE_STATE", "GATEHOUSE_URL", "GATEHOUSE_SMOKE", "GATEHOUSE_SOURCES", "HF_HOME",
    "HF_HUB_ETAG_TIMEOUT", "HF_HUB_DOWNLOAD_TIMEOUT", "HF_HUB_DISABLE_TELEMETRY", "SSL_CERT_FILE", "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "GATEHOUSE_FOLLOW_ENDPOINTS", "GATEHOUSE_WEB_PROCESSES", "GATEHOUSE_LIFELINE",
}  # fmt: skip
# Celery sets the first two for the processes it starts.
BEGINNINGS = ("CELERY_LOG_", "_MP_FORK_", "PYTHON", "CUDA_", "NVIDIA_", "OMP_", "MKL_", "TORCH_")
as_root = pytest.mark.skipif(not ROOT, reason="only root may read the environment of a part")


@pytest.fixture(scope="module")
def portal(tmp_path_factory: pytest.TempPathFactory) -> Generator[Supervisor]:
    """A whole portal, started with every possible secret in its environment."""
    state = tmp_path_factory.mktemp("secrets") / "state"
    with pytest.MonkeyPatch.context() as patch:
        for name in ("DATABASE_URL", "REDIS_URL", "GATEHOUSE_URL", "GATEHOUSE_RUN"):
            patch.delenv(name, raising=False)
        before = os.umask(0)  # the worst value that a shell could have set
        try:
            with run_portal(state, extra_env=SECRETS) as running:
                yield running
        finally:
            os.umask(before)
    wipe_servers(state)


def environment(pid: int) -> dict[str, str]:
    """Return the environment the process was started with; empty if the process is gone."""
    try:
        words = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError):
        return {}
    return dict(word.decode().partition("=")[::2] for word in words if word)


def family(pid: int) -> list[int]:
    """Return the ids of the process and all its descendants."""
    found = [pid]
    for parent in found:
        with suppress(FileNotFoundError, ProcessLookupError):
            for task in Path(f"/proc/{parent}/task").iterdir():
                found += [int(child) for child in (task / "children").read_text().split()]
    return found


def surprising(names: set[str]) -> set[str]:
    proxies = {name for name in names if name.lower().endswith("_proxy")}
    return {name for name in names - PLAIN - proxies if not name.startswith(BEGINNINGS)}


def health(portal: Supervisor) -> int:
    connection = http.client.HTTPConnection(urlsplit(portal.address).netloc, timeout=60)
    connection.request("GET", "/healthz")
    status = connection.getresponse().status
    connection.close()
    return status


@as_root
@pytest.mark.parametrize("part", SENT_ON)
def test_part_of_the_portal_has_the_secrets_that_it_uses_and_no_other(portal: Supervisor, part: str) -> None:
    (child,) = [each.child for each in portal.parts if each.name == part]
    assert child is not None
    wait_until(
        lambda: part == "beat" or len(family(child.pid)) > 1
    )  # some workers start after the pages answer
    for found in filter(None, map(environment, family(child.pid))):
        given = {name: value for name, value in found.items() if SECRETS.get(name) == value}
        assert set(given) == SENT_ON[part]
        assert surprising(set(found) - set(given) - ADDRESSES - {"SECRET_KEY"}) == set()
        assert "owner" not in found["DATABASE_URL"]
        role = "nobody" if part == "beat" else "gatehouse_portal"
        assert found["DATABASE_URL"].startswith(f"postgres://{role}@/")
        assert (found["SECRET_KEY"] == "none") == (part not in ("web", "worker-default", "worker-remote"))
    if part == "web":
        assert found["GATEHOUSE_FOLLOW_ENDPOINTS"] == "https://follow.example.org"


@as_root
def test_servers_have_no_secret_at_all(portal: Supervisor) -> None:
    servers = [server.child.pid for server in portal.servers.own if server.child]
    assert len(servers) == 2
    for pid in servers:
        assert set(environment(pid)) <= {"PATH", "LC_ALL", "TZ", "LC_CTYPE"}


def test_notes_for_other_commands_do_not_hold_the_owners_address(portal: Supervisor) -> None:
    note = (portal.state / "run" / "servers.json").read_text()
    password = (portal.state / "pg" / "owner_password").read_text().strip()
    assert "GATEHOUSE_OWNER_DATABASE_URL" not in note
    assert password not in note
    assert "owner-password" not in note


def test_engines_child_has_nothing_of_the_portal_and_files_are_for_their_owner_alone(
    portal: Supervisor, tmp_path: Path
) -> None:
    """The portal runs a recovery, and the engine's child process is inspected during the run."""
    pytest.importorskip("torch")
    pair = make_tiny_pair(tmp_path / "pair")

    def manage(*arguments: str) -> str:
        command = [sys.executable, "-P", "manage.py", *arguments]
        said = subprocess.run(
            command, cwd=CHECKOUT, env=portal.environment, capture_output=True, text=True, check=False
        )
        assert said.returncode == 0, said.stderr
        return said.stdout

    sources = ["--base", str(pair / "base"), "--diff", str(pair / "diff"), "--dtype", "bfloat16"]
    manage("add_model", "ai/tiny", "--card", str(pair / "diff" / "README.md"), *sources)
    (recovery,) = [part.child for part in portal.parts if part.name == "worker-recovery"]
    assert recovery is not None
    asked = subprocess.Popen(
        [sys.executable, "-P", "manage.py", "recover", "ai/tiny"], cwd=CHECKOUT, env=portal.environment
    )
    found = seen_below(recovery.pid, b"model_ops.recovery")
    assert asked.wait(120) == 0
    assert health(portal) == 200
    assert found, "the engine was never seen"
    for names in found:
        assert names & (set(SECRETS) | ADDRESSES) == set()
        assert surprising(names - {"GATEHOUSE_PRIVATE_FILES"}) == set()
        assert not any(name.lower().endswith("_proxy") for name in names)
    wait_until(lambda: '"ready"' in manage("recoveries", "--json"), seconds=200)
    assert open_to_others(portal.state) == []


def seen_below(pid: int, word: bytes) -> list[set[str]]:
    """Wait for descendants of `pid` with this word on their command line; return their environments' names."""

    def look() -> list[set[str]]:
        found = []
        for child in family(pid):
            try:
                if word in Path(f"/proc/{child}/cmdline").read_bytes():
                    found.append(set(environment(child)))
            except (FileNotFoundError, ProcessLookupError):
                continue
        return [names for names in found if names]

    return wait_until(look, seconds=200)


def open_to_others(state: Path) -> list[str]:
    """Return the files and folders of the state folder that group or others have any right to.

    Sockets are in a folder of their own.
    """
    paths = [state, *state.rglob("*")]
    facts = [(path, path.lstat().st_mode) for path in paths if path.exists()]
    return [
        f"{path.relative_to(state)} {stat.filemode(mode)}"
        for path, mode in facts
        if mode & 0o077 and not stat.S_ISLNK(mode)
    ]


def test_every_file_of_the_state_folder_is_for_its_owner_alone(portal: Supervisor) -> None:
    assert (portal.state / "logs" / "web.log").exists()
    assert open_to_others(portal.state) == []


def test_processes_of_a_start_are_found_although_their_environment_is_closed(portal: Supervisor) -> None:
    mark = (portal.state / "run" / "mark").read_text()
    parts = {part.child.pid for part in portal.parts if part.child}
    assert parts <= set(running_with(RUN_MARK, mark))


READER = """
import pathlib, subprocess, sys, time
prefix = sys.argv[1:]
child = subprocess.Popen([sys.executable, "-P", *prefix, "http.server", "--bind", "127.0.0.1", "0"],
    env={"SECRET_KEY": "the-key"}, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
child.stdout.read(1)
try:
    print(b"the-key" in pathlib.Path(f"/proc/{child.pid}/environ").read_bytes())
except PermissionError:
    print("refused")
print(prefix[-1].encode() in pathlib.Path(f"/proc/{child.pid}/cmdline").read_bytes())
child.kill()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_process_of_the_same_user_cannot_read_a_parts_environment() -> None:
    """Without `portal/private.py` it can: the engine's child could have read its worker's environment."""
    interpreter = interpreter_for_everyone() if ROOT else sys.executable
    if interpreter is None or (ROOT and shutil.which("setpriv") is None):
        pytest.skip("needs setpriv, and a Python and a checkout that other users may enter")
    become = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if ROOT else []

    def seen(*prefix: str) -> list[str]:
        command = [*become, interpreter, "-u", "-c", READER.replace('"-P"', '"-u"'), *prefix]
        said = subprocess.run(
            command, cwd=tempfile.gettempdir(), env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert said.stderr == ""
        return said.stdout.split()

    assert seen("-m") == ["True", "True"]
    assert seen(PRIVATE) == ["refused", "True"]


@as_root
def test_killed_portal_with_closed_processes_leaves_nothing_running(tmp_path: Path) -> None:
    state = tmp_path / "state"
    code = "import sys, time; from pathlib import Path; from portal.embedded.supervisor import run_portal\nwith run_portal(Path(sys.argv[1])) as portal: print(portal.address, flush=True); time.sleep(600)"
    environment = {name: value for name, value in os.environ.items() if name not in ADDRESSES}
    started = subprocess.Popen(
        [sys.executable, "-P", "-c", code, str(state)], env=environment | {"PYTHONPATH": str(CHECKOUT)},
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert started.stdout
    assert started.stdout.readline().startswith("http://")
    mark = (state / "run" / "mark").read_text()
    assert running_with(RUN_MARK, mark)
    started.send_signal(signal.SIGKILL)
    started.wait()
    started.stdout.close()
    wait_until(
        lambda: not running_with(RUN_MARK, mark) and not running_in(state / "pg" / "data", ["postgres"])
    )
    wipe_servers(state)
