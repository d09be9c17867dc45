"""The whole portal as one process tree: servers, web server, workers; started, watched, stopped together."""

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from portal.database import budget
from portal.embedded.errors import StartError
from portal.embedded.identity import PLAIN
from portal.embedded.listening import address_of, listen
from portal.embedded.prepare import CHECKOUT, migrated
from portal.embedded.processes import Child, cap_log, marked, running_with, stop_leftovers, wrapped
from portal.embedded.servers import EmbeddedServers
from portal.embedded.state import Running, StateLock, prepare_state, temporary_folder, tighten, write_private
from portal.parts import CONFIGURATION, OWNER_DATABASE, environment_of
from portal.private import OWNER_ALONE

PRIVATE = str(
    CHECKOUT / "portal" / "private.py"
)  # by its path, so that it needs nothing of ours to be importable
RUN_MARK = "GATEHOUSE_RUN"  # on the command line of every process of one start, so that all can be found
HEARTBEAT = "gatehouse:1:worker-heartbeat"  # portal.tasks.HEARTBEAT_KEY as the cache stores it
NAMED_BY = {"database": "database (DATABASE_URL)", "broker": "broker (REDIS_URL)"}
THREADS = 80  # GATEHOUSE_MOST_BODIES, and as many more as the pool has connections: a body holds none
KEPT = 75  # seconds that an idle connection stays open: longer than clients pause, so that none asks while it closes
READY_WITHIN = 60.0
SHORTEST_PAUSE, LONGEST_PAUSE = 0.5, 30.0


@dataclass
class Part:
    """One program of the portal, how it stops, and when it may be started again after it died."""

    name: str
    command: list[str]
    stop_signals: tuple[int, ...]
    pass_fds: tuple[int, ...] = ()
    child: Child | None = None
    pause: float = SHORTEST_PAUSE
    not_before: float = 0.0

    def count_start(self) -> None:
        """The next start after a death waits twice as long as this one did."""
        self.not_before = time.monotonic() + self.pause
        self.pause = min(self.pause * 2, LONGEST_PAUSE)

    def settle(self) -> None:
        """One that has lived for a while is restarted at once if it dies."""
        if time.monotonic() > self.not_before + LONGEST_PAUSE:
            self.pause = SHORTEST_PAUSE


def python(*arguments: str) -> list[str]:
    """This Python on a module or script; the folder we happen to be in is not on its path."""
    return [sys.executable, "-P", *arguments]


def worker_command(queue: str, *, processes: int) -> list[str]:
    """A Celery worker of one queue."""
    return python(
        PRIVATE, "celery", "-A", "portal.celery", "worker", "-Q", queue, "-c", str(processes), "-n", f"{queue}@%h",
        "-l", "INFO", "--without-mingle", "--without-gossip", "--without-heartbeat",
    )  # fmt: skip


def beat_command(schedule: Path) -> list[str]:
    """Celery beat, which wakes the workers for what is due."""
    return python(PRIVATE, "celery", "-A", "portal.celery", "beat", "-s", str(schedule), "-l", "INFO")


def web_command(descriptor: int, *, scratch: Path) -> list[str]:
    """gunicorn with threads on a socket that is already open."""
    memory = Path("/dev/shm")  # noqa: S108 - gunicorn's own choice for its worker's sign of life
    return python(
        PRIVATE, "gunicorn", "portal.wsgi:application", "--bind", f"fd://{descriptor}", "--worker-class", "portal.webworker.Worker",
        "--workers", "1", "--threads", str(THREADS), "--graceful-timeout", "2", "--keep-alive", str(KEPT),
        "--no-control-socket", "--forwarded-allow-ips", "", "--forwarder-headers", "",
        "--worker-tmp-dir", str(memory if os.access(memory, os.W_OK) else scratch),
    )  # fmt: skip


