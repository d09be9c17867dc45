"""Divide the database's connections among the parts of the portal.

All parts together stay below the server's limit.

| part | connections |
| --- | --- |
| commands: `migrate`, `./dev.py manage`, backups | `COMMANDS` |
| each process of a worker on this machine (`WORKERS`) | `OF_A_WORKER`: its task, the thread that renews its lease, one more |
| `/healthz` of each web process | 1 |
| the pool of each web process | an equal share of what is left, from `LEAST` to `MOST` |
| the pool of each web process that drains next to its successor | `OF_A_DRAINING`, from the server's reserve |

The supervisor and the embedded server import this module without Django.
"""

from __future__ import annotations

from collections.abc import Mapping

TOTAL = 80  # without GATEHOUSE_DATABASE_CONNECTIONS; PostgreSQL's own default is 100
SPARE = 20  # connections that the embedded server allows in addition: its owner's, and those it reserves
COMMANDS = 8
WORKERS = {"default": 2, "mail": 1, "remote": 2, "recovery": 1}  # queue -> processes of its worker
OF_A_WORKER = 3
HEALTH = 1
OF_A_DRAINING = 2
# A web process has 80 threads, and bodies may hold 56 of them (GATEHOUSE_MOST_BODIES). That leaves at most 14 threads
# with a connection, 6 that wait in a stuck line, and 4 or more for requests without a connection.
MOST, WAITING, LEAST = 14, 6, 3
FEWEST = COMMANDS + OF_A_WORKER * sum(WORKERS.values()) + HEALTH + LEAST


def total(given: Mapping[str, str]) -> int:
    """Return how many connections all parts may hold.

    This is the default if the text is not a number, which the settings refuse.
    """
    text = given.get("GATEHOUSE_DATABASE_CONNECTIONS", "").strip()
    return int(text) if text.isascii() and text.isdigit() and int(text) >= FEWEST else TOTAL


def left_for_web(connections: int) -> int:
    """Return how many of these connections the web processes share."""
    return connections - COMMANDS - OF_A_WORKER * sum(WORKERS.values())


def most_web_processes(connections: int) -> int:
    """Return how many web processes have enough connections to work."""
    return max(1, left_for_web(connections) // (LEAST + HEALTH))


def pool_of_web(connections: int, processes: int) -> int:
    """Return how many connections the pool of one web process may hold.

    Fewer than `LEAST` are too few to start.
    """
    return min(MOST, left_for_web(connections) // processes - HEALTH)


def too_many(connections: int, *, allowed: int) -> str:
    """Return the error for a server that allows fewer connections than the portal may hold, or ""."""
    if connections <= allowed:
        return ""
    return (
        f"The portal may hold {connections} connections to the database, and the server allows {allowed} (max_connections,"
        " less those that it reserves): raise max_connections on the server, or set GATEHOUSE_DATABASE_CONNECTIONS to"
        f" {allowed} or less ({FEWEST} is the least)."
    )
