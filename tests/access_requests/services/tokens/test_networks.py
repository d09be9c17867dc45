from __future__ import annotations

import pytest

from access_requests.errors import Invalid
from access_requests.services.tokens.networks import MOST_NETWORKS, read_networks, works_from


@pytest.mark.parametrize(
    ("text", "networks"),
    [
        ("", []),
        (" ,\n; ", []),
        ("192.0.2.7", ["192.0.2.7/32"]),
        ("2001:DB8::7", ["2001:db8::7/128"]),
        ("10.0.0.0/8 2001:db8::/32", ["10.0.0.0/8", "2001:db8::/32"]),
        ("10.0.0.0/255.0.0.0", ["10.0.0.0/8"]),
        ("192.0.2.0/25,192.0.2.128/25", ["192.0.2.0/24"]),
        ("192.0.2.7, 192.0.2.0/24", ["192.0.2.0/24"]),
        ("192.0.2.10-192.0.2.12", ["192.0.2.10/31", "192.0.2.12/32"]),
        ("192.0.2.10 - 192.0.2.11", ["192.0.2.10/31"]),
        ("2001:db8::-2001:db8::1", ["2001:db8::/127"]),
        ("0.0.0.0/0", ["0.0.0.0/0"]),
    ],
)
def test_networks_are_read_as_cidr(text: str, networks: list[str]) -> None:
    assert read_networks(text) == networks


@pytest.mark.parametrize(
    "text",
    [
        "example.org",
        "10.0.0",
        "010.0.0.1",
        "10.0.0.0/33",
        "10.1.0.0/8",
        "10.0.0.0/-1",
        "192.0.2.12-192.0.2.10",
        "192.0.2.1-2001:db8::1",
        "192.0.2.1-",
        "fe80::1%eth0",
        "::ffff:10.0.0.1",
        "::ffff:10.0.0.0/104",
        "1",
        "٣.0.0.1",
        "10.0.0.1\0",
        "*",
    ],
)
def test_what_is_no_network_is_refused_in_one_sentence(text: str) -> None:
    with pytest.raises(Invalid, match=r"is no network.*: write networks like") as refused:
        read_networks(text)
    assert refused.value.field == "networks"


def test_number_of_networks_is_bounded() -> None:
    most = " ".join(f"10.0.{number}.1" for number in range(MOST_NETWORKS))
    assert len(read_networks(most)) == MOST_NETWORKS
    with pytest.raises(Invalid, match="at most"):
        read_networks(f"{most} 10.1.0.1")
    with pytest.raises(Invalid, match="at most"):
        read_networks("::1-ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe")


@pytest.mark.parametrize(
    ("networks", "address", "works"),
    [
        ([], None, True),
        ([], "203.0.113.9", True),
        (["192.0.2.0/24"], "192.0.2.255", True),
        (["192.0.2.0/24"], "192.0.3.0", False),
        (["192.0.2.0/24"], "::ffff:192.0.2.7", True),
        (["192.0.2.0/24"], "::192.0.2.7", False),
        (["192.0.2.0/24"], None, False),
        (["192.0.2.0/24"], "", False),
        (["192.0.2.0/24"], "unix:", False),
        (["2001:db8::/32"], "2001:db8:ffff::1", True),
        (["2001:db8::/32"], "192.0.2.7", False),
        (["0.0.0.0/0"], "2001:db8::1", False),
        (["10.0.0.0/8", "2001:db8::/32"], "2001:db8::1", True),
    ],
)
def test_address_is_inside_or_outside(networks: list[str], address: str | None, works: bool) -> None:
    assert works_from(networks, address) is works
