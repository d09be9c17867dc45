"""Open the portal's listening socket before anything else, so that a taken port is noticed at once."""

import errno
import socket

from portal.embedded.errors import Refused


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket, which the web server inherits and which outlives its restarts.

    Port 0 picks a free one.
    """
    if not 0 <= port <= 65535:  # the C library reads 65536 as 0
        raise Refused(f"{port} is not a port: give --port a number from 1 to 65535.")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError:
        raise Refused(f"There is no address {host}:{port} on this machine: give --host and --port.") from None
    opened = socket.socket(family, kind, protocol)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind(address)
        opened.listen(256)
    except OSError as error:
        opened.close()
        if error.errno == errno.EADDRINUSE:
            why = f"Port {port} on {host} is taken: stop what listens there, or choose another with --port."
        elif error.errno == errno.EACCES:
            why = f"Port {port} needs rights that you do not have here: choose one above 1023 with --port."
        else:
            why = f"Nothing can listen on {host}:{port} ({error.strerror}): give another --host or --port."
        raise Refused(why) from None
    return opened


def address_of(opened: socket.socket, host: str) -> str:
    """Return ``http://HOST:PORT`` with the actual port, and with an IPv6 address in brackets."""
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{opened.getsockname()[1]}"
