"""The address of the client of a request, also behind trusted proxies."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Network = IPv4Network | IPv6Network


def read_networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """Parse addresses and ranges as networks. Raises ValueError naming an invalid one."""
    return tuple(ip_network(text, strict=False) for text in texts)


def origin_of(url: str) -> str:
    """Return the origin of a URL as browsers write it: scheme, host and port."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}".lower()


def client_address(peer: str | None, forwarded_for: Sequence[str], trusted: Sequence[Network]) -> str | None:
    """Return the nearest address that is not a trusted proxy; None when there is none.

    `forwarded_for` holds the values of X-Forwarded-For in order. A client can write anything into that
    header: it is read from its end, and only as far as trusted proxies have written it.
    """
    hops = [hop.strip() for value in forwarded_for for hop in value.split(",")]
    address = peer
    while hops and address is not None and _is_trusted(address, trusted):
        address = hops.pop()
    return address if address is not None and _is_address(address) else None


def _is_trusted(address: str, trusted: Sequence[Network]) -> bool:
    return _is_address(address) and any(ip_address(address) in network for network in trusted)


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
