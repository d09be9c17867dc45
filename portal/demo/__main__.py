"""`./dev.py demo [--exit]`: run the whole job on a real model, then leave a portal to look around in."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TypeVar

from portal.demo.base import DemoPairError
from portal.demo.pair import Pair, ensure_pair
from portal.demo.steps import OWNER, RESEARCHER, Walk, steps
from portal.demo.visitor import WalkError
from portal.embedded import StartError, wipe_servers
from portal.embedded.prepare import CHECKOUT
from portal.embedded.state import prepare_state
from portal.embedded.supervisor import Supervisor, run_portal
from portal.parts import CONFIGURATION, OWNER_DATABASE

T = TypeVar("T")
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(BaseException):
    """The exception raised when a signal asks us to stop."""


class StepFailed(Exception):
    def __init__(self, step: str, why: str) -> None:
        super().__init__(f"demo: failed at {step}: {why}")


def main(arguments: list[str]) -> int:
    """Run the demo. The last line, printed after everything has stopped, says how it went."""
    parser = argparse.ArgumentParser(prog="./dev.py demo", description="Run the whole job on a real model.")
    parser.add_argument("--exit", action="store_true", help="stop at the end, exit 0 only if every step held")
    parser.add_argument(
        "--port", type=int, help="port to listen on (8000, or any free one when that is taken)"
    )
    options = parser.parse_args(arguments)
    for number in STOP_SIGNALS:
        signal.signal(number, _raise_stopped)
    try:
        last_line = run(stay=not options.exit, port=options.port)
    except StepFailed as failure:
        print(failure, flush=True)
        return 1
    except Stopped:
        print("demo: stopped before its end", flush=True)
        return 1
    print(last_line, flush=True)
    return 0


def _raise_stopped(number: int, frame: FrameType | None) -> None:
    for each in STOP_SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    raise Stopped


def run(*, stay: bool, port: int | None) -> str:
    """Make the pair, start a fresh portal and walk through the job; return the last line.

    Raises `StepFailed`.
    """
    began = time.monotonic()
    home = demo_folder()
    pair = _run_step("the demo's weights are made", lambda: ensure_pair(home / "pair"))
    for name in (
        *CONFIGURATION,
        OWNER_DATABASE,
    ):  # settings of the portal for daily use stay out of the demo
        os.environ.pop(name, None)
    try:
        prepare_fresh(home)
        with run_portal(home, port=free_port(port), extra_env={"GATEHOUSE_DEMO": "1"}) as portal:
            say(time.monotonic() - began, "portal started afresh", portal.address)
            walk = take_steps(portal, pair, home)
            last_line = f"demo: ok, {walk.files} files, {walk.bytes} bytes, {time.monotonic() - began:.1f} s"
            if stay:
                look_around(portal, last_line)
    except StartError as error:
        raise StepFailed("starting the portal", str(error)) from error
    return last_line


def demo_folder() -> Path:
    """Return `demo/` in the state folder: the demo's own state folder, which keeps the pair between runs."""
    state = Path(os.environ.get("GATEHOUSE_STATE") or CHECKOUT / ".gatehouse").expanduser()
    return prepare_state(prepare_state(state.absolute()) / "demo")


def prepare_fresh(home: Path) -> None:
    """Empty the demo's folder except for the pair; refuse while another demo is running in it."""
    wipe_servers(home)
    for path in home.iterdir():
        if path.is_dir() and path.name not in {"pair", "run"}:
            shutil.rmtree(path)
    (home / "secret_key").unlink(missing_ok=True)


def free_port(asked: int | None) -> int:
    """Return the requested port, or else 8000, or else any free one (0)."""
    import socket

    if asked is not None:
        return asked
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", 8000))
        except OSError:
            return 0
    return 8000


def take_steps(portal: Supervisor, pair: Pair, home: Path) -> Walk:
    """Take every step in turn and print its time."""

    def manage(*arguments: str) -> str:
        said = subprocess.run(
            [sys.executable, "-P", str(CHECKOUT / "manage.py"), *arguments],
            env=portal.environment, cwd=CHECKOUT, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if said.returncode:
            raise WalkError((said.stdout + said.stderr).strip().splitlines()[-1])
        return said.stdout

    folder = Path(tempfile.mkdtemp(prefix="client-", dir=home))
    walk = Walk(portal.address, pair, portal.run_prepare("owner"), manage, folder)
    for name, action in steps():
        began = time.monotonic()
        detail = _run_step(name, partial(action, walk))
        say(time.monotonic() - began, name, str(detail))
    return walk


def _run_step(name: str, action: Callable[[], T]) -> T:
    try:
        return action()
    except (WalkError, DemoPairError) as error:
        raise StepFailed(name, str(error)) from error
    except Exception as error:
        raise StepFailed(name, f"{type(error).__name__}: {error}") from error


def say(seconds: float, what: str, detail: str) -> None:
    print(f"{seconds:7.1f} s  {what}: {detail}", flush=True)


def look_around(portal: Supervisor, result: str) -> None:
    """Leave everything running until a signal arrives, and print what a person needs to look around."""
    print(
        f"\n{result}\n\n"
        f"The portal stays: {portal.address}/\n"
        f"  owner and reviewer  {OWNER['email']}  password: {OWNER['password']}   {portal.address}/admin/\n"
        f"  researcher          {RESEARCHER['email']}  password: {RESEARCHER['password']}\n"
        f"  emails              {portal.address}/outbox/\n"
        "Stop it with Ctrl-C.",
        flush=True,
    )
    try:
        signal.pause()
    except Stopped:
        return


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
