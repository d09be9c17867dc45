"""Limit tokens to networks, as CIDR, IPv4 and IPv6."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable

from access_requests.errors import Invalid

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
MOST_NETWORKS = 50
EXAMPLES = (
    "write networks like 192.0.2.0/24 or 2001:db8::/32, addresses, or ranges like 192.0.2.10-192.0.2.20"
)


def read_networks(text: str) -> list[str]:
    """Return networks that a person typed, separated by commas, blanks or lines, as CIDR; ranges become networks."""
    joined = re.sub(r"\s*-\s*", "-", text)
    return check_networks(part for part in re.split(r"[\s,;]+", joined) if part)


def check_networks(parts: Iterable[str]) -> list[str]:
    """Return networks, addresses and ranges as sorted CIDR, without ones inside others. Raises `Invalid`."""
    found: list[Network] = [network for part in parts for network in _networks(part)]
    merged: list[Network] = [
        *ipaddress.collapse_addresses(n for n in found if isinstance(n, ipaddress.IPv4Network)),
        *ipaddress.collapse_addresses(n for n in found if isinstance(n, ipaddress.IPv6Network)),
    ]
    if len(merged) > MOST_NETWORKS:
        raise Invalid(
            f"That makes {len(merged)} networks, and a token has {MOST_NETWORKS} at most: name wider ones.",
            field="networks",
        )
    return [str(network) for network in merged]


def _networks(part: str) -> list[Network]:
    first, dash, last = part.partition("-")
    try:
        if dash:
            return _range(_address(first), _address(last))
        address, slash, _ = part.partition("/")
        _address(address)
        return [ipaddress.ip_network(part if slash else address)]
    except ValueError as error:
        raise Invalid(
            f"{part[:80]!r} is no network{_why(part, error)}: {EXAMPLES}.", field="networks"
        ) from error


def _why(part: str, error: ValueError) -> str:
    """Return the reason in brackets, if there is one."""
    if "host bits" in str(error):
        return f" (it has more than its network's part, which is {ipaddress.ip_network(part, strict=False)})"
    return "" if isinstance(error, ipaddress.AddressValueError) or "appear" in str(error) else f" ({error})"


def _address(text: str) -> Address:
    address = ipaddress.ip_address(text)
    if isinstance(address, ipaddress.IPv6Address) and (address.scope_id or address.ipv4_mapped):
        raise ValueError("write it without a zone, and IPv4 as IPv4")
    return address


def _range(first: Address, last: Address) -> list[Network]:
    if isinstance(first, ipaddress.IPv4Address) and isinstance(last, ipaddress.IPv4Address):
        return list(ipaddress.summarize_address_range(first, last))
    if isinstance(first, ipaddress.IPv6Address) and isinstance(last, ipaddress.IPv6Address):
        return list(ipaddress.summarize_address_range(first, last))
    raise ValueError("both ends must be IPv4 or both IPv6")


def works_from(networks: Iterable[str], address: str | None) -> bool:
    """Return whether an address is in one of the networks, or there are none. An unknown address is in no network."""
    allowed = [ipaddress.ip_network(network) for network in networks]
    if not allowed:
        return True
    try:
        sent_from = ipaddress.ip_address(address or "")
    except ValueError:
        return False
    if isinstance(sent_from, ipaddress.IPv6Address) and sent_from.ipv4_mapped:
        sent_from = sent_from.ipv4_mapped
    return any(sent_from in network for network in allowed)
