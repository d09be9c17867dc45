"""Limit tokens to networks, in CIDR notation, IPv4 and IPv6."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable

from django.utils.translation import gettext as _

from access_requests.errors import Invalid

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
MOST_NETWORKS = 50


def read_networks(text: str) -> list[str]:
    """Return typed networks, separated by commas, spaces or lines, as CIDR; ranges become networks."""
    joined = re.sub(r"\s*-\s*", "-", text)
    return check_networks(part for part in re.split(r"[\s,;]+", joined) if part)


def check_networks(parts: Iterable[str]) -> list[str]:
    """Return networks, addresses and ranges as sorted CIDR, without those inside others. Raises `Invalid`."""
    found: list[Network] = [network for part in parts for network in _networks_of_part(part)]
    merged: list[Network] = [
        *ipaddress.collapse_addresses(n for n in found if isinstance(n, ipaddress.IPv4Network)),
        *ipaddress.collapse_addresses(n for n in found if isinstance(n, ipaddress.IPv6Network)),
    ]
    if len(merged) > MOST_NETWORKS:
        raise Invalid(
            _("That makes %(number)s networks, and a token has %(most)s at most: name wider ones.")
            % {"number": len(merged), "most": MOST_NETWORKS},
            field="networks",
        )
    return [str(network) for network in merged]


def _networks_of_part(part: str) -> list[Network]:
    first, dash, last = part.partition("-")
    try:
        if dash:
            return _networks_between(_read_address(first), _read_address(last))
        address, slash, _length = part.partition("/")
        _read_address(address)
        return [ipaddress.ip_network(part if slash else address)]
    except ValueError as error:
        reason = str(error)
        if "host bits" in reason:
            network = ipaddress.ip_network(part, strict=False)
            reason = _("it has more than its network's part, which is %(network)s") % {"network": network}
        elif isinstance(error, ipaddress.AddressValueError) or "appear" in reason:
            reason = ""
        sentence = (
            _(
                "%(part)r is no network (%(reason)s): write networks like 192.0.2.0/24 or 2001:db8::/32, "
                "addresses, or ranges like 192.0.2.10-192.0.2.20."
            )
            if reason
            else _(
                "%(part)r is no network: write networks like 192.0.2.0/24 or 2001:db8::/32, "
                "addresses, or ranges like 192.0.2.10-192.0.2.20."
            )
        )
        raise Invalid(sentence % {"part": part[:80], "reason": reason}, field="networks") from error


def _read_address(text: str) -> Address:
    address = ipaddress.ip_address(text)
    if isinstance(address, ipaddress.IPv6Address) and (address.scope_id or address.ipv4_mapped):
        raise ValueError(_("write it without a zone, and IPv4 as IPv4"))
    return address


def _networks_between(first: Address, last: Address) -> list[Network]:
    if isinstance(first, ipaddress.IPv4Address) and isinstance(last, ipaddress.IPv4Address):
        return list(ipaddress.summarize_address_range(first, last))
    if isinstance(first, ipaddress.IPv6Address) and isinstance(last, ipaddress.IPv6Address):
        return list(ipaddress.summarize_address_range(first, last))
    raise ValueError(_("both ends must be IPv4 or both IPv6"))


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
