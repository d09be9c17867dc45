"""Clients' addresses, written and counted in one way everywhere."""

from __future__ import annotations

import ipaddress


def plain_address(text: str) -> str | None:
    """Return an address as text, None where it is none. IPv4 in IPv6, as a socket for both says it, is the IPv4 address."""
    try:
        address = ipaddress.ip_address(text.strip())
    except ValueError:
        return None
    return str(getattr(address, "ipv4_mapped", None) or address)


def whole_network(text: str) -> str:
    """Return the sender that an address is counted for: of IPv6 its /64, all of which one household or server has.

    Text that is no address is returned as it is.
    """
    address = plain_address(text)
    if address is None:
        return text
    if ":" not in address:
        return address
    return str(ipaddress.ip_network((address.partition("%")[0], 64), strict=False))
