from __future__ import annotations

import pytest

from access_requests.addresses import plain_address, whole_network


@pytest.mark.parametrize(
    ("text", "plain", "network"),
    [
        ("192.0.2.7", "192.0.2.7", "192.0.2.7"),
        (" 192.0.2.7 ", "192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7", "192.0.2.7"),
        ("::ffff:c000:207", "192.0.2.7", "192.0.2.7"),
        ("2001:DB8::7", "2001:db8::7", "2001:db8::/64"),
        ("2001:db8::ffff:ffff:ffff:ffff", "2001:db8::ffff:ffff:ffff:ffff", "2001:db8::/64"),
        ("fe80::1%eth0", "fe80::1%eth0", "fe80::/64"),
        ("", None, ""),
        ("unknown", None, "unknown"),
        ("42", None, "42"),
        ("192.0.2.7/32", None, "192.0.2.7/32"),
    ],
)
def test_addresses_are_written_and_counted_in_one_way(text: str, plain: str | None, network: str) -> None:
    assert plain_address(text) == plain
    assert whole_network(text) == network
