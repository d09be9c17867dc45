"""The whole portal as one process tree: servers, web server, workers; started, watched, stopped together."""

import http.client
import json
import logging
import os
import shutil
import signal
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import psycopg

from portal.database import budget
from portal.embedded.errors import Refused, StartError
from portal.embedded.identity import PLAIN
from portal.embedded.listening import address_of, listen
from portal.embedded.prepare import CHECKOUT, migrated
from portal.embedded.processes import Child, cap_log, marked, running_with, stop_leftovers, wrapped
from portal.embedded.programs import PRIVATE, Part, make_parts, python
from portal.embedded.servers import EmbeddedServers, wipe_servers
from portal.embedded.state import (
    Running,
    StateLock,
    clear_temporary,
    prepare_state,
    temporary_folder,
    tighten,
    write_private,
)
from portal.parts import CONFIGURATION, OWNER_DATABASE, environment_of
from portal.private import OWNER_ALONE

log = logging.getLogger(__name__)

RUN_MARK = "GATEHOUSE_RUN"  # on the command line of every process of one start, so that all can be found
SIGNS = ("gatehouse:1:sign:default", "gatehouse:1:sign:clock")  # of portal.signs, as stored in the cache
NAMED_BY = {
    "database": "database (DATABASE_URL)",
    "broker": "broker (REDIS_URL)",
    "worker": "worker",
    "clock": "clock",
}
READY_WITHIN = 60.0


