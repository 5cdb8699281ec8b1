"""Whether an API base can be called, and may stand in the log, which keeps it for ever."""

import ipaddress
import re
from functools import lru_cache
from urllib.parse import SplitResult, urlsplit

EXAMPLE = "http://10.0.0.5:8000/v1"
_LABEL = re.compile(r"[A-Za-z0-9_-]{1,63}")
_HOST_MOST = 253
KEPT_ELSEWHERE = (
    "put a key into an environment variable and name that one with api_key_env, and what else "
    "the endpoint takes into parameters"
)


@lru_cache(maxsize=256)
def unreachable(field: str, base: str) -> str:
    """Return why no call can get to ``base``, with the remedy; empty when one may.

    What may hold a secret is not repeated.
    """
    told = f"{field} (not shown)" if set(base) & set("@?#") else f"{field}={base[:200]!r}"
    if not base.strip():
        return f"{told} names no address; write one such as {EXAMPLE}, or leave the field out"
    if any(mark <= " " or not mark.isascii() or not mark.isprintable() for mark in base):
        return (
            f"{told} holds a space, a line break or a character beyond ASCII; write a host in its "
            "form that begins with xn--, and percent-encode the rest"
        )
    try:
        parts = urlsplit(base)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        return f"{told} is no address ({error}); write one such as {EXAMPLE}"
    if parts.scheme not in {"http", "https"} or not parts.netloc:
        return f"{told} does not begin with http:// or https://; write it so"
    if port == 0 or not _is_host(host):
        what = "port" if port == 0 else "host"
        return f"{told} has a {what} that can't be called; write one such as {EXAMPLE}"
    return ""


def refusal(field: str, base: str, remedy: str = KEPT_ELSEWHERE) -> str:
    """Return why ``field`` may not hold ``base``, with the remedy; empty when it may.

    ``remedy`` is for a base that may hold a secret.
    """
    if "@" in (_split(base).netloc or base):  # also where the scheme was forgotten
        return f"{field} (not shown) holds a user or a password; {remedy}"
    if "?" in base or "#" in base:
        return f"{field} (not shown) holds a query or a fragment; {remedy}"
    return unreachable(field, base)


def _split(base: str) -> SplitResult:
    try:
        return urlsplit(base)
    except ValueError:  # which unreachable() tells
        return urlsplit("")


def _is_host(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        labels = host.removesuffix(".").split(".")
        return len(host) <= _HOST_MOST and all(_LABEL.fullmatch(label) for label in labels)
    return True
