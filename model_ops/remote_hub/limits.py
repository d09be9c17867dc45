"""Limit where huggingface_hub's requests may go: the Hub itself and the hosts on which it keeps files.

No Django: the child process that fetches uses it too. A redirect is checked like any other request, as it is
sent: its host against a table, and the address behind the name before connecting. The token goes only to the
Hub. If a proxy makes the connections, only the table applies, since the proxy resolves names.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import threading
import urllib.request
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any

import httpcore2
import httpx2

MOST_REDIRECTS = 5
MOST_POOLS = 8  # Hubs to which connections are kept open
# Where Hubs keep files, as seen in redirects: cdn-lfs*.huggingface.co, cas-bridge.xethub.hf.co and others.
KNOWN_HOSTS = {"https://huggingface.co": (".huggingface.co", ".hf.co")}
NAT64 = ipaddress.ip_network("64:ff9b::/96")
PORTS = {"http": 80, "https": 443}
SECRETS = ("authorization", "cookie", "proxy-authorization")


class LedElsewhere(httpx2.UnsupportedProtocol):
    """A request or redirect to a forbidden address; the message is the end of a sentence."""


@dataclass(frozen=True)
class Limits:
    """The Hub's address and hosts it may redirect to: `host`, `host:port`, or `.domain` for all below it."""

    endpoint: httpx2.URL
    hosts: tuple[str, ...] = ()

    def is_hub(self, url: httpx2.URL) -> bool:
        """Return whether an address belongs to the Hub: same scheme, host and port."""
        return _url_origin(url) == _url_origin(self.endpoint)

    def check(self, url: httpx2.URL) -> None:
        """Refuse an address that is neither on the Hub nor on a host that it may redirect to."""
        if self.is_hub(url):
            return
        if url.scheme != "https" and not (url.scheme == "http" and self.endpoint.scheme == "http"):
            raise LedElsewhere(f"it redirects to {_shown_url(url)}, without encryption")
        if url.userinfo or not any(_is_named_by(host, url) for host in self.hosts):
            raise LedElsewhere(f"it redirects to {_shown_url(url)}, another host than its own")


_LIMITS: ContextVar[Limits | None] = ContextVar("limits", default=None)
_of_process: list[Limits] = []
_installing = threading.Lock()


@contextlib.contextmanager
def limited_to(endpoint: str, redirects: Iterable[str] = ()) -> Iterator[None]:
    """Limit huggingface_hub's requests in this thread; `redirects` are more hosts, named by the operator."""
    _install_client()
    token = _LIMITS.set(limits_of(endpoint, redirects))
    try:
        yield
    finally:
        _LIMITS.reset(token)


def limit_process(endpoint: str, redirects: Iterable[str] = ()) -> None:
    """Limit huggingface_hub's requests in every thread of this process from now on."""
    _install_client()
    _of_process[:] = [limits_of(endpoint, redirects)]


def limits_of(endpoint: str, redirects: Iterable[str] = ()) -> Limits:
    """Return the limits for a Hub."""
    return Limits(httpx2.URL(endpoint), (*KNOWN_HOSTS.get(endpoint.rstrip("/"), ()), *redirects))


def _is_named_by(host: str, url: httpx2.URL) -> bool:
    """Return whether an entry of the table matches the address: whole labels are compared, and the port."""
    name, _, port = host.lower().partition(":")
    if url.port not in {None, int(port or PORTS[url.scheme])}:
        return False
    if port and url.port is None and int(port) != PORTS[url.scheme]:
        return False
    asked = url.host.lower()
    return asked.endswith(name) and len(asked) > len(name) if name.startswith(".") else asked == name


def _join_redirect(url: httpx2.URL, location: str) -> httpx2.URL:
    """Return the address of a redirect, which huggingface_hub may use later instead of following it now."""
    try:
        return url.join(location)
    except (httpx2.InvalidURL, ValueError) as error:
        raise LedElsewhere("it redirects to something that is no address") from error


def _url_origin(url: httpx2.URL) -> tuple[str, str, int]:
    return url.scheme, url.host.lower().rstrip("."), url.port or PORTS.get(url.scheme, 0)


def _shown_url(url: httpx2.URL) -> str:
    port = f":{url.port}" if url.port else ""
    return f"{url.scheme[:10]}://{url.host[:100]}{port}"


def _install_client() -> None:
    """Make huggingface_hub send its requests through `LimitedTransport`; without limits nothing changes."""
    import huggingface_hub
    from huggingface_hub import constants
    from huggingface_hub.utils import _http

    with _installing:
        if _http._GLOBAL_CLIENT_FACTORY is not _make_client:
            huggingface_hub.set_client_factory(_make_client)
    constants.HF_HUB_DISABLE_XET = True  # its own Rust client does not apply these limits


def _make_client() -> httpx2.Client:
    from huggingface_hub.utils._http import hf_request_event_hook

    return httpx2.Client(
        transport=LimitedTransport(),
        event_hooks={"request": [hf_request_event_hook]},
        follow_redirects=True,
        max_redirects=MOST_REDIRECTS,
        timeout=None,
    )


