"""Write clients' addresses in one spelling, and find the network that each is counted for."""

from __future__ import annotations

import ipaddress


def plain_address(text: str) -> str | None:
    """Return an IP address in its usual spelling, or None; IPv4-mapped IPv6 becomes IPv4."""
    try:
        address = ipaddress.ip_address(text.strip())
    except ValueError:
        return None
    return str(getattr(address, "ipv4_mapped", None) or address)


def whole_network(text: str) -> str:
    """Return what an address is counted as: for IPv6 its /64, since one household or server has all of it.

    Text that is not an address is returned as it is.
    """
    address = plain_address(text)
    if address is None:
        return text
    if ":" not in address:
        return address
    return str(ipaddress.ip_network((address.partition("%")[0], 64), strict=False))
