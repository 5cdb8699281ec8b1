"""One attempt to deliver: a signed POST that follows no redirect and keeps no answer."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Self

import aiohttp

from millstream.errors import UsageError
from millstream.runtime.clock import boot_seconds, utc_now
from millstream_api.webhooks.addresses import PublicResolver, check_url
from millstream_api.webhooks.signing import signed
from millstream_schemas.webhooks import WebhookMessage

BOUND_S = 10.0
CONNECT_BOUND_S = 5.0
CONNECTIONS_MOST = 20
RETRY_AFTER_MOST_S = 3600.0
ERROR_LENGTH_MAX = 300


@dataclass(frozen=True, slots=True)
class Attempt:
    """How an attempt went: taken (2xx), or why not."""

    status: int | None
    error: str
    latency_ms: float
    retry_after_s: float = 0.0

    @property
    def is_taken(self) -> bool:
        """Whether the receiver has said that it has the message."""
        return not self.error


class Sender:
    """Sends messages; use it as a context. ``may_be_private`` lets it reach any address."""

    def __init__(self, *, may_be_private: bool) -> None:
        self.may_be_private = may_be_private
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        """Open what the connections share."""
        connector = aiohttp.TCPConnector(
            resolver=None if self.may_be_private else PublicResolver(),
            use_dns_cache=False,  # each connection is judged by where its name leads then
            limit=CONNECTIONS_MOST,
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=BOUND_S, sock_connect=CONNECT_BOUND_S),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            headers={"User-Agent": f"Millstream/{version('millstream')}"},
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    async def send(
        self, url: str, message_id: str, message: WebhookMessage, secrets: Sequence[str]
    ) -> Attempt:
        """Send ``message`` once; whatever goes wrong stands in the attempt."""
        if self._session is None:
            raise RuntimeError("a Sender is used as a context")
        body = message.model_dump_json(exclude_none=True).encode()
        headers = {
            "Content-Type": "application/json",
            **signed(message_id, int(utc_now().timestamp()), body, secrets),
        }
        began = boot_seconds()
        status, error, retry_after_s = None, "", 0.0
        try:
            check_url(url, may_be_private=self.may_be_private)
            async with self._session.post(
                url, data=body, headers=headers, allow_redirects=False
            ) as answer:
                status = answer.status
                error = _refusal(status)
                retry_after_s = _seconds(answer.headers.get("Retry-After", ""))
        except TimeoutError:
            error = f"no answer within {BOUND_S:g} s"
        except (aiohttp.ClientError, OSError, ValueError, UsageError) as failure:
            # ValueError: a name with a label that no name can have.
            error = f"{failure}"[:ERROR_LENGTH_MAX] or type(failure).__name__
        return Attempt(status, error, round((boot_seconds() - began) * 1000, 1), retry_after_s)


def _refusal(status: int) -> str:
    if 200 <= status < 300:
        return ""
    if 300 <= status < 400:
        return f"answered {status}: redirects are not followed; give the address they lead to"
    return f"answered {status}"


def _seconds(retry_after: str) -> float:
    """Return the seconds that a receiver asks for; one that gives a date gets our own pause."""
    if retry_after.isascii() and retry_after.isdigit():
        return min(float(retry_after), RETRY_AFTER_MOST_S)
    return 0.0