class LimitedTransport(httpx2.BaseTransport):
    """A transport that sends a request only if the limits of its thread or process allow its address."""

    def __init__(self) -> None:
        self._plain = httpx2.HTTPTransport()
        self._proxied: dict[str, httpx2.HTTPTransport] = {}
        self._pools: dict[Limits, httpcore2.ConnectionPool] = {}
        self._making = threading.Lock()

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send one request; raise `LedElsewhere` before anything is sent to a forbidden address."""
        limits = _LIMITS.get() or next(iter(_of_process), None)
        if limits is not None:
            limits.check(request.url)
            if not limits.is_hub(request.url):
                for name in SECRETS:
                    request.headers.pop(name, None)
        proxies = urllib.request.getproxies_environment()
        proxy = proxies.get(request.url.scheme) or proxies.get("all") or ""
        if proxy and not urllib.request.proxy_bypass_environment(request.url.netloc.decode(), proxies):  # type: ignore[attr-defined]
            with self._making:
                if proxy not in self._proxied:
                    self._proxied[proxy] = httpx2.HTTPTransport(proxy=proxy)
            answer = self._proxied[proxy].handle_request(request)
        elif limits is not None:
            answer = _send_through(self._pool_for(limits), request)
        else:
            answer = self._plain.handle_request(request)
        if limits is not None and 300 <= answer.status_code < 400 and "location" in answer.headers:
            try:
                limits.check(_join_redirect(request.url, answer.headers["location"]))
            except LedElsewhere:
                answer.close()
                raise
        return answer

    def _pool_for(self, limits: Limits) -> httpcore2.ConnectionPool:
        with self._making:
            if limits not in self._pools:
                if len(self._pools) >= MOST_POOLS:
                    self._pools.pop(next(iter(self._pools))).close()
                self._pools[limits] = httpcore2.ConnectionPool(
                    ssl_context=httpx2.create_ssl_context(),
                    max_connections=100,
                    keepalive_expiry=5,
                    network_backend=PublicOnly(limits),
                )
            return self._pools[limits]

    def close(self) -> None:
        """Close every connection."""
        for transport in (self._plain, *self._proxied.values()):
            transport.close()
        for pool in self._pools.values():
            pool.close()


class PublicOnly(httpcore2.NetworkBackend):
    """A network backend that connects to hosts other than the Hub only at public addresses.

    If the Hub itself has a private address, all addresses are allowed. It connects to the very address that
    it checked, so a name that changes in between gains nothing.
    """

    def __init__(self, limits: Limits) -> None:
        self._hub = limits.endpoint
        self._backend = httpcore2.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.NetworkStream:
        """Connect to the first address that answers; `timeout` is in seconds, for each address."""
        connect = partial(
            self._backend.connect_tcp,
            port=port,
            timeout=timeout,
            local_address=local_address,
            socket_options=socket_options,
        )
        if host.lower() == self._hub.host.lower():
            return connect(host)
        addresses = _find_addresses(host, port)
        if not all(map(_is_public, addresses)) and all(
            map(_is_public, _find_addresses(self._hub.host, port))
        ):
            raise LedElsewhere(f"it redirects to {host[:100]}, which is in a private network")
        failure: Exception = httpcore2.ConnectError(f"{host} has no address")
        for address in addresses:
            try:
                return connect(address)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                failure = error
        raise failure


def _find_addresses(host: str, port: int) -> list[str]:
    """Return the distinct IP addresses of a name."""
    try:
        found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise httpcore2.ConnectError(str(error)) from error
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def _is_public(address: str) -> bool:
    """Return whether an address is on the internet; for an IPv6 address with an IPv4 address inside, check the latter."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        carried = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        ip = carried or ip
        if ip in NAT64:
            ip = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.is_global and not ip.is_multicast


class _Stream(httpx2.SyncByteStream):
    """The body of a response, with errors of the client's own classes."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __iter__(self) -> Iterator[bytes]:
        with _as_client_errors():
            yield from self._stream

    def close(self) -> None:
        self._stream.close()


def _send_through(pool: httpcore2.ConnectionPool, request: httpx2.Request) -> httpx2.Response:
    url = request.url
    asked = httpcore2.Request(
        method=request.method,
        url=httpcore2.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
        headers=request.headers.raw,
        content=request.stream,
        extensions=request.extensions,
    )
    with _as_client_errors():
        answer = pool.handle_request(asked)
    return httpx2.Response(
        status_code=answer.status,
        headers=answer.headers,
        stream=_Stream(answer.stream),
        extensions=answer.extensions,
    )


@contextlib.contextmanager
def _as_client_errors() -> Iterator[None]:
    """Convert errors of httpcore2 to those of httpx2 with the same name, which huggingface_hub retries."""
    try:
        yield
    except httpx2.HTTPError:
        raise
    except Exception as error:
        same = (
            getattr(httpx2, type(error).__name__, None)
            if type(error).__module__.startswith("httpcore2")
            else None
        )
        if same is None:
            raise
        raise same(str(error)) from error
