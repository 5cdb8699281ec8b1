"""Endpoints that answer, but with no stream of a completion: what came is said, or taken."""

import gzip
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from millstream.runtime.settings import load_settings
from millstream.testing import site as sites
from millstream_generator.completion import CallFailedError, Completion, Progress, Prompt
from millstream_generator.lanes import Lanes
from millstream_generator.policy import with_remedy
from millstream_schemas.routes import Route

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore:Accessing the 'model_:DeprecationWarning"),  # litellm's own
    pytest.mark.filterwarnings("ignore:Pydantic serializer warnings:UserWarning"),  # litellm's own
]

SSE, JSON, HTML = "text/event-stream", "application/json", "text/html"
KEY = "testkey-0123456789abcdef"
ANSWER = '{"a": "b"}'
USAGE = {"prompt_tokens": 100, "completion_tokens": 50}
PAGE = b"<!DOCTYPE html><html><head><title>Portal</title></head><body>Please log in</body></html>"
PROMPT = Prompt("batch_1_0", [{"role": "user", "content": "Why?"}], None, 77, 12, 0.5, None, {})


@pytest.fixture(params=["direct", "litellm"])
async def lanes(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Lanes]:
    monkeypatch.setenv("ODD_KEY", KEY)
    chosen = load_settings(lane="auto" if request.param == "direct" else "litellm")
    made = Lanes(chosen, settle=lambda: None)
    yield made
    await made.close()


DIRECT = pytest.mark.parametrize("lanes", ["direct"], indirect=True)


