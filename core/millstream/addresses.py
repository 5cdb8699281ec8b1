"""The addresses that routes lead to: whether one is of this machine alone, and how it is shown."""

import ipaddress
import socket
from collections.abc import Iterable
from urllib.parse import SplitResult, urlsplit

from millstream.eventlog.limits import route_key
from millstream_schemas.routes import Route


def machine_of(base: str | None) -> str:
    """Return this machine's name for an address that means another server on each machine.

    The empty text for any other address, and for none.
    """
    host = _parts(base).hostname or ""
    try:
        is_own = ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_own = host == "localhost"
    return socket.gethostname() if is_own else ""


def shown(base: str | None) -> str | None:
    """Return an address as anybody may see it: without a user, a password, a query or a fragment.

    None for none, and where no host can be told: such a text might be a secret.
    """
    parts = _parts(base)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}" if parts.scheme and host else None


def addresses_of(routes: Iterable[Route]) -> dict[str, str | None]:
    """Return where routes lead, by their keys, as far as it stands in the routes themselves.

    A node with a server of its own calls that one instead, under another key; so does a node of
    another machine where the address is the machine's own.
    """
    keys = {route_key(one, one.api_base, machine_of(one.api_base)): one for one in routes}
    return {key: shown(route.api_base) for key, route in keys.items()}


def _parts(base: str | None) -> SplitResult:
    try:
        return urlsplit(base or "")
    except ValueError:  # no address at all, which its call will say
        return urlsplit("")
