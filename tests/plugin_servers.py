"""Start PostgreSQL and Valkey once for the whole test run, before Django reads its settings.

Loaded by ``-p tests.plugin_servers``. All files are in a temporary folder that is deleted when the run ends,
and settings of a real portal in the environment are hidden from the tests. No servers are started for a run
that only lists tests, or only runs those of the recovery library and the attacks on it (not on the portal).
"""

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest

from portal.embedded import EmbeddedServers, StartError, embedded_servers, wipe_servers
from portal.embedded.postgres import Postgres
from portal.embedded.state import StateLock
from portal.embedded.valkey import Valkey

CHECKOUT = Path(__file__).resolve().parent.parent
NO_SERVERS = (CHECKOUT / "tests" / "model_ops" / "recovery", CHECKOUT / "tests" / "attacks")
BUT_SERVERS = CHECKOUT / "tests" / "attacks" / "portal"
LISTING = ("collectonly", "version", "help", "markers", "showfixtures", "show_fixtures_per_test")
HIDDEN = (
    "EMAIL_URL", "GATEHOUSE_SOURCES", "GATEHOUSE_HUB_ENDPOINT", "GATEHOUSE_HUB_TOKEN", "GATEHOUSE_HUB_REDIRECTS", "GATEHOUSE_FOLLOW_TOKENS", "GATEHOUSE_DEMO",
    "GATEHOUSE_NGINX_LOG", "GATEHOUSE_SHARED_WEIGHTS", "GATEHOUSE_DELIVERY", "GATEHOUSE_MOST_BODIES", "GATEHOUSE_MOST_BODIES_EACH",
    "GATEHOUSE_MOST_UPLOADS", "GATEHOUSE_LARGEST_UPLOAD", "GATEHOUSE_UPLOAD_PART", "GATEHOUSE_TOKEN_RATE",
    "GATEHOUSE_ADDRESS_RATE", "GATEHOUSE_ANONYMOUS_RATE", "GATEHOUSE_S3_ENDPOINT", "GATEHOUSE_S3_BUCKET", "GATEHOUSE_S3_PREFIX", "GATEHOUSE_S3_REGION",
    "HF_ENDPOINT", "HF_TOKEN", "HF_HUB_OFFLINE",
    "GATEHOUSE_OIDC_ISSUERS", "GATEHOUSE_ANCHOR_FILE", "GATEHOUSE_ANCHOR_MINUTES", "GATEHOUSE_ANCHOR_MAIL",
    "GATEHOUSE_KEEP_MAIL_DAYS", "GATEHOUSE_KEEP_SIGN_INS_DAYS",
    "GATEHOUSE_FOLLOW_ENDPOINTS", "GATEHOUSE_OWNER_DATABASE_URL",
    "GATEHOUSE_DATABASE_CONNECTIONS", "GATEHOUSE_WEB_PROCESSES", "GATEHOUSE_STATEMENT_SECONDS",
)  # fmt: skip
PREFIX = "gatehouse-tests-"
STARTING = 60.0  # seconds, at most, between creating a run's lock and taking it
SERVERS = pytest.StashKey[EmbeddedServers | None]()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> Generator[None]:
    """Start the servers before pytest-django's hook of the same name imports the settings."""
    stack = ExitStack()
    early_config.add_cleanup(stack.close)
    state = _temporary_state(stack)
    os.environ.update(
        DJANGO_SETTINGS_MODULE="portal.settings",
        GATEHOUSE_STATE=str(state),
        GATEHOUSE_URL="http://127.0.0.1:8000",
        SECRET_KEY="a-key-of-the-test-run-and-of-nothing-else",
        HF_HOME=str(state / "hf-home"),
        HF_HUB_DISABLE_TELEMETRY="1",
        HF_HUB_ETAG_TIMEOUT="60",  # seconds, since several runs may share a small machine
        HF_HUB_DOWNLOAD_TIMEOUT="60",
        GATEHOUSE_SMOKE="0",  # seconds for each recovery; its own tests switch it on
        DATABASE_URL=f"postgres://gatehouse_portal@/{state}/not-started/gatehouse",
        REDIS_URL=f"unix://{state}/not-started/valkey.sock",
    )
    for name in HIDDEN:
        os.environ.pop(name, None)
    early_config.stash[SERVERS] = None
    if _needs_servers(early_config):
        try:
            pair = stack.enter_context(embedded_servers(state, fsync=False, purpose="a test run"))
        except StartError as error:
            raise pytest.UsageError(str(error)) from None
        os.environ.update(DATABASE_URL=pair.urls.database_url, REDIS_URL=pair.urls.redis_url)
        early_config.stash[SERVERS] = pair
    return (yield)


