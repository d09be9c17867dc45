"""Database limits for each kind of process.

The timeout belongs to the process, not to the database role, which all processes share. A process names its
kind before its first connection; one that does not is a command, such as `migrate` or `verify_audit`, which
is never cut short.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

STATEMENT_SECONDS = 10  # for a page, without GATEHOUSE_STATEMENT_SECONDS
ANSWER_WITHIN = 5.0  # seconds after a statement's own limit until a silent server is given up
# For SSDs: with PostgreSQL's default of 4, reading all requests of a model seems cheaper than looking up a
# thousand of them.
PLANNING = "-c random_page_cost=1.1"


@dataclass(frozen=True)
class Kind:
    """A kind of process and its limits in seconds; 0 means none.

    `idle` is the time inside a transaction without a statement, `wait` the time to wait for a connection.
    """

    name: str
    statement: int = 0
    lock: int = 0
    idle: int = 0
    wait: float = 10.0

    @property
    def options(self) -> str:
        """Return the limits and `PLANNING` as libpq's `options`, applied before the first statement.

        A command has none.
        """
        limits = [f"-c {name}={seconds}s" for name, seconds in self.limits.items() if seconds]
        return " ".join([*limits, PLANNING] if limits else [])

    @property
    def limits(self) -> dict[str, int]:
        """Return the server's settings, in seconds."""
        return {
            "statement_timeout": self.statement,
            "lock_timeout": self.lock,
            "idle_in_transaction_session_timeout": self.idle,
        }

    @property
    def answer_within(self) -> float | None:
        """Return the seconds of silence after which a statement's connection is given up; None for never."""
        return self.statement + ANSWER_WITHIN if self.name == "web" else None


WEB = Kind("web", statement=STATEMENT_SECONDS, lock=STATEMENT_SECONDS // 2, idle=120, wait=5.0)
WORKER = Kind("worker", statement=600, lock=60, idle=600)
COMMAND = Kind("command")

# The limit for a page's transaction that needs longer (`DatabaseWrapper.be_patient`): it publishes a revision with many
# files, or waits for a clean-up of the store.
PATIENT = WORKER

_current = COMMAND


def become(kind: Kind) -> None:
    """Set what kind of process this is. The limits of a page come from the settings."""
    global _current
    if kind is WEB:
        from django.conf import settings  # the settings import this module

        seconds = settings.GATEHOUSE_STATEMENT_SECONDS
        kind = replace(kind, statement=seconds, lock=max(1, seconds // 2))
    _current = kind


def current() -> Kind:
    """Return this process's kind."""
    return _current
