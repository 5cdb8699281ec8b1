"""A real HTTP server on loopback that plays chat completions by a script.

`ScriptedLLM` runs in the event loop of the test, `ScriptedLLMThread` in a thread of its own for
tests without one. Both record every request, so that a test can say what was asked, when, and
whether the caller went away.

    async with ScriptedLLM([HttpError(429, headers={"Retry-After": "1"}), Ok({"a": 1})]) as llm:
        ...  # point the code under test at llm.base_url
        assert [request.outcome for request in llm.requests] == ["finished", "finished"]
"""

import asyncio
import threading
from collections.abc import Callable, Sequence
from typing import Self

import orjson
from aiohttp import web

from millstream.openai_wire import error_body, models_body
from millstream.testing.scripted_answers import (
    Answer,
    Delayed,
    Disconnect,
    Garbage,
    HttpError,
    Ok,
    Request,
    Stall,
    json_response,
    play,
)
from millstream.testing.waiting import BOUND_S

__all__ = [
    "Answer",
    "Delayed",
    "Disconnect",
    "Garbage",
    "HttpError",
    "Ok",
    "Request",
    "Script",
    "ScriptedLLM",
    "ScriptedLLMThread",
    "Stall",
]

_SHUTDOWN_S = 0.1
_START_LIMIT_S = BOUND_S


Script = Callable[[Request], Answer] | Sequence[Answer]


class ScriptedLLM:
    """An async context manager that serves a script on 127.0.0.1, on ``port`` or a free one.

    A list is played in order of arrival; its last answer repeats. A callable sees each request,
    its body included, and chooses the answer.
    """

    def __init__(self, script: Script, *, port: int = 0) -> None:
        if not callable(script) and not script:
            raise ValueError("script: an empty list; give at least one answer")
        self.requests: list[Request] = []
        self.base_url = ""
        self._script = script
        self._port = port
        self._changed = asyncio.Event()
        self._runner: web.ServerRunner | None = None

    async def __aenter__(self) -> Self:
        # Made here and not before: a server belongs to the loop that runs when it is made.
        server = web.Server(self._handle, handler_cancellation=True, access_log=None)
        self._runner = runner = web.ServerRunner(server, shutdown_timeout=_SHUTDOWN_S)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", self._port).start()
        self.base_url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        return self

    async def __aexit__(self, *_error: object) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    @property
    def open_requests(self) -> int:
        """How many requests are under way now."""
        return sum(request.outcome == "open" for request in self.requests)

    async def wait_for(
        self, condition: Callable[[Sequence[Request]], bool], limit_s: float = BOUND_S
    ) -> None:
        """Wait until the recorded requests fulfil `condition`.

        Raises:
            TimeoutError: they didn't within `limit_s`.
        """
        async with asyncio.timeout(limit_s):
            while not condition(self.requests):
                await self._changed.wait()

    def _tell(self) -> None:
        """Wake all that wait; each looks at the requests anew."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def _handle(self, http: web.BaseRequest) -> web.StreamResponse:
        if (http.method, http.path) == ("GET", "/v1/models"):
            return json_response(models_body(["scripted"], "millstream-testing"))
        if (http.method, http.path) != ("POST", "/v1/chat/completions"):
            return json_response(error_body(f"{http.path}: no such endpoint", "not_found"), 404)
        loop = asyncio.get_running_loop()
        started_at = loop.time()
        request = Request(
            index=len(self.requests),
            path=http.path,
            headers={k: v for k, v in http.headers.items() if k.lower() != "authorization"},
            authorization_sent="authorization" in http.headers,
            body=orjson.loads(await http.read()),
            started_at=started_at,
        )
        self.requests.append(request)
        self._tell()
        try:
            return await play(self._answer_to(request), http, request)
        except (asyncio.CancelledError, ConnectionError):
            request.cancelled_at = loop.time()
            raise
        finally:
            if request.cancelled_at is None:
                request.finished_at = loop.time()
            self._tell()

    def _answer_to(self, request: Request) -> Answer:
        if callable(self._script):
            return self._script(request)
        return self._script[min(request.index, len(self._script) - 1)]


class ScriptedLLMThread:
    """A `ScriptedLLM` in a thread with its own event loop, for tests that have none.

    A plain context manager with the same `base_url` and `requests`. A ``Delayed`` answer of its
    script may wait for time only: an event would belong to another loop.
    """

    def __init__(self, script: Script) -> None:
        self._server = ScriptedLLM(script)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="scripted-llm", daemon=True)

    @property
    def base_url(self) -> str:
        """The ``api_base`` under which the server answers."""
        return self._server.base_url

    @property
    def requests(self) -> list[Request]:
        """Every request so far, in order of arrival."""
        return self._server.requests

    def wait_for(
        self, condition: Callable[[Sequence[Request]], bool], limit_s: float = BOUND_S
    ) -> None:
        """Wait until the recorded requests fulfil `condition`.

        Raises:
            TimeoutError: they didn't within `limit_s`.
        """
        if self._loop is None:
            raise RuntimeError("ScriptedLLMThread: not entered; use it in a with statement")
        asyncio.run_coroutine_threadsafe(
            self._server.wait_for(condition, limit_s), self._loop
        ).result()

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._ready.wait(_START_LIMIT_S):
            raise TimeoutError(f"ScriptedLLMThread: no start within {_START_LIMIT_S} s")
        return self

    def __exit__(self, *_error: object) -> None:
        if self._loop is not None and self._stop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        async with self._server:
            self._ready.set()
            await self._stop.wait()
