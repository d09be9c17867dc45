"""`./dev.py bench scale --people 200`: page times for that many people at once, during slow downloads.

A single thread in one process plays all of them, so that the client uses little processor time.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import socket
import statistics
import time
from collections import Counter, defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from portal.embedded.supervisor import Supervisor
from tests.bench.scale.asking import Process, bearer, order, processes, session, timed

PAUSE = (1.0, 5.0)  # seconds between two pages of the same person
DOWNLOADS, RATE, SIP = 50, 100_000, 16_384  # slow downloads, their bytes a second, and bytes read at once
STAFF_SHARE = 0.05
WITHIN = 60.0  # seconds for one answer
LIMIT = 500.0  # milliseconds, 95th percentile
QUEUE = "/admin/access_requests/accessrequest/"
VISITOR = (
    ("catalogue", 30),
    ("model page", 25),
    ("stylesheet", 20),
    ("My requests", 15),
    ("own request or access", 10),
)
STAFF = (("queue", 40), ("request in the admin", 40), ("catalogue", 20))


@dataclass
class Seen:
    """The results: milliseconds by kind of page, and every bad answer."""

    milliseconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    errors: Counter[str] = field(default_factory=Counter)
    downloads: int = 0
    bytes: int = 0


@dataclass(frozen=True)
class Site:
    """Where to send requests, and what to ask for."""

    host: str
    port: int
    stylesheet: str
    made: dict[str, Any]


def under_load(portal: Supervisor, *, people: int, minutes: float) -> bool:
    """Play the people for this long; print the times and the growth of the processes.

    Return whether the limit is kept.
    """
    made = order(portal.environment, "crowd", people=people, downloads=DOWNLOADS)
    where = urlsplit(portal.address)
    page = timed(portal.address, "GET", "/", {}).body.decode()
    stylesheet = page.partition('rel="stylesheet" href="')[2].partition('"')[0]
    site = Site(where.hostname or "", where.port or 80, stylesheet, made)
    seen, memory = Seen(), [processes(portal)]
    asyncio.run(_play(portal, site, people, minutes * 60, seen, memory))
    print(memory_table(memory), flush=True)
    return _told(seen)


async def _play(
    portal: Supervisor, site: Site, people: int, seconds: float, seen: Seen, memory: list[list[Process]]
) -> None:
    until = time.monotonic() + seconds
    visitors, readers = itertools.cycle(site.made["visitors"]), itertools.cycle(site.made["readers"])
    staff = itertools.cycle(site.made["staff"])
    number = round(people * STAFF_SHARE)
    todo = [_person(site, next(staff), STAFF, until, seen, n) for n in range(number)]
    todo += [_person(site, next(visitors), VISITOR, until, seen, n) for n in range(number, people)]
    todo += [_slow_download(site, next(readers), until, seen) for _ in range(DOWNLOADS)]
    await asyncio.gather(_look(portal, until, memory), *todo)


async def _look(portal: Supervisor, until: float, memory: list[list[Process]]) -> None:
    """Record the memory of each process every minute, and at the end."""
    while (left := until - time.monotonic()) > 0:
        await asyncio.sleep(min(60, left))
        memory.append(processes(portal))


async def _person(
    site: Site,
    person: dict[str, Any],
    habits: tuple[tuple[str, int], ...],
    until: float,
    seen: Seen,
    number: int,
) -> None:
    """Play one person with one browser, whose connection stays open between pages."""
    chance, line = random.Random(number), _Line(site)
    kinds, weights = zip(*habits, strict=True)
    await asyncio.sleep(chance.uniform(0, PAUSE[1]))
    while time.monotonic() < until:
        kind = chance.choices(kinds, weights)[0]
        path = _path(kind, site, person, chance)
        began = time.perf_counter()
        try:
            status = await asyncio.wait_for(line.ask(path, session(person["session"])), WITHIN)
        except TimeoutError:
            status = f"no answer in {WITHIN:.0f} s"
        except (OSError, asyncio.IncompleteReadError, ValueError) as error:
            status = type(error).__name__
        if status != "200":
            seen.errors[f"{kind}: {status}"] += 1
            line.close()
        seen.milliseconds[kind].append(1000 * (time.perf_counter() - began))
        await asyncio.sleep(chance.uniform(*PAUSE))
    line.close()


def _path(kind: str, site: Site, person: dict[str, Any], chance: random.Random) -> str:
    match kind:
        case "model page":
            return str(chance.choice(site.made["models"]))
        case "own request or access":
            return str(person["mine"])
        case "request in the admin":
            return str(chance.choice(person["requests"]))
    return {"catalogue": "/", "stylesheet": site.stylesheet, "My requests": "/me/", "queue": QUEUE}[kind]


class _Line:
    """A connection that is kept open, and reopened if the server has closed it."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, path: str, headers: dict[str, str]) -> str:
        """Request one page, read it completely and return its status."""
        if self._streams is None or self._streams[0].at_eof():
            self.close()
            self._streams = await asyncio.open_connection(self._site.host, self._site.port)
        reader, writer = self._streams
        writer.write(request_head(self._site, path, headers))
        status, answer = await read_head(reader)
        if answer.get("transfer-encoding") == "chunked":
            while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
                await reader.readexactly(size + 2)
            await reader.readuntil(b"\r\n")
        else:
            await reader.readexactly(int(answer.get("content-length", 0)))
        if answer.get("connection", "").lower() == "close":
            self.close()
        return status

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


