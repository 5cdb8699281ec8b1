"""A scripted provider that speaks any `Wire`, and keeps what it was sent, keys included.

Beside `ScriptedLLM`, which knows the OpenAI form alone and never keeps a key: here every path is
answered, so that a test can say which one was asked, and with which header.
"""

import asyncio

import orjson
from aiohttp import web

from millstream.openai_wire import Usage, split_text
from millstream.testing.scripted_answers import (
    Delayed,
    Disconnect,
    Garbage,
    HttpError,
    Ok,
    Request,
    Stall,
    hang_up,
)
from millstream.testing.scripted_llm import Script, ScriptedLLM
from millstream.testing.wire_forms import Wire

USAGE = Usage(100, 50)
"""What an `Ok` answer reports when its script says nothing else."""


class WireServer(ScriptedLLM):
    """A `ScriptedLLM` in the form of one provider; ``origin`` is its address without a path."""

    def __init__(self, wire: Wire, script: Script) -> None:
        super().__init__(script)
        self._wire = wire

    @property
    def origin(self) -> str:
        """Scheme, host and port."""
        return self.base_url.removesuffix("/v1")

    async def _handle(self, http: web.BaseRequest) -> web.StreamResponse:
        loop = asyncio.get_running_loop()
        content = await http.read()
        request = Request(
            index=len(self.requests),
            path=http.path_qs,
            headers={name.lower(): value for name, value in http.headers.items()},
            authorization_sent="authorization" in http.headers,
            body=orjson.loads(content) if content else None,
            started_at=loop.time(),
        )
        self.requests.append(request)
        self._tell()
        try:
            return await self._play(http, request)
        except (asyncio.CancelledError, ConnectionError):
            request.cancelled_at = loop.time()
            raise
        finally:
            if request.cancelled_at is None:
                request.finished_at = loop.time()
            self._tell()

    async def _play(self, http: web.BaseRequest, request: Request) -> web.StreamResponse:
        match self._answer_to(request):
            case HttpError(status, body, headers):
                encoded = body.encode() if isinstance(body, str) else orjson.dumps(body)
                if body is None:
                    encoded = self._wire.refusal(status, f"Scripted error {status}")
                return web.Response(
                    body=encoded, status=status, headers=headers, content_type="application/json"
                )
            case Garbage(body, content_type):
                return web.Response(body=body, content_type=content_type)
            case Ok() as answer:
                pieces = split_text(answer.text, answer.chunks)
                response = await self._begin(http, pieces)
                await response.write_eof(
                    self._wire.end(answer.finish_reason, answer.usage or USAGE)
                )
                return response
            case Disconnect(None) as answer:
                return hang_up(http, answer, web.Response())
            case Stall() | Disconnect() as answer:
                # One piece more than is sent: what is missing is never empty.
                sent = answer.after_chunks or 0
                pieces = split_text(answer.content, sent + 1)
                response = await self._begin(http, pieces[:sent])
                if isinstance(answer, Disconnect):
                    return hang_up(http, answer, response)
                never: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                await never
                return response
            case Delayed():
                raise TypeError("Delayed: not played here; use Stall")

    async def _begin(self, http: web.BaseRequest, pieces: list[str]) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": self._wire.content_type})
        await response.prepare(http)
        for data in (self._wire.opening(), *map(self._wire.piece, pieces)):
            if data:
                await response.write(data)
        return response