class Supervisor:
    """One portal on one state folder. `start`, then `check` now and then, then `stop`.

    Start it from a thread that lives as long as the portal shall: its processes die with that thread.
    """

    def __init__(
        self,
        state: Path,
        *,
        host: str = "127.0.0.1",
        port: int = 8000,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.state = prepare_state(state)
        self.host, self.port = host, port
        self.given = dict(os.environ if environment is None else environment)
        self.parts: list[Part] = []
        self.address = ""
        self.environment: dict[str, str] = {}
        self._stack = ExitStack()

    def start(self) -> None:
        """Returns when pages and worker answer; raises `StartError`, with nothing left running, when they cannot."""
        try:
            self._stack.enter_context(StateLock(self.state, purpose="a running portal", wait=1.0))
            tighten(self.state)
            self._clear_leftovers()
            opened = self._stack.enter_context(listen(self.host, self.port))
            self.address = address_of(opened, self.host)
            self._start_servers()
            if not self._has_schema():
                self._migrate()
            self.parts = self._make_parts(opened.fileno())
            # Pages do not wait for the last two; their queues keep what comes meanwhile.
            first, last = self.parts[:3], self.parts[3:]
            for part in first:
                self._spawn(part)
            self._announce()
            self._wait_ready(first)
            for part in last:
                self._spawn(part)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stops everything within ten seconds; a running recovery goes on at the next start."""
        children = [part.child for part in self.parts if part.child is not None]
        _stop_together(children, [part.stop_signals for part in self.parts if part.child is not None])
        for part in self.parts:
            part.child = None
        self._kill_marked()
        self._stack.close()

    def check(self) -> list[str]:
        """Starts again what died by itself, with growing pauses, and keeps the logs small; returns the names."""
        restarted = self.servers.restart_dead()
        for part in self.parts:
            if part.child is not None and part.child.alive():
                part.settle()
            elif time.monotonic() >= part.not_before:
                self._spawn(part)
                restarted.append(part.name)
        for child in [*(server.child for server in self.servers.own), *(part.child for part in self.parts)]:
            if child is not None:
                cap_log(child.log)
        return restarted

    def run_prepare(self, action: str, *arguments: str, **extra: str) -> str:
        """Runs one of `portal.embedded.prepare`'s actions; its refusal becomes ours. `extra` joins its environment."""
        command = python(PRIVATE, "portal.embedded.prepare", action, *arguments)
        result = subprocess.run(
            wrapped(marked(command, RUN_MARK, self._run_id), identity=PLAIN, death_signal=signal.SIGKILL),
            env=environment_of("migrate" if action == "migrate" else "report", self.environment | extra),
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, cwd=CHECKOUT, umask=OWNER_ALONE,
        )  # fmt: skip
        if result.returncode != 0:
            lines = result.stderr.strip().splitlines() or ["it said nothing"]
            write_private(self.state / "logs" / "prepare.log", result.stderr)
            raise StartError(
                lines[-1] if len(lines) == 1 else f"{lines[-1]} (see {self.state}/logs/prepare.log)"
            )
        return result.stdout.strip()

    def _migrate(self) -> None:
        """The only moment at which the owner's address is read."""
        if self.servers.postgres is None:
            self.run_prepare("migrate", **{OWNER_DATABASE: self.given.get(OWNER_DATABASE, "")})
            return
        owner = {OWNER_DATABASE: self.servers.postgres.owner_url}
        self.run_prepare("migrate", str(self.state), self.servers.urls.dsn, **owner)

    def _start_servers(self) -> None:
        self.servers = EmbeddedServers(
            self.state,
            database_url=self.given.get("DATABASE_URL", ""),
            redis_url=self.given.get("REDIS_URL", ""),
            connections=budget.total(self.given),
        )
        self._stack.callback(self.servers.stop)
        self.servers.start()
        if self.servers.valkey is not None:
            # An earlier worker's sign of life proves nothing now.
            self.servers.valkey.command("DEL", HEARTBEAT)
        self.environment = {
            **{name: value for name, value in self.given.items() if name != OWNER_DATABASE},
            "DATABASE_URL": self.servers.urls.database_url,
            "REDIS_URL": self.servers.urls.redis_url,
            "GATEHOUSE_STATE": str(self.state),
            "GATEHOUSE_URL": self.given.get("GATEHOUSE_URL") or self.address,
            "DJANGO_SETTINGS_MODULE": "portal.settings",
            "PYTHONPATH": os.pathsep.join(filter(None, [str(CHECKOUT), self.given.get("PYTHONPATH")])),
            RUN_MARK: self._run_id,
        }

    def _has_schema(self) -> bool:
        """Only our own database can be trusted to be as we left it."""
        return self.servers.postgres is not None and migrated(self.state, self.servers.urls.dsn)

    def _make_parts(self, descriptor: int) -> list[Part]:
        run = self.state / "run"
        warm_then_cold = (signal.SIGTERM, signal.SIGQUIT)
        return [
            Part("web", web_command(descriptor, scratch=run), warm_then_cold, (descriptor,)),
            Part("worker-default", worker_command("default", processes=2), warm_then_cold),
            Part("beat", beat_command(run / "beat"), (signal.SIGTERM,)),
            Part("worker-mail", worker_command("mail", processes=1), warm_then_cold),
            Part("worker-recovery", worker_command("recovery", processes=1), warm_then_cold),
        ]

    def _spawn(self, part: Part) -> None:
        part.count_start()
        part.child = Child(
            part.name, marked(part.command, RUN_MARK, self._run_id), log=self.state / "logs" / f"{part.name}.log",
            env=environment_of(part.name, self.environment) | {"TMPDIR": str(temporary_folder(self.state, part.name))}, cwd=CHECKOUT, stop_signals=part.stop_signals, pass_fds=part.pass_fds,
        )  # fmt: skip

    def _announce(self) -> None:
        """Lets `./dev.py manage` find us."""
        known = {name: self.environment[name] for name in CONFIGURATION if self.environment.get(name)}
        Running(os.getpid(), "a running portal", known).save(self.state)

    def _wait_ready(self, parts: list[Part]) -> None:
        deadline = time.monotonic() + READY_WITHIN
        while not (answer := self.health()).get("ok"):
            for part in parts:
                if part.child is not None and not part.child.alive():
                    raise StartError(f"{part.child.last_words()} ({part.name}; the log is {part.child.log})")
            if time.monotonic() > deadline:
                silent = [name for name, well in answer.items() if name != "ok" and not well]
                missing = [NAMED_BY.get(name, name) for name in silent] or ["web server"]
                raise StartError(
                    f"Not ready after {READY_WITHIN:.0f} s, because this does not answer: {', '.join(missing)};"
                    f" see {self.state}/logs."
                )
            time.sleep(0.1)

    def health(self) -> dict[str, bool]:
        """What `/healthz` says, or nothing while nobody answers."""
        here, public = urlsplit(self.address), urlsplit(self.environment["GATEHOUSE_URL"])
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(here.hostname or "", here.hostname or "")  # noqa: S104
        headers = {"Host": public.netloc, "X-Forwarded-Proto": public.scheme}
        with suppress(OSError, http.client.HTTPException, ValueError):
            connection = http.client.HTTPConnection(host, here.port, timeout=5)
            try:
                connection.request("GET", "/healthz", headers=headers)
                return dict(json.loads(connection.getresponse().read()))
            finally:
                connection.close()
        return {}

    def _clear_leftovers(self) -> None:
        """Ends what an earlier start left behind, and takes a new mark for this one."""
        record = self.state / "run" / "mark"
        self._run_id = record.read_text() if record.exists() else ""
        if self._run_id:
            self._kill_marked(patience=3.0)
        self._run_id = uuid.uuid4().hex
        write_private(record, self._run_id)

    def _kill_marked(self, *, patience: float = 0.0) -> None:
        mark = getattr(self, "_run_id", "")
        if mark:
            gentle = (signal.SIGTERM,) if patience else ()
            stop_leftovers(lambda: running_with(RUN_MARK, mark), signals=gentle, patience=patience or 1.0)


def _stop_together(children: list[Child], signals: list[tuple[int, ...]]) -> None:
    """Asks all at once, round by round: two and a half seconds for each signal, then the kill."""
    for turn in range(max(map(len, signals), default=0)):
        for child, numbers in zip(children, signals, strict=True):
            child.ask_to_stop(numbers[min(turn, len(numbers) - 1)])
        deadline = time.monotonic() + 2.5
        for child in children:
            child.wait(deadline - time.monotonic())
    for child in children:
        child.stop(patience=0)


@contextmanager
def run_portal(
    state: Path, *, host: str = "127.0.0.1", port: int = 0, extra_env: Mapping[str, str] | None = None
) -> Iterator[Supervisor]:
    """Runs a whole portal and hands it out (`.address`, `.environment`, `.servers`, `.run_prepare`) once it is ready.

    A thread of its own starts it and watches over it, so that any thread may call this.
    """
    supervisor = Supervisor(state, host=host, port=port, environment={**os.environ, **(extra_env or {})})
    ready, done = threading.Event(), threading.Event()
    failure: list[BaseException] = []

    def live() -> None:
        try:
            supervisor.start()
        except BaseException as error:
            failure.append(error)
            return
        finally:
            ready.set()
        while not done.wait(0.5):
            with suppress(StartError):
                supervisor.check()
        supervisor.stop()

    thread = threading.Thread(target=live, name="portal", daemon=True)
    thread.start()
    try:
        ready.wait()
        if failure:
            raise failure[0]
        yield supervisor
    finally:
        done.set()
        thread.join()
