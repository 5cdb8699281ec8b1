"""What one request, and one client's writes, may ask of the server."""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

from millstream.runtime.clock import boot_seconds
from millstream_api.problems import ProblemError

HEADER_BYTES_MAX = 32_768
QUERY_BYTES_MAX = 49_152
WRITES_PER_S = 100.0
WRITES_AT_ONCE = 500
CLIENTS_KEPT = 10_000


def check_head(scope: Mapping[str, Any]) -> None:
    """Refuse a request whose headers or query are too large.

    Raises:
        ProblemError: 431 or 414.
    """
    size = sum(len(name) + len(value) for name, value in scope["headers"])
    if size > HEADER_BYTES_MAX:
        raise ProblemError(
            431,
            "headers_too_large",
            f"the headers have {size:,} bytes; send at most {HEADER_BYTES_MAX:,}",
            headers={"Connection": "close"},
        )
    size = len(scope.get("query_string", b""))
    if size > QUERY_BYTES_MAX:
        raise ProblemError(
            414,
            "query_too_large",
            f"the query has {size:,} bytes; send at most {QUERY_BYTES_MAX:,}",
            headers={"Connection": "close"},
        )


class WriteRate:
    """Lets each client write ``per_s`` times a second, and ``at_once`` times after a pause."""

    def __init__(
        self,
        per_s: float = WRITES_PER_S,
        at_once: int = WRITES_AT_ONCE,
        steady: Callable[[], float] = boot_seconds,
    ) -> None:
        self._per_s = per_s
        self._at_once = at_once
        self._steady = steady
        self._clients: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def check(self, client: str) -> None:
        """Count one write of ``client``.

        Raises:
            ProblemError: 429, with how long to wait.
        """
        now = self._steady()
        left, since = self._clients.pop(client, (float(self._at_once), now))
        left = min(float(self._at_once), left + (now - since) * self._per_s)
        is_allowed = left >= 1
        self._clients[client] = (left - 1 if is_allowed else left, now)
        if len(self._clients) > CLIENTS_KEPT:
            self._clients.popitem(last=False)
        if not is_allowed:
            raise ProblemError(
                429,
                "too_many_writes",
                f"more than {self._per_s:g} commands a second came from you; wait a second, or "
                "send them together with POST /v1/batches:bulk",
                headers={"Retry-After": "1"},
            )
