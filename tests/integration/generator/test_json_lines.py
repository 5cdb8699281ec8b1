"""What befalls a stream of JSON lines, as Ollama's, through litellm itself."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from millstream.runtime.settings import load_settings
from millstream_generator.completion import CallFailedError, Progress, Prompt
from millstream_generator.lanes import Lanes
from millstream_schemas.routes import Route

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore:Accessing the 'model_:DeprecationWarning"),  # litellm's own
    pytest.mark.filterwarnings("ignore:Pydantic serializer warnings:UserWarning"),  # litellm's own
]

PROMPT = Prompt("batch_1_0", [{"role": "user", "content": "Why?"}], None, 77, 12, 0.5, None, {})


def line(content: str = "", **more: object) -> bytes:
    """Return a line of Ollama's; one without content holds a thought."""
    message = {"role": "assistant", "content": content, "thinking": "" if content else "hm"}
    return json.dumps({"model": "q", "message": message, "done": False, **more}).encode() + b"\n"


@asynccontextmanager
async def sending(lines: list[bytes], end: str) -> AsyncIterator[Route]:
    """Serve these lines, and then nothing more, a broken connection or a proper end."""
    is_over = asyncio.Event()

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        for one in lines:
            await response.write(one)
        if end == "stall":
            await is_over.wait()
        elif end == "break" and request.transport is not None:
            request.transport.abort()
        return response

    runner = web.ServerRunner(web.Server(handle, access_log=None), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    base = f"http://127.0.0.1:{runner.addresses[0][1]}"
    known = {"provider": "ollama", "model": "q", "litellm_model": "ollama_chat/q"}
    try:
        yield Route(**known, api_base=base, stall_s=0.5, timeout_s=20)
    finally:
        is_over.set()
        await runner.cleanup()


@pytest.fixture
async def lanes() -> AsyncIterator[Lanes]:
    made = Lanes(load_settings(lane="litellm"), settle=lambda: None)
    yield made
    await made.close()


@pytest.mark.parametrize("thoughts", [1, 3])
@pytest.mark.parametrize(
    ("end", "category", "link"), [("stall", "timeout", None), ("break", "server", "lost")]
)
async def test_a_stream_of_thoughts_that_ends_so_is_told_by_what_ended_it(
    lanes: Lanes, thoughts: int, end: str, category: str, link: str | None
) -> None:
    async with sending([line()] * thoughts, end) as route:
        with pytest.raises(CallFailedError) as caught:
            await lanes.complete(route, PROMPT, Progress())
    assert (caught.value.category, caught.value.link) == (category, link)
    assert "holds no completion" not in caught.value.message


async def test_a_whole_stream_of_lines_is_read(lanes: Lanes) -> None:
    counts = {"prompt_eval_count": 4, "eval_count": 6, "done_reason": "stop"}
    ended = line(**{**counts, "done": True})
    async with sending([line(), line("a"), line("b"), ended], "end") as route:
        answer = await lanes.complete(route, PROMPT, Progress())
    assert (answer.text, answer.usage.tokens_out) == ("ab", 6)
