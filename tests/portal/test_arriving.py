from __future__ import annotations

import socket

import pytest
from gunicorn.config import Config
from gunicorn.http.errors import InvalidHeader, InvalidRequestLine, LimitRequestHeaders

from portal import arriving
from portal.arriving import FLOOR, GRACE, HEAD_WITHIN, LONGEST_HEAD, WINDOW, Arriving, Line

HEAD = b"POST /a HTTP/1.1\r\nHost: here\r\nContent-Length: 4\r\n\r\n"


def begun(*pieces: bytes) -> Arriving:
    """Return a request of which these pieces have arrived at time 0."""
    request = Arriving(Config(), ("192.0.2.1", 1), now=0.0)
    for piece in pieces:
        request.feed(piece, now=0.0)
    return request


@pytest.mark.parametrize("size", [1, 3, 7, 1000])
def test_request_in_pieces_is_complete_with_its_last_byte(size: int) -> None:
    sent = HEAD + b"abcd"
    pieces = [sent[start : start + size] for start in range(0, len(sent), size)]
    assert not begun(*pieces[:-1]).complete
    request = begun(*pieces)
    assert (request.complete, request.sender, request.length) == (True, "192.0.2.1", 4)
    parser = request.hand_over()
    assert next(parser).body.read() == b"abcd"
    assert parser.unreader.take_buffered() == b""


def test_next_request_is_kept_whole() -> None:
    parser = begun(HEAD + b"abcd" + HEAD[:10]).hand_over()
    next(parser)
    assert parser.finish_body()
    assert parser.unreader.take_buffered() == HEAD[:10]


def test_complete_request_never_waits_for_its_client() -> None:
    request = begun(b"POST /a HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n")
    assert (request.is_chunked, request.complete) == (True, True)
    with pytest.raises(Exception, match=r"."):
        next(request.hand_over()).body.read()


@pytest.mark.parametrize(
    ("sent", "error"),
    [
        (b"GET / HTTP/1.1\nHost: here\r\n", InvalidRequestLine),
        (b"GET / HTTP/1.1\r\nHost: here\n", InvalidHeader),
        (b"GET / HTTP/1.1\r\nHost: here\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", InvalidHeader),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * LONGEST_HEAD, LimitRequestHeaders),
    ],
)
def test_head_that_cannot_be_read_is_answered_and_not_waited_for(sent: bytes, error: type[Exception]) -> None:
    request = begun(sent)
    assert request.complete
    with pytest.raises(error):
        next(request.hand_over())


@pytest.mark.parametrize(
    ("pieces", "limit"),
    [((HEAD[:20],), HEAD_WITHIN), ((HEAD,), GRACE), ((HEAD, b"abc"), GRACE + 3 / FLOOR)],
    ids=["head", "no body", "body"],
)
def test_slow_request_is_late_whether_or_not_bytes_come(pieces: tuple[bytes, ...], limit: float) -> None:
    request = begun(*pieces)
    assert [request.is_late(limit - 0.001), request.is_late(limit + 0.001)] == [False, True]


def test_stream_is_slow_below_its_floor_and_not_above(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = socket.socketpair()
    clock = [0.0]
    monkeypatch.setattr(arriving.time, "monotonic", lambda: clock[0])
    with ours, theirs:
        line = Line()
        line.sock = ours
        found = []
        for size in (int(WINDOW * FLOOR), 10):
            line.waited += WINDOW
            left = size
            while left:
                theirs.sendall(bytes(min(left, 2**14)))
                left -= len(line.chunk(min(left, 2**14)))
            found.append(line.is_slow(clock[0]))
        assert found == [False, True]
        line.since = 0.0  # is waiting now, and has been for a whole window
        clock[0] = WINDOW
        assert line.is_slow(clock[0])
