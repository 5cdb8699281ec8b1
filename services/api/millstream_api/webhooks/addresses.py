"""Which addresses may be told: none inside the network that the API stands in, unless allowed.

A name is judged by the addresses that it leads to at the moment of each connection, so a name
that is pointed elsewhere after it was checked leads nowhere either.
"""

import ipaddress
import socket
from urllib.parse import urlsplit

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

from millstream.errors import UsageError

PRIVATE_SETTING = "MILLSTREAM_WEBHOOK_PRIVATE"
_NAT64 = ipaddress.ip_network("64:ff9b::/96")

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class PrivateAddressError(OSError):
    """A name leads to addresses of which none may be told; an OSError, as a resolver raises."""


class PublicResolver(AbstractResolver):
    """Resolves names to the public addresses among theirs."""

    def __init__(self) -> None:
        self._names = ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return where ``host`` is.

        Raises:
            PrivateAddressError: all of its addresses are private.
        """
        found = await self._names.resolve(host, port, family)
        public = [one for one in found if is_public(one["host"])]
        if found and not public:
            raise PrivateAddressError(f"{host} leads to {found[0]['host']}, {_refused()}")
        return public

    async def close(self) -> None:
        """Let go of nothing: it holds nothing."""
        await self._names.close()


def is_public(address: str) -> bool:
    """Tell whether an address is one of the internet's, and not one within another's clothes."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    return all(one.is_global and not one.is_multicast for one in _within(found))


def _within(address: _Address) -> list[_Address]:
    """Return an address and the IPv4 addresses that it stands for."""
    if isinstance(address, ipaddress.IPv4Address):
        return [address]
    inner: list[_Address] = []
    if address.ipv4_mapped is not None:
        return [address.ipv4_mapped]
    if address in _NAT64:
        inner.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    if address.sixtofour is not None:
        inner.append(address.sixtofour)
    if address.teredo is not None:
        inner.extend(address.teredo)
    return [address, *inner]


def check_url(url: str, *, may_be_private: bool) -> str:
    """Return ``url`` as it came.

    Raises:
        UsageError: it is no address that can be told; says what to give instead.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise _wrong(url, f"is no address ({error})") from error
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise _wrong(url, "is no http(s) address")
    if not url.isascii() or not url.isprintable() or " " in url:
        raise _wrong(url, "has characters that no address has")
    if parts.username is not None or parts.password is not None:
        raise UsageError(
            "url holds a name or a password; leave it out: the signature tells who sends",
            field="url",
        )
    if parts.fragment or port == 0:
        raise _wrong(url, "has a fragment or the port 0")
    if not may_be_private and _is_private_literal(parts.hostname):
        raise UsageError(f"url leads to {parts.hostname}, {_refused()}", field="url", value=url)
    return url


def _is_private_literal(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return not is_public(host)


def _refused() -> str:
    return (
        "an address of a private network; give a public one, or start the APIs with "
        f"{PRIVATE_SETTING}=true"
    )


def _wrong(url: str, why: str) -> UsageError:
    return UsageError(
        f"url={url[:200]!r} {why}; give one such as https://example.org/millstream",
        field="url",
        value=url,
    )