def request_head(site: Site, path: str, headers: dict[str, str]) -> bytes:
    """Return a GET request as bytes."""
    lines = [
        f"GET {path} HTTP/1.1",
        f"Host: {site.host}:{site.port}",
        *(f"{k}: {v}" for k, v in headers.items()),
    ]
    return "\r\n".join([*lines, "", ""]).encode()


async def read_head(reader: asyncio.StreamReader) -> tuple[str, dict[str, str]]:
    """Return the status and the headers, keyed by lower-case names."""
    first, *rest = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    pairs = (line.partition(":") for line in rest if line)
    return first.split(" ")[1], {name.strip().lower(): value.strip() for name, _, value in pairs}


async def _slow_download(site: Site, reader_of: dict[str, str], until: float, seen: Seen) -> None:
    """Read the larger file slowly, again and again; a body that ends early is an error."""
    while time.monotonic() < until:
        try:
            complete = await _one_download(site, reader_of, until, seen)
        except (OSError, asyncio.IncompleteReadError, TimeoutError) as error:
            complete = type(error).__name__
        if complete:
            seen.errors[f"download: {complete}"] += 1
            await asyncio.sleep(5)


async def _one_download(site: Site, reader_of: dict[str, str], until: float, seen: Seen) -> str:
    """Return what was wrong, or an empty text."""
    line = socket.socket()
    line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * SIP)
    line.setblocking(False)
    await asyncio.get_running_loop().sock_connect(line, (site.host, site.port))
    reader, writer = await asyncio.open_connection(sock=line, limit=SIP)
    try:
        writer.write(request_head(site, reader_of["path"], bearer(reader_of["token"])))
        status, headers = await asyncio.wait_for(read_head(reader), WITHIN)
        if status != "200":
            return status
        left = int(headers["content-length"])
        while left and time.monotonic() < until:
            piece = await asyncio.wait_for(reader.read(SIP), WITHIN)
            if not piece:
                return "cut off"
            left, seen.bytes = left - len(piece), seen.bytes + len(piece)
            await asyncio.sleep(len(piece) / RATE)
        seen.downloads += not left
        return ""
    finally:
        writer.close()
        with suppress(OSError):
            line.close()


def memory_table(memory: list[list[Process]]) -> str:
    """Return RSS/PSS of each process in MiB: at the start, each minute, at the end."""
    found: dict[tuple[str, int], dict[int, Process]] = defaultdict(dict)
    for place, processes_then in enumerate(memory):
        for one in processes_then:
            if one.part != "postgres":
                found[one.part, one.pid][place] = one
    lines = [f"memory, RSS/PSS in MiB, at the start, after each minute and at the end ({len(memory)} times):"]
    for (part, pid), sizes in sorted(found.items()):
        cells = [f"{s.rss:.0f}/{s.pss:.0f}" if (s := sizes.get(n)) else "-" for n in range(len(memory))]
        lines.append(f"  {part} {pid}: {' '.join(cells)}")
    database = [sum(one.pss or one.rss for one in then if one.part == "postgres") for then in memory]
    lines.append(f"  postgres, all together: {' '.join(f'{size:.0f}' for size in database)}")
    return "\n".join(lines)


def _told(seen: Seen) -> bool:
    every = [one for found in seen.milliseconds.values() for one in found]
    for kind, found in [*sorted(seen.milliseconds.items()), ("all pages", every)]:
        print(f"{kind}: {_figures(found)}", flush=True)
    print(f"slow downloads: {seen.bytes / 1e6:.0f} MB read, {seen.downloads} ended whole", flush=True)
    for what, count in seen.errors.most_common():
        print(f"error, {count} times: {what}", flush=True)
    slow = not every or percentile(every, 95) > LIMIT
    kept = not slow and not seen.errors
    print("the limit is kept" if kept else f"missed: p95 {LIMIT:.0f} ms and no error are wanted", flush=True)
    return kept


def _figures(found: list[float]) -> str:
    if not found:
        return "none"
    return (
        f"{len(found)} times, p50 {statistics.median(found):.0f} ms, p95 {percentile(found, 95):.0f} ms, "
        f"max {max(found):.0f} ms"
    )


def percentile(found: list[float], percent: int) -> float:
    """Return the value that this percentage of the others does not exceed."""
    return sorted(found)[min(len(found) - 1, len(found) * percent // 100)]