@asynccontextmanager
async def answering(
    body: bytes, kind: str, status: int = 200, headers: Mapping[str, str] | None = None
) -> AsyncIterator[Route]:
    """Serve the same answer to every request; gives a route to it."""

    async def handle(_: web.BaseRequest) -> web.Response:
        packed = {"Content-Type": kind, **(headers or {})}
        return web.Response(body=body, status=status, headers=packed)

    runner = web.ServerRunner(web.Server(handle, access_log=None), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    base = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    try:
        yield sites.route(base, provider="local", api_key_env="ODD_KEY")
    finally:
        await runner.cleanup()


async def ask(lanes: Lanes, body: bytes, kind: str = SSE, **more: object) -> Completion:
    async with answering(body, kind, **more) as route:  # type: ignore[arg-type]
        return await lanes.complete(route, PROMPT, Progress())


async def told(
    lanes: Lanes, body: bytes, kind: str = SSE, **more: object
) -> tuple[CallFailedError, str]:
    """Return how a call fails, and what a batch that ends by it says."""
    async with answering(body, kind, **more) as route:  # type: ignore[arg-type]
        with pytest.raises(CallFailedError) as caught:
            await lanes.complete(route, PROMPT, Progress())
    assert KEY not in caught.value.message
    return caught.value, with_remedy(caught.value, route)


def events(*deltas: object, end: str = "\n\n", finish: str = "stop") -> bytes:
    """Return a stream of these deltas, with its usage."""
    chunks: list[object] = [
        {"id": "x", "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
        for delta in deltas
    ]
    chunks.append({"id": "x", "choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
    chunks.append({"id": "x", "choices": [], "usage": USAGE})
    lines = [f"data: {json.dumps(chunk)}{end}" for chunk in chunks]
    return "".join([*lines, f"data: [DONE]{end}"]).encode()


@pytest.mark.parametrize(
    ("status", "category"),
    [
        (204, "invalid_request"),
        (405, "invalid_request"),
        (407, "auth"),
        (408, "timeout"),
        (409, "server"),
        (410, "invalid_request"),
        (418, "server"),
    ],
)
async def test_an_endpoint_that_answered_is_never_said_to_be_silent(
    lanes: Lanes, status: int, category: str
) -> None:
    error, reason = await told(lanes, b"" if status == 204 else b"go away", "text/x", status=status)
    assert (error.category, error.status_code) == (category, status)
    assert f"HTTP {status}: text/x" in reason
    assert status == 204 or "go away" in reason
    assert "was answered" not in reason


async def test_a_page_in_place_of_a_completion_is_a_wrong_address(lanes: Lanes) -> None:
    error, reason = await told(lanes, PAGE, HTML)
    assert (error.category, error.is_unpaid) == ("invalid_request", True)
    assert "text/html" in reason
    assert "Portal Please log in" in reason
    assert "http://127.0.0.1" in reason


@pytest.mark.parametrize("encoding", ["gzip", "br"])
async def test_a_packed_refusal_is_one_of_its_status(lanes: Lanes, encoding: str) -> None:
    body = json.dumps({"error": {"message": f"the key {KEY} is wrong"}}).encode()
    packed = gzip.compress(body) if encoding == "gzip" else b"\x0b\x02\x80"
    if encoding == "br" and lanes._may_be_direct is False:
        pytest.skip("what httpx can't unpack, litellm never sees")
    error, reason = await told(
        lanes, packed, JSON, status=401, headers={"Content-Encoding": encoding}
    )
    assert (error.category, error.status_code) == ("auth", 401)
    assert ("is wrong" if encoding == "gzip" else "encoded as br") in reason
    assert "ODD_KEY" in reason


async def test_a_packed_stream_is_read(lanes: Lanes) -> None:
    body = gzip.compress(events({"content": ANSWER}))
    assert (await ask(lanes, body, headers={"Content-Encoding": "gzip"})).text == ANSWER


@DIRECT
async def test_what_is_packed_wrongly_is_a_server_error(lanes: Lanes) -> None:
    error, _ = await told(lanes, b"no gzip", headers={"Content-Encoding": "gzip"})
    assert error.category == "server"
    assert "can't be unpacked" in error.message


async def test_a_completion_in_one_document_is_taken_with_its_usage(lanes: Lanes) -> None:
    message = {"role": "assistant", "content": ANSWER}
    document = {"id": "x", "choices": [{"message": message, "finish_reason": "stop"}]}
    body = json.dumps({**document, "usage": USAGE}, indent=1).encode()
    answer = await ask(lanes, body, JSON)
    assert (answer.text, answer.finish_reason, answer.usage.tokens_out) == (ANSWER, "stop", 50)


@pytest.mark.parametrize("body", [b'{"status": "fine"}', b'{"choices": [{"mess'])
async def test_a_document_that_is_no_completion_is_told(lanes: Lanes, body: bytes) -> None:
    error, reason = await told(lanes, body, JSON)
    assert error.category == "server"
    assert body.decode() in reason
    assert "was answered" not in reason


@DIRECT
async def test_a_text_in_place_of_a_stream_is_told(lanes: Lanes) -> None:
    error, reason = await told(lanes, b"hello there", "text/plain")
    assert error.status_code == 200
    assert "text/plain" in reason
    assert "hello there" in reason


@pytest.mark.parametrize(
    "change",
    [
        lambda stream: b"\xef\xbb\xbf" + stream,
        lambda stream: b"\r\n" + stream.replace(b"\n", b"\r\n"),
        lambda stream: stream.replace(b"\n", b"\r"),
        lambda stream: b": hello\n\n: on\n\n" + stream,
    ],
    ids=["a mark first", "CRLF", "CR", "comments"],
)
async def test_a_stream_in_any_legal_dress_is_read(
    lanes: Lanes, change: Callable[[bytes], bytes]
) -> None:
    answer = await ask(lanes, change(events({"content": ANSWER[:4]}, {"content": ANSWER[4:]})))
    assert (answer.text, answer.usage.tokens_out) == (ANSWER, 50)


@DIRECT
async def test_a_content_in_parts_is_put_together(lanes: Lanes) -> None:
    parts = [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": ANSWER}]
    assert (await ask(lanes, events({"content": parts}))).text == ANSWER


@DIRECT
async def test_a_refusal_is_kept_in_the_models_own_words(lanes: Lanes) -> None:
    answer = await ask(
        lanes, events({"content": None, "refusal": "I can't "}, {"refusal": "do it"})
    )
    assert (answer.text, answer.finish_reason) == ("I can't do it", "content_filter")


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (402, {"message": "Insufficient credits"}),
        (429, {"message": "You exceeded your quota", "code": "insufficient_quota"}),
        (400, {"message": "Your credit balance is too low to access the API."}),
    ],
)
async def test_an_account_without_credit_is_not_a_wrong_key(
    lanes: Lanes, status: int, body: object
) -> None:
    error, reason = await told(lanes, json.dumps({"error": body}).encode(), JSON, status=status)
    assert error.category == "auth"
    assert reason.endswith("check the credit of the account of the key in ODD_KEY")
