"""Checks for public addresses, and a resolver that returns no others."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Final

from aiohttp.abc import AbstractResolver
from aiohttp.resolver import ThreadedResolver

if TYPE_CHECKING:
    import socket
    from collections.abc import Collection

    from aiohttp.abc import ResolveResult

# RFC 4291: the internet uses 2000::/3. Addresses outside (site-local, IPv4-compatible, IPv4-translated,
# multicast, segment routing) are in private networks.
GLOBAL_UNICAST: Final = ipaddress.IPv6Network("2000::/3")
TUNNELS: Final = (
    ipaddress.IPv6Network("2002::/16"),  # 6to4 contains an IPv4 address, RFC 3056
    ipaddress.IPv6Network("2001::/32"),  # Teredo contains two, RFC 4380
    ipaddress.IPv6Network("3fff::/20"),  # documentation, RFC 9637
)
NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")  # how IPv6-only clusters reach IPv4 servers, RFC 6052
PROTOCOL_ASSIGNMENTS: Final = ipaddress.IPv4Network("192.0.0.0/24")  # RFC 6890


class PrivateAddress(OSError):
    """A name resolves to a private address."""


class PublicResolver(AbstractResolver):
    """Resolves names and refuses addresses that are not public; `private_hosts` are allowed by name."""

    def __init__(self, private_hosts: Collection[str], inner: AbstractResolver | None = None) -> None:
        self._inner, self._private_hosts = inner or ThreadedResolver(), frozenset(private_hosts)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily | int = 0
    ) -> list[ResolveResult]:
        """Return the addresses of `host`. Raises PrivateAddress when one is not public."""
        found = await self._inner.resolve(host, port, family)  # type: ignore[arg-type]
        if host.lower() not in self._private_hosts:
            for address in found:
                refuse_private(address["host"], host)
        return found

    async def close(self) -> None:
        await self._inner.close()


def refuse_private(address: str, host: str) -> None:
    """Raise PrivateAddress unless `address` is public."""
    if not _is_public(ipaddress.ip_address(address.partition("%")[0])):
        raise PrivateAddress(f"{host} is the address {address} inside a private network")


def _is_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    if isinstance(address, ipaddress.IPv4Address):
        return address.is_global and not address.is_multicast and address not in PROTOCOL_ASSIGNMENTS
    if inner := _carried(address):
        return _is_public(inner)
    return (
        address in GLOBAL_UNICAST and address.is_global and not any(address in tunnel for tunnel in TUNNELS)
    )


def _carried(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """Return the IPv4 address that an IPv6 address represents, if any."""
    if address in NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped
