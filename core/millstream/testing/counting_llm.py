"""A model server that counts: what arrived, when, for which batch, and what became of it.

``python -m millstream.testing.counting_llm`` serves chat completions on ``MILLSTREAM_PORT`` of
127.0.0.1, in a process of its own, so that a bench has a witness that none of ours can bend. The
model's name says how it answers:

    ms-<n>                     a whole answer, streamed over n milliseconds
    error-<status>             every call refused with that status
    error-<status>-after-<n>   the first n calls of a batch answered in 50 ms, then refused

``GET /calls/<batch>`` gives the calls of a batch in order of arrival, ``GET /count/<batch>`` how
many arrived and how many are open, ``DELETE /calls/<batch>`` forgets them. Times are the wall
clock's, to stand beside the stream's timestamps on the same machine.
"""

import asyncio
import contextlib
import re
import signal
import sys
from collections import defaultdict
from dataclasses import asdict, dataclass
from typing import Literal

import orjson
import uvloop
from aiohttp import web

from millstream.openai_wire import (
    SSE_CONTENT_TYPE,
    StreamEncoder,
    Usage,
    error_body,
    estimate_tokens,
    split_text,
)
from millstream.runtime.clock import utc_now
from millstream.runtime.settings import load_settings
from millstream.testing.made_up import made_up_answer

BATCH_HEADER = "X-Millstream-Batch"
BEFORE_ERROR_S = 0.05
CHUNKS = 4
SHUTDOWN_S = 0.1
_MODEL = re.compile(
    r"(ms-(?P<ms>\d{1,6})|error-(?P<status>\d{3})(-after-(?P<after>\d{1,6}))?)(\.\d{1,6})?"
)
"""The number after the dot means nothing to the server: it makes a route of its own."""


@dataclass(slots=True)
class Call:
    """One request for a completion; ``seed`` tells a caller that knows the plan which slot."""

    arrived_at: float
    seed: int | None
    outcome: Literal["open", "answered", "refused", "cancelled"] = "open"
    ended_at: float | None = None


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How a model answers: over ``answer_s``, or from call ``answered_first`` on with an error."""

    answer_s: float
    status: int | None = None
    answered_first: int = 0


def behaviour_of(model: str) -> Behaviour:
    """Return what the model's name says.

    Raises:
        ValueError: it says nothing.
    """
    match = _MODEL.fullmatch(model)
    if match is None:
        raise ValueError(f"model {model!r}: use ms-<n>, error-<status> or error-<status>-after-<n>")
    if match["ms"] is not None:
        return Behaviour(int(match["ms"]) / 1000)
    return Behaviour(BEFORE_ERROR_S, int(match["status"]), int(match["after"] or 0))


class CountingServer:
    """Serves the paths above; every call is kept until it is forgotten."""

    def __init__(self) -> None:
        self._calls: defaultdict[str, list[Call]] = defaultdict(list)

    async def handle(self, http: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        _, _, batch_id = http.path[1:].partition("/")
        match http.method, http.path.split("/")[1]:
            case "POST", "v1":
                return await self._complete(http)
            case "GET", "calls":
                return _json([asdict(call) for call in self._calls[batch_id]])
            case "GET", "count":
                calls = self._calls[batch_id]
                is_open = sum(call.outcome == "open" for call in calls)
                return _json({"arrived": len(calls), "open": is_open})
            case "DELETE", "calls":
                self._calls.pop(batch_id, None)
                return _json({})
            case "GET", "health":
                return _json({"status": "ok"})
            case _:
                return web.Response(status=404, body=error_body(http.path, "not_found"))

    async def _complete(self, http: web.BaseRequest) -> web.StreamResponse:
        arrived_at = utc_now().timestamp()
        calls = self._calls[http.headers.get(BATCH_HEADER, "")]
        call = Call(arrived_at, None)
        calls.append(call)
        try:
            body = orjson.loads(await http.read())
            call.seed = body.get("seed")
            behaviour = behaviour_of(body.get("model", ""))
            if behaviour.status is not None and len(calls) > behaviour.answered_first:
                call.outcome = "refused"
                refusal = error_body(f"the model answers {behaviour.status}", "scripted_error")
                return web.Response(
                    status=behaviour.status, body=refusal, content_type="application/json"
                )
            response = await _stream(http, body, behaviour.answer_s)
            call.outcome = "answered"
        except (asyncio.CancelledError, ConnectionError):
            call.outcome = "cancelled"
            raise
        except ValueError as error:  # a body or a model that is none
            call.outcome = "refused"
            return web.Response(status=400, body=error_body(str(error), "invalid_request_error"))
        finally:
            call.ended_at = utc_now().timestamp()
        return response


async def _stream(
    http: web.BaseRequest, body: dict[str, object], answer_s: float
) -> web.StreamResponse:
    """Send a whole answer, its chunks spread evenly over ``answer_s``."""
    seed = body.get("seed")
    text = made_up_answer(body.get("response_format"), seed if isinstance(seed, int) else 0)
    encoder = StreamEncoder(f"chatcmpl-{seed}", str(body["model"]))
    usage = Usage(estimate_tokens(len(orjson.dumps(body["messages"]))), estimate_tokens(len(text)))
    pieces = split_text(text, CHUNKS)
    clock = asyncio.get_running_loop().time
    started = clock()
    response = web.StreamResponse(headers={"Content-Type": SSE_CONTENT_TYPE})
    await response.prepare(http)
    for index, piece in enumerate(pieces):
        await asyncio.sleep(max(0.0, started + answer_s * (index + 1) / len(pieces) - clock()))
        await response.write(encoder.content(piece, first=not index))
    await response.write_eof(encoder.end("stop", usage))
    return response


def _json(document: object) -> web.Response:
    return web.Response(body=orjson.dumps(document), content_type="application/json")


async def serve(port: int) -> None:
    """Serve on ``port`` until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    server = web.Server(CountingServer().handle, handler_cancellation=True, access_log=None)
    runner = web.ServerRunner(server, shutdown_timeout=SHUTDOWN_S)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, backlog=1024).start()
    await stop.wait()
    await runner.cleanup()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(serve(load_settings().port))
    sys.exit(0)
