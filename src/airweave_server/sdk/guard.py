"""Network connections of the HTTP client: only to permitted addresses, and never longer than permitted."""

import ipaddress
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpcore

from .context import Context
from .errors import ConfigError

CONNECT_S = 5.0  # to one address
ADDRESSES = 3  # tried per host
POLL_S = 0.25  # how soon a waiting read notices that it should stop
MAX_WAIT_S = 3_600.0
# The blocks that the special-purpose registries of IANA (RFC 6890) call not globally reachable, those that stand for
# such a block or hide an address, and multicast. Not taken from ``ipaddress``, whose answer depends on its version.
PRIVATE = tuple(
    map(
        ipaddress.ip_network,
        (
            *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
            *("192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24"),
            *("203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
            *("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"),
        ),
    )
)
# Of IPv6 only this is assigned to hosts of the internet; it leaves out ::/8 (with ::1, ::ffff:0:0/96, 64:ff9b:1::/48),
# 100::/64, 5f00::/16, fc00::/7, fe80::/10, fec0::/10 and ff00::/8.
UNICAST = ipaddress.ip_network("2000::/3")
NAT64 = ipaddress.ip_network("64:ff9b::/96")

IP = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Deadline(threading.local):
    """When the response that this thread waits for must be complete, even if it trickles in."""

    at = float("inf")
    heeds_stop = True

    @contextmanager
    def in_force(self, total_s: float, *, heeds_stop: bool = True) -> Iterator[None]:
        """Set the deadline for this block. ``heeds_stop`` False: wait even if the engine asks the read to stop."""
        before = self.at, self.heeds_stop
        self.at, self.heeds_stop = time.monotonic() + total_s, heeds_stop
        try:
            yield
        finally:
            self.at, self.heeds_stop = before

    def check(self, context: Context) -> None:
        """Raise ``Stopped`` if the engine asks the read to stop, unless the block ignores that."""
        if self.heeds_stop:
            context.check()

    def left_s(self) -> float:
        return self.at - time.monotonic()


class Guard(httpcore.NetworkBackend):
    """Connects to public addresses, and to private ones that the operator allows.

    It connects to the very address it checked, so a name that resolves differently a moment later changes nothing.
    Certificates are still verified against the host name.
    """

    def __init__(self, context: Context, deadline: Deadline) -> None:
        self._context = context
        self._deadline = deadline
        self._backend = httpcore.SyncBackend()
        self._names = {name.lower().rstrip(".") for name in context.allowed_hosts}
        self._networks = [network for name in context.allowed_hosts if (network := _network(name)) is not None]

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Any = None,
    ) -> httpcore.NetworkStream:
        trouble: Exception = httpcore.ConnectError("no address")
        for address in self.resolve(host, port)[:ADDRESSES]:
            self._deadline.check(self._context)
            timeout_s = max(0.001, min(timeout or CONNECT_S, CONNECT_S, self._deadline.left_s()))
            try:
                stream = self._backend.connect_tcp(address, port, timeout_s, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                trouble = error
            else:
                return _Stream(stream, self._context, self._deadline)
        raise trouble

    def resolve(self, host: str, port: int) -> list[str]:
        """Resolve a host. Raises ``ConfigError`` if any of its addresses is forbidden, ``httpcore.ConnectError`` if it
        does not resolve."""
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            raise httpcore.ConnectError("does not resolve") from None
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        is_allowed = host.lower().rstrip(".") in self._names
        if not is_allowed and not all(map(self._may_reach, addresses)):
            raise ConfigError(
                f"{host} is not a public address; the operator of this server can allow it with ALLOWED_PRIVATE_HOSTS"
            )
        return addresses

    def _may_reach(self, address: str) -> bool:
        ip = _unmap(ipaddress.ip_address(address.split("%")[0]))
        return _is_public(ip) or any(ip in network for network in self._networks)


class _Stream(httpcore.NetworkStream):
    """A connection on which no wait outlasts the deadline or a request to stop."""

    def __init__(self, stream: httpcore.NetworkStream, context: Context, deadline: Deadline) -> None:
        self._stream = stream
        self._context = context
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        ends = time.monotonic() + self._within(timeout)
        while True:
            self._deadline.check(self._context)
            left_s = ends - time.monotonic()
            if left_s <= 0:
                raise httpcore.ReadTimeout("no answer in time")
            try:
                return self._stream.read(max_bytes, min(left_s, POLL_S))
            except httpcore.ReadTimeout:
                continue

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._within(timeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        stream = self._stream.start_tls(ssl_context, server_hostname, self._within(timeout))
        return _Stream(stream, self._context, self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)

    def _within(self, timeout: float | None) -> float:
        return max(0.001, min(float("inf") if timeout is None else timeout, self._deadline.left_s(), MAX_WAIT_S))


def _network(text: str) -> Network | None:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None


def _unmap(ip: IP) -> IP:
    """The IPv4 address that an IPv6 address stands for, if it stands for one."""
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return ip.ipv4_mapped
        if ip in NAT64:
            return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip


def _is_public(ip: IP) -> bool:
    return (ip.version == 4 or ip in UNICAST) and not any(ip in block for block in PRIVATE)