def pytest_report_header(config: pytest.Config) -> str:
    pair = config.stash.get(SERVERS, None)
    return f"servers: {pair.urls.dsn}, {pair.urls.redis_url}" if pair else "servers: none needed"


@pytest.fixture(scope="session")
def postgres_server(pytestconfig: pytest.Config) -> Postgres:
    """Return the run's PostgreSQL; a test that stops it starts it again (`start`, `wait_ready`)."""
    pair = pytestconfig.stash[SERVERS]
    assert pair is not None
    assert pair.postgres is not None
    return pair.postgres


@pytest.fixture(scope="session")
def valkey_server(pytestconfig: pytest.Config) -> Valkey:
    """Return the run's broker; a test that stops it starts it again (`start`, `wait_ready`)."""
    pair = pytestconfig.stash[SERVERS]
    assert pair is not None
    assert pair.valkey is not None
    return pair.valkey


@pytest.fixture(scope="session")
def owner_url(postgres_server: Postgres) -> Callable[[str], str]:
    """Return `owner_url(name)`, which gives a database's GATEHOUSE_OWNER_DATABASE_URL."""
    return lambda name: f"{postgres_server.owner_url.rpartition('/')[0]}/{name}"


@pytest.fixture(scope="session")
def owner_of(postgres_server: Postgres) -> Callable[..., psycopg.Connection[Any]]:
    """Return `owner_of(name="postgres")`, which connects to a database of the run as a superuser."""
    return lambda name="postgres": psycopg.connect(postgres_server.owner_dsn(name), autocommit=True)


def _needs_servers(config: pytest.Config) -> bool:
    options = config.known_args_namespace
    if any(getattr(options, name, False) for name in LISTING):
        return False
    ignored = [Path(config.invocation_params.dir, text) for text in options.ignore or []]
    asked = [Path(config.invocation_params.dir, text.partition("::")[0]) for text in options.file_or_dir]
    return not asked or not all(_needs_none(path.resolve(), ignored) for path in asked)


def _needs_none(path: Path, ignored: list[Path]) -> bool:
    """Return whether no test below this path needs servers.

    The tests in `BUT_SERVERS` may be ignored by name.
    """
    if path.is_relative_to(BUT_SERVERS):
        return False
    if BUT_SERVERS.is_relative_to(path) and BUT_SERVERS not in ignored:
        return False
    return any(path.is_relative_to(folder) for folder in NO_SERVERS)


def _temporary_state(stack: ExitStack) -> Path:
    """Return a new folder in GATEHOUSE_STATE, or else the temporary folder; delete those of dead runs."""
    given = os.environ.get("GATEHOUSE_STATE")
    parent = Path(given) / "tests" if given else Path(tempfile.gettempdir())
    parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    for old in parent.glob(f"{PREFIX}*"):
        _remove_if_dead(old)
    state = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent)).resolve()
    stack.callback(_remove, state)
    (state / "static").mkdir()  # WhiteNoise warns if the static root does not exist
    return state


def _remove_if_dead(state: Path) -> None:
    """Remove our own folder if its lock is old; a run without a lock, or with a new one, may be starting."""
    with suppress(OSError, StartError):
        locked = (state / "run" / "lock").stat().st_mtime
        if state.stat().st_uid == os.geteuid() and time.time() - locked > STARTING:
            with StateLock(state, purpose="a clean-up"):
                pass
            _remove(state)


def _remove(state: Path) -> None:
    with suppress(StartError):
        wipe_servers(state)
    shutil.rmtree(state, ignore_errors=True)