class Supervisor:
    """One portal on one state folder. Call `start`, then `check` regularly, then `stop`.

    Start it from a thread that lives as long as the portal should: its processes die with that thread.
    """

    def __init__(
        self,
        state: Path,
        *,
        host: str = "127.0.0.1",
        port: int = 8000,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._is_new = not state.expanduser().exists()
        self.state = prepare_state(state)
        self.host, self.port = host, port
        self.given = dict(os.environ if environment is None else environment)
        self.parts: list[Part] = []
        self.address = ""
        self.environment: dict[str, str] = {}
        self._stack = ExitStack()
        self._reported: dict[str, set[type[Exception]]] = {}

    def start(self) -> None:
        """Start everything; return when pages and worker answer.

        Raises `StartError`, with nothing left running.
        """
        try:
            self._stack.enter_context(StateLock(self.state, purpose="a running portal", wait=1.0))
            tighten(self.state)
            self._clear_leftovers()
            clear_temporary(self.state)
            opened = self._stack.enter_context(listen(self.host, self.port))
            self.address = address_of(opened, self.host)
            self._start_servers()
            # Only our own database can be trusted to be as we left it. The owner's address is read only here.
            if self.servers.postgres is None:
                self.run_prepare("migrate", **{OWNER_DATABASE: self.given.get(OWNER_DATABASE, "")})
            elif not migrated(self.state, self.servers.urls.dsn):
                owner = {OWNER_DATABASE: self.servers.postgres.owner_url}
                self.run_prepare("migrate", str(self.state), self.servers.urls.dsn, **owner)
            # A pipe that nobody writes to: it closes when we end, however that happens.
            lifeline, writing = os.pipe()
            self._stack.callback(os.close, writing)
            self._stack.callback(os.close, lifeline)
            self.parts = make_parts(opened.fileno(), lifeline, self.state / "run")
            # Pages do not wait for the others, whose queues keep their work until then.
            first, last = self.parts[:3], self.parts[3:]
            for part in first:
                self._start_part(part)
            # `./dev.py manage` finds us through this.
            known = {name: self.environment[name] for name in CONFIGURATION if self.environment.get(name)}
            Running(os.getpid(), "a running portal", known).save(self.state)
            self._wait_ready(first)
            for part in last:
                self._start_part(part)
        except BaseException as error:
            self.stop()
            if self._is_new and isinstance(error, Refused):
                wipe_servers(self.state)
                shutil.rmtree(self.state)
            raise

    def stop(self) -> None:
        """Stop everything within ten seconds; a running recovery continues at the next start."""
        children = [part.child for part in self.parts if part.child is not None]
        signals = [part.stop_signals for part in self.parts if part.child is not None]
        # All at once, in rounds: two and a half seconds for each signal, then the kill.
        for turn in range(max(map(len, signals), default=0)):
            for child, numbers in zip(children, signals, strict=True):
                child.ask_to_stop(numbers[min(turn, len(numbers) - 1)])
            deadline = time.monotonic() + 2.5
            for child in children:
                child.wait(deadline - time.monotonic())
        for child in children:
            child.stop(patience=0)
        for part in self.parts:
            part.child = None
        self._kill_marked()
        self._stack.close()

    def check(self) -> list[str]:
        """Restart what died or hangs, with growing pauses, and keep the logs small.

        Return the restarted names. A step that fails, as on a full disk, is reported once and tried again at
        the next turn. Everything else continues.
        """
        restarts: dict[str, Callable[[], bool]] = {
            **{server.log.stem: partial(self.servers.restart, server) for server in self.servers.own},
            **{part.name: partial(self._revive_part, part) for part in self.parts},
        }
        restarted = [
            name for name, restart in restarts.items() if self._try_and_report(f"Restart of {name}", restart)
        ]
        for child in [*(server.child for server in self.servers.own), *(part.child for part in self.parts)]:
            if child is not None:
                self._try_and_report(f"Copy of {child.log}", partial(cap_log, child.log))
        return restarted

    def _revive_part(self, part: Part) -> bool:
        """Restart a part that is not well, once its pause is over; return True if it was started."""
        if part.is_well():
            part.settle()
        elif part.has_ended() and time.monotonic() >= part.not_before:
            self._start_part(part)
            return True
        return False

    def _try_and_report(self, what: str, action: Callable[[], bool | None]) -> bool:
        """Return whether `action` did something; report each kind of failure once until it succeeds."""
        try:
            done = bool(action())
        except (StartError, OSError, psycopg.Error) as error:
            kinds = self._reported.setdefault(what, set())
            if type(error) not in kinds:
                kinds.add(type(error))
                log.warning("%s failed and is tried again: %s", what, error)
            return False
        if done:
            self._reported.pop(what, None)
        return done

    def run_prepare(self, action: str, *arguments: str, **extra: str) -> str:
        """Run one of `portal.embedded.prepare`'s actions and raise its refusal.

        `extra` is added to its environment.
        """
        command = python(PRIVATE, "portal.embedded.prepare", action, *arguments)
        result = subprocess.run(
            wrapped(marked(command, RUN_MARK, self._run_id), identity=PLAIN, death_signal=signal.SIGKILL),
            env=environment_of("migrate" if action == "migrate" else "report", self.environment | extra),
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, cwd=CHECKOUT, umask=OWNER_ALONE,
        )  # fmt: skip
        if result.returncode != 0:
            lines = result.stderr.strip().splitlines() or ["it said nothing"]
            write_private(self.state / "logs" / "prepare.log", result.stderr)
            if len(lines) == 1:
                raise Refused(lines[-1])
            raise StartError(f"{lines[-1]} (see {self.state}/logs/prepare.log)")
        return result.stdout.strip()

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
            # Signs of life from an earlier start prove nothing now.
            for key in SIGNS:
                self.servers.valkey.command("DEL", key)
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

    def _start_part(self, part: Part) -> None:
        part.count_start()
        temporary = temporary_folder(self.state, part.name, drains=part.drains)
        part.child = Child(
            part.name, marked(part.command, RUN_MARK, self._run_id), log=self.state / "logs" / f"{part.name}.log",
            env=environment_of(part.name, self.environment) | {"TMPDIR": str(temporary), **part.extra},
            cwd=CHECKOUT, pass_fds=part.pass_fds, stop_signals=part.stop_signals, death_signal=part.death_signal,
        )  # fmt: skip

    def _wait_ready(self, parts: list[Part]) -> None:
        deadline = time.monotonic() + READY_WITHIN
        while not (answer := self.health()).get("ok"):
            for part in parts:
                if part.child is not None and not part.child.alive():
                    if refusal := part.child.refusal():
                        raise Refused(refusal)
                    raise StartError(f"{part.child.last_words()} ({part.name}; the log is {part.child.log})")
            if time.monotonic() > deadline:
                silent = [named for name, named in NAMED_BY.items() if answer and not answer.get(name)]
                missing = silent or ["web server"]
                raise StartError(
                    f"Not ready after {READY_WITHIN:.0f} s, because this does not answer: {', '.join(missing)};"
                    f" see {self.state}/logs."
                )
            time.sleep(0.1)

    def health(self) -> dict[str, bool]:
        """Return what `/healthz` says, or nothing while the portal does not answer."""
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
        """End what an earlier start left running, and choose a new mark for this one."""
        record = self.state / "run" / "mark"
        self._run_id = record.read_text() if record.exists() else ""
        if self._run_id:
            self._kill_marked()
        self._run_id = uuid.uuid4().hex
        write_private(record, self._run_id)

    def _kill_marked(self) -> None:
        """End what is still running, including web workers that drain; all of it may be killed."""
        if mark := getattr(self, "_run_id", ""):
            stop_leftovers(lambda: running_with(RUN_MARK, mark), signals=(), patience=3.0)


@contextmanager
def run_portal(
    state: Path, *, host: str = "127.0.0.1", port: int = 0, extra_env: Mapping[str, str] | None = None
) -> Iterator[Supervisor]:
    """Run a whole portal; yield it (`.address`, `.environment`, `.servers`, `.run_prepare`) once it is ready.

    A separate thread starts and watches it, so any thread may call this.
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
