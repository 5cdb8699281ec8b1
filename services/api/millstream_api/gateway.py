"""The outermost ASGI application: guards, limits and headers, then stream, API or page.

Streams are dispatched here, before the framework: each of its middlewares would cost a call per
frame and client.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from starlette.responses import Response

from millstream.errors import MillstreamError
from millstream.runtime.clock import new_id
from millstream.runtime.metrics import CONTENT_TYPE, rendered
from millstream_api.auth import SAFE_METHODS, Guard, RoleTooLowError
from millstream_api.command_names import command_of
from millstream_api.freshness import Freshness, wanted_tags
from millstream_api.limits import WriteRate, check_head
from millstream_api.measures import Measures
from millstream_api.page import Page
from millstream_api.problems import ProblemError, answer_problem, to_problem
from millstream_api.refusals import Refusals
from millstream_api.relay.endpoint import Receive, Relay, Scope, Send, read_query
from millstream_schemas.envelope import Actor

log = structlog.get_logger()

BODY_BYTES_MAX = 1_000_000
DISCARD_BYTES_MAX = 8_000_000
BODY_BOUND_S = 30.0
BODY_METHODS = frozenset({"POST", "PUT", "PATCH", "DELETE"})
API_PREFIXES = ("/v1/", "/api/")
METRICS_PATH = "/metrics"
API_PATHS = frozenset({"/healthz", "/readyz"})

SECURITY_HEADERS = (
    (b"content-security-policy", b"default-src 'self'; frame-ancestors 'none'"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
)

App = Callable[[Any, Receive, Send], Awaitable[None]]


class Gateway:
    """Takes every request of this process."""

    def __init__(
        self,
        *,
        api: App,
        relay: Relay,
        page: Page,
        guard: Guard,
        measures: Measures | None = None,
        refusals: Refusals | None = None,
    ) -> None:
        self._api = api
        self._relay = relay
        self._page = page
        self._guard = guard
        self._writes = WriteRate()
        self._measures = measures if measures is not None else Measures(relay.hub)
        self._refusals = refusals

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; errors become answers, unexpected ones are logged too."""
        if scope["type"] != "http":
            return
        path = scope["path"]
        sender = _Sender(send, self._measures)
        try:
            await self._dispatch(scope, receive, sender)
        except MillstreamError as error:
            await sender.refuse(scope, receive, answer_problem(path, to_problem(path, error)))
        except Exception as error:
            log.exception("request.failed", path=path[:200], method=scope["method"])
            await sender.refuse(scope, receive, answer_problem(path, to_problem(path, error)))

    async def _dispatch(self, scope: Scope, receive: Receive, sender: "_Sender") -> None:
        path = scope["path"]
        check_head(scope)
        cookie = self._guard.login_cookie(scope)
        if cookie is not None:
            headers = {"Location": "/", "Set-Cookie": cookie, "Cache-Control": "no-store"}
            await Response(status_code=303, headers=headers)(dict(scope), receive, sender.send)
            return
        actor = self._actor(scope)
        if scope["method"] not in SAFE_METHODS:
            self._writes.check(actor.address or actor.id)
        if self._relay.serves(scope):
            wanted = read_query(scope)
            await self._relay(
                scope,
                wanted,
                sender.stream,
                is_admitted=lambda: self._guard.admits(scope),
            )
            return
        if path == METRICS_PATH and scope["method"] in {"GET", "HEAD"}:
            answer = Response(rendered(self._measures.figures), media_type=CONTENT_TYPE)
            await answer(dict(scope), receive, sender.send)
            return
        if path.startswith(API_PREFIXES) or path in API_PATHS:
            inner = {**scope, "state": {**scope.get("state", {}), "actor": actor}}
            if scope["method"] in BODY_METHODS:
                receive = _replay(await _read_body(scope, receive))
            answer_by = sender.send
            if scope["method"] == "GET" and path.startswith(API_PREFIXES):
                answer_by = Freshness(wanted_tags(scope), sender.send).send
            await self._api(inner, receive, answer_by)
            return
        if scope["method"] not in {"GET", "HEAD"}:
            raise ProblemError(
                405, "method_not_allowed", "the page takes GET only", headers={"Allow": "GET, HEAD"}
            )
        asked = {name: value.decode("latin-1") for name, value in scope["headers"]}
        file = await self._page.respond(
            path,
            asked.get(b"if-none-match"),
            asked.get(b"accept-encoding", ""),
            shows_html="text/html" in asked.get(b"accept", ""),
        )
        await file(dict(scope), receive, sender.send)

    def _actor(self, scope: Scope) -> Actor:
        """Return who asks; a command that the role does not allow is told to the log.

        Raises:
            ProblemError: as ``Guard.check``.
        """
        try:
            return self._guard.check(scope)
        except RoleTooLowError as refusal:
            named = command_of(scope["method"], scope["path"])
            if named is not None and self._refusals is not None:
                self._refusals.tell(
                    refusal,
                    named.command,
                    refusal.actor,
                    new_id(),
                    batch_id=named.batch_id,
                    webhook_id=named.webhook_id,
                )
            raise


class _Sender:
    """Adds the security headers, and knows whether an answer was begun."""

    def __init__(self, send: Send, measures: Measures) -> None:
        self._send = send
        self._measures = measures
        self._begun = False

    @property
    def stream(self) -> Send:
        """The server's own send: a stream's frames pass nothing in between."""
        self._begun = True
        return self._send

    async def send(self, message: Any) -> None:
        """Send one ASGI message."""
        if message["type"] == "http.response.start":
            self._begun = True
            self._measures.answers[f"{message['status'] // 100}xx"] += 1
            if message["status"] != 304:  # the client has them with the body
                message = {**message, "headers": [*message["headers"], *SECURITY_HEADERS]}
        await self._send(message)

    async def refuse(self, scope: Scope, receive: Receive, answer: Response) -> None:
        """Send ``answer`` unless another one was begun: then only the server can cut it off."""
        if not self._begun:
            await answer(dict(scope), receive, self.send)


async def _read_body(scope: Scope, receive: Receive) -> bytes:
    """Return the whole body, so that neither its size nor its slowness reaches the framework.

    A body that is somewhat too large is read to its end and dropped: closing the connection while
    the client still sends would lose it the answer.

    Raises:
        ProblemError: it is too large (413), came too slowly (408), or the client left.
    """
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit() and int(value) > DISCARD_BYTES_MAX:
            raise _too_large()
    body = bytearray()
    size = 0
    try:
        async with asyncio.timeout(BODY_BOUND_S):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ProblemError(400, "client_left", "the client left in mid-request")
                part = message.get("body", b"")
                size += len(part)
                is_last = not message.get("more_body", False)
                if size <= BODY_BYTES_MAX:
                    body += part
                elif is_last or size > DISCARD_BYTES_MAX:
                    raise _too_large()
                if is_last:
                    return bytes(body)
    except TimeoutError as error:
        raise ProblemError(
            408, "body_too_slow", f"the body did not arrive within {BODY_BOUND_S:g} s"
        ) from error


def _too_large() -> ProblemError:
    return ProblemError(
        413,
        "body_too_large",
        f"the body is larger than {BODY_BYTES_MAX:,} bytes; send less",
        headers={"Connection": "close"},
    )


def _replay(body: bytes) -> Receive:
    """Return a receive that gives ``body`` once, then waits as for a client that stays."""
    messages = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def receive() -> Any:
        message = next(messages, None)
        return message if message is not None else {"type": "http.disconnect"}

    return receive
