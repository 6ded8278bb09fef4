"""Which addresses are public: each block of IANA's special-purpose registries, its first and last address and their
neighbours outside it."""

import ipaddress

import pytest

from airweave_server.sdk.context import Context
from airweave_server.sdk.guard import Deadline, Guard

# The block, and whether the address before and the one after it are public.
BLOCKS = [
    ("0.0.0.0/8", None, True),
    ("10.0.0.0/8", True, True),
    ("100.64.0.0/10", True, True),
    ("127.0.0.0/8", True, True),
    ("169.254.0.0/16", True, True),
    ("172.16.0.0/12", True, True),
    ("192.0.0.0/24", True, True),
    ("192.0.2.0/24", True, True),
    ("192.88.99.0/24", True, True),
    ("192.168.0.0/16", True, True),
    ("198.18.0.0/15", True, True),
    ("198.51.100.0/24", True, True),
    ("203.0.113.0/24", True, True),
    ("224.0.0.0/4", True, False),
    ("240.0.0.0/4", False, None),
    ("::/128", None, False),
    ("::1/128", False, False),
    ("::127.0.0.1/128", False, False),  # IPv4-compatible
    ("64:ff9b:1::/48", False, False),
    ("100::/64", False, False),
    ("100:0:0:1::/64", False, False),
    ("2001::/23", True, True),  # with Teredo, ORCHID, benchmarking
    ("2001:db8::/32", True, True),
    ("2002::/16", True, True),
    ("3fff::/20", True, True),
    ("4000::/3", True, False),  # not assigned, like all that follows
    ("5f00::/16", False, False),
    ("fc00::/7", False, False),
    ("fe80::/10", False, False),
    ("fec0::/10", False, False),
    ("ff00::/8", False, None),
]
INSIDE = [  # what has another address in it
    *("::ffff:127.0.0.1", "::ffff:10.1.2.3", "64:ff9b::10.0.0.1", "64:ff9b::169.254.169.254", "2002:a00:1::"),
    *("2001:0:4136:e378:8000:63bf:f5ff:fffe", "fe80::1%lo", "fe80::1%25", "::ffff:0:127.0.0.1"),
]
PUBLIC = ["8.8.8.8", "192.88.98.255", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8"]


def may_reach(address: str) -> bool:
    return Guard(Context(), Deadline())._may_reach(address)


@pytest.mark.parametrize(("text", "before", "after"), BLOCKS, ids=[block for block, _, _ in BLOCKS])
def test_no_address_of_a_special_block_is_public(text: str, before: bool | None, after: bool | None) -> None:
    block = ipaddress.ip_network(text)
    kind = type(block[0])
    assert not may_reach(str(block[0]))
    assert not may_reach(str(block[-1]))
    assert not may_reach(str(block[block.num_addresses // 2]))
    if before is not None:
        assert may_reach(str(kind(int(block[0]) - 1))) is before
    if after is not None:
        assert may_reach(str(kind(int(block[-1]) + 1))) is after


def test_an_address_inside_another_decides() -> None:
    assert [address for address in INSIDE if may_reach(address)] == []
    assert [address for address in PUBLIC if not may_reach(address)] == []
