"""A real gunicorn with few places and a small application serves clients that are silent or do not close."""

from __future__ import annotations

import atexit
import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Iterable
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any

import pytest

from portal import arriving, outgoing, webworker

if "SERVER_SOFTWARE" in os.environ:  # in the server that the tests start
    arriving.HEAD_WITHIN = arriving.WINDOW = 2.0
    arriving.GRACE = webworker.GRACE = float(os.environ["GRACE"])
    webworker.UNSENT = 2**24
    webworker.TAKEN_WITHIN = int(os.environ["TAKEN_WITHIN"])
    webworker.STREAMS = 2
    atexit.register(lambda: Path(os.environ["ENDED"]).write_text("in peace"))

CHECKOUT = Path(__file__).parent.parent.parent
PLACES = 40
PAGE = 500_000  # bytes; the web server buffers this much for a slow client
LARGE = 8_000_000  # bytes; more than the sockets on both sides can hold
HUGE = outgoing.MOST + 8_000_000  # bytes; more than the web server and the sockets can hold
WITHIN = (
    30.0  # seconds until a client gives up; twenty lingering clients, one after another, would take longer
)


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Read the body and answer with the process id; `/large` and others send many bytes."""
    environ["wsgi.input"].read()
    sizes = {"/large": LARGE, "/page": PAGE, "/huge": HUGE}
    body = b"x" * sizes.get(environ["PATH_INFO"], 0) or str(os.getpid()).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


application.sender = lambda peer, forwarded: forwarded or peer  # type: ignore[attr-defined]
application.streams = lambda method, path: path == "/stream"  # type: ignore[attr-defined]


@pytest.fixture
def ended(tmp_path: Path) -> Path:
    """Return the file that a worker writes if it was not killed."""
    return tmp_path / "ended"


@pytest.fixture
def port(ended: Path, request: pytest.FixtureRequest) -> Generator[int]:
    seconds = {"GRACE": "2", "TAKEN_WITHIN": "2", **getattr(request, "param", {})}
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65_536)  # accepted sockets inherit it
        server = subprocess.Popen(
            [
                sys.executable, "-P", "-m", "gunicorn", "tests.portal.test_webworker:application",
                "--bind", f"fd://{listening.fileno()}", "--worker-class", "portal.webworker.Worker",
                "--workers", "1", "--threads", "4", "--worker-connections", str(PLACES), "--keep-alive", "600",
                "--graceful-timeout", "2", "--no-control-socket", "--log-level", "error", "-c", "python:portal.webserver",
            ],
            cwd=CHECKOUT, env={**os.environ, "PYTHONPATH": str(CHECKOUT), "ENDED": str(ended), **seconds}, pass_fds=[listening.fileno()],
        )  # fmt: skip
        with ExitStack() as silent:
            try:
                yield listening.getsockname()[1]
                for _ in range(3):
                    hold(silent, listening.getsockname()[1])
                    hold(silent, listening.getsockname()[1], "GET / HTTP/1.1")
            finally:
                server.terminate()
                assert server.wait(60) == 0
        assert ended.read_text() == "in peace"


def ask(port: int, path: str = "/") -> bytes:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=WITHIN)) as connection:
        connection.request("GET", path)
        return connection.getresponse().read()


def hold(stack: ExitStack, port: int, *lines: str) -> socket.socket:
    """Connect, send a request if there are lines, read the start of its answer, and never close."""
    held = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=WITHIN))
    if lines:
        held.sendall("\r\n".join([*lines, "Host: here", "", ""]).encode())
        assert held.recv(4096).startswith(b"HTTP/1.1 200")
    return held


def test_clients_that_do_not_close_keep_nobody_waiting(port: int) -> None:
    first = ask(port)
    with ExitStack() as stack:
        for _ in range(20):
            hold(stack, port, "GET / HTTP/1.1", "Connection: close")
        assert ask(port) == first


@pytest.mark.parametrize("lines", [("GET / HTTP/1.1",), ()])
def test_silent_connections_make_room(port: int, lines: tuple[str, ...]) -> None:
    first = ask(port)
    with ExitStack() as stack:
        for _ in range(2 * PLACES):
            hold(stack, port, *lines)
        assert ask(port) == first


def test_client_that_stops_within_a_head_is_cut(port: int) -> None:
    with ExitStack() as stack:
        half = [hold(stack, port) for _ in range(4)]  # one for each thread
        for client in half:
            client.sendall(b"GET / HTTP/1.1\r\nHost:")
            client.settimeout(60)
        assert {client.recv(4096) for client in half} == {b""}
    assert ask(port).isdigit()


@pytest.mark.parametrize(
    "lines", [("POST / HTTP/1.1", "Content-Length: 100"), ("GET /large HTTP/1.1",), ("GET /huge HTTP/1.1",)]
)
def test_client_that_sends_no_body_or_takes_no_answer_is_cut(port: int, lines: tuple[str, ...]) -> None:
    with ExitStack() as stack:
        for _ in range(4):  # one for each thread
            client = stack.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(("127.0.0.1", port))
            client.sendall("\r\n".join([*lines, "Host: here", "", ""]).encode())
        assert ask(port).isdigit()


@pytest.mark.parametrize("port", [{"TAKEN_WITHIN": "120"}], indirect=True)
@pytest.mark.parametrize("path", ["/large", "/huge"])
def test_clients_that_take_a_large_answer_slowly_leave_the_threads_to_others(port: int, path: str) -> None:
    """The clients keep reading a little, so only a minimum speed ends them."""
    with ExitStack() as stack:
        slow = [reader(stack, port, f"GET {path} HTTP/1.1") for _ in range(8)]  # two for each thread
        done = threading.Event()

        def take() -> None:
            while not done.wait(0.2):
                for client in slow:
                    with suppress(OSError):
                        client.recv(512, socket.MSG_DONTWAIT)

        taking = threading.Thread(target=take)
        taking.start()
        try:
            assert [ask(port).isdigit() for _ in range(10)] == [True] * 10
        finally:
            done.set()
            taking.join()


@pytest.mark.parametrize("port", [{"GRACE": "120", "TAKEN_WITHIN": "120"}], indirect=True)
def test_waiting_answers_are_bounded_at_the_cost_of_the_sender_with_most(port: int) -> None:
    with ExitStack() as stack:
        modest = reader(stack, port, "GET /page HTTP/1.1", "X-Forwarded-For: modest", "Connection: close")
        greedy = [
            reader(stack, port, "GET /large HTTP/1.1", "X-Forwarded-For: greedy", "Connection: close")
            for _ in range(12)
        ]
        assert ask(port).isdigit()
        taken = []
        for client in greedy:
            with suppress(ConnectionResetError):
                taken.append(everything(client))
        assert 0 < sum(len(one) > LARGE for one in taken) < len(greedy)
        assert everything(modest).endswith(b"x" * PAGE)


def reader(stack: ExitStack, port: int, *lines: str) -> socket.socket:
    """Send a request from a socket that holds little of the answer."""
    client = stack.enter_context(socket.socket())
    client.settimeout(WITHIN)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(("127.0.0.1", port))
    client.sendall("\r\n".join([*lines, "Host: here", "", ""]).encode())
    return client


def everything(client: socket.socket) -> bytes:
    return b"".join(iter(lambda: client.recv(65_536), b""))


def test_client_that_still_sends_gets_its_whole_answer(port: int) -> None:
    with ExitStack() as stack:
        client = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=WITHIN))
        client.sendall(b"GET /large HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n" + b"y" * 20_000)
        answer = b"".join(iter(lambda: client.recv(65_536), b""))
    assert answer.partition(b"\r\n\r\n")[2] == b"x" * LARGE


def test_client_that_never_stops_sending_is_cut(port: int) -> None:
    with ExitStack() as stack:
        client = hold(stack, port, "GET / HTTP/1.1", "Connection: close")
        with pytest.raises(OSError, match=r"reset|[Pp]ipe"):  # noqa: PT012 - whichever of them is the first to fail
            for _ in range(1_000_000):
                client.sendall(b"y" * 4096)


DRIPS = [
    "GET / HTTP/1.1\r\nHost: here\r\nX: ",
    "POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 1000\r\n\r\n",
]


@pytest.mark.parametrize(
    ("sent", "answered"), [*zip(DRIPS, [b"", b"HTTP/1.1 408"], strict=True)], ids=["head", "body"]
)
def test_client_that_drips_is_cut_as_one_that_is_silent(port: int, sent: str, answered: bytes) -> None:
    with ExitStack() as stack:
        client = hold(stack, port)
        client.sendall(sent.encode())
        assert drip(client) == answered


def test_streams_hold_a_part_of_the_threads_and_slow_ones_are_cut(port: int) -> None:
    """Two of four threads serve streams; a third sender is refused at once, and pages are answered."""
    sent = f"POST /stream HTTP/1.1\r\nHost: here\r\nContent-Length: {2**21}\r\n\r\n".encode()
    with ExitStack() as stack:
        streams = [hold(stack, port) for _ in range(2)]
        for client in streams:
            client.sendall(sent + bytes(2**18))
        third = hold(stack, port)
        third.sendall(sent)
        assert third.recv(12) == b"HTTP/1.1 503"
        assert ask(port).isdigit()
        for client in streams:
            assert drip(client) == b"HTTP/1.1 200"  # the application answers once the body is cut off


def test_large_body_is_refused_unread_where_none_is_taken(port: int) -> None:
    with ExitStack() as stack:
        client = hold(stack, port)
        client.sendall(
            f"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: {2**21}\r\n\r\n".encode() + bytes(2**21)
        )
        assert client.recv(12) == b"HTTP/1.1 413"


def drip(client: socket.socket) -> bytes:
    """Send a byte now and then, never silent for long, and return the beginning of the answer."""
    client.settimeout(0.1)
    for _ in range(600):
        with suppress(TimeoutError):
            return client.recv(12)
        client.sendall(b"a")
    raise AssertionError("never cut")


def test_client_that_takes_nothing_of_many_answers_holds_no_thread(port: int) -> None:
    """Each client requests far more pages than its socket can hold."""
    asked = b"GET /page HTTP/1.1\r\nHost: here\r\n\r\n" * 40
    with ExitStack() as stack:
        for _ in range(8):  # two for each thread
            client = stack.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(("127.0.0.1", port))
            client.sendall(asked)
        for _ in range(10):
            assert ask(port).isdigit()


def test_slow_client_gets_all_answers_in_their_order(port: int) -> None:
    asked = (
        b"GET /page HTTP/1.1\r\nHost: here\r\n\r\n" * 19
        + b"GET /page HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n"
    )
    with ExitStack() as stack:
        client = stack.enter_context(socket.socket())
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", port))
        client.sendall(asked)
        answered = b"".join(iter(lambda: client.recv(65_536), b""))
    assert answered.count(b"HTTP/1.1 200 OK") == 20
    assert answered.count(b"x" * PAGE) == 20


def test_connection_that_is_ended_while_its_bytes_are_waiting_does_not_end_the_worker(port: int) -> None:
    """The worker finds all these bytes in one turn; the new requests come first and push the old ones out."""
    drip = b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 1000\r\n\r\na"
    with ExitStack() as stack:
        old = [hold(stack, port) for _ in range(PLACES // webworker.UNFINISHED_SHARE)]
        for client in old:
            client.sendall(drip)
        new = [hold(stack, port) for _ in range(10)]
        worker = ask(port)
        os.kill(int(worker), signal.SIGSTOP)
        try:
            for client in new:
                client.sendall(drip)
            for client in old:
                client.sendall(b"a")
        finally:
            os.kill(int(worker), signal.SIGCONT)
        assert ask(port) == worker
