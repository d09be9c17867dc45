"""The command line behind `./dev.py up` and `./dev.py manage`."""

import argparse
import json
import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType

from portal.embedded.errors import StartError
from portal.embedded.manage import run_command
from portal.embedded.state import prepare_state
from portal.embedded.supervisor import Supervisor
from portal.private import keep_private

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(BaseException):
    """The exception raised by a stop signal.

    It is not an `Exception`, so that no handler on the way swallows it.
    """


def up(arguments: list[str]) -> int:
    """Run the portal in the foreground until a signal arrives; print one line when it is ready."""
    parser = argparse.ArgumentParser(prog="./dev.py up", description="Run the portal.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1)")
    parser.add_argument("--port", type=int, default=8000, help="port to listen on (8000)")
    options = parser.parse_args(arguments)
    for number in STOP_SIGNALS:
        signal.signal(number, _raise_stopped)
    keep_private()
    supervisor = Supervisor(state_folder(), host=options.host, port=options.port)
    try:
        supervisor.start()
        print(f"Gatehouse is ready: {supervisor.address}/", flush=True)
        _print_report(supervisor)
        while True:  # until a signal arrives
            time.sleep(0.5)
            for name in supervisor.check():
                print(f"{name} stopped and was started again (see {supervisor.state}/logs).", file=sys.stderr)
    except Stopped:
        return 0
    finally:
        supervisor.stop()


def _print_report(supervisor: Supervisor) -> None:
    """Print the owner's one-time link, if there is no superuser, and warnings.

    The warnings are about a missing mail server and an unprotected event log; the portal works without
    either.
    """
    try:
        report = json.loads(supervisor.run_prepare("report"))
    except StartError as error:
        print(f"The link for the owner could not be made: {error}", file=sys.stderr, flush=True)
        return
    if report["owner_link"]:
        print(f"This portal has no owner yet. Create the owner here: {report['owner_link']}", flush=True)
    if report["outbox"]:
        print(
            f"No mail server is set (EMAIL_URL): superusers read the emails at {supervisor.address}/outbox/",
            flush=True,
        )
    if report["unprotected"]:
        print(f"Not protected: {' '.join(report['unprotected'])}", flush=True)


def _raise_stopped(number: int, frame: FrameType | None) -> None:
    """Raise `Stopped` on the first signal; ignore later ones, which must not interrupt the shutdown."""
    for each in STOP_SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    raise Stopped


def manage(arguments: list[str]) -> int:
    """Run one of Django's commands on the running portal's servers, or on its own."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return run_command(prepare_state(state_folder()), arguments)
    except KeyboardInterrupt:
        return 130


def state_folder() -> Path:
    """Return `GATEHOUSE_STATE`, or else `.gatehouse` in the checkout."""
    return Path(os.environ.get("GATEHOUSE_STATE") or Path(__file__).parents[2] / ".gatehouse")


COMMANDS = {"up": up, "manage": manage}


def main(arguments: list[str]) -> int:
    name, *rest = arguments or [""]
    if name not in COMMANDS:
        print(f"Use one of: {', '.join(COMMANDS)}.", file=sys.stderr)
        return 2
    try:
        return COMMANDS[name](rest)
    except StartError as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
