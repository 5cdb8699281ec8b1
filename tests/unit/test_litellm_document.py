"""What is kept of the answers that litellm gets in one call."""

import json
from collections.abc import Awaitable, Callable

import httpx
import pytest

from millstream.testing import site as sites
from millstream_generator.completion import CallFailedError, Progress
from millstream_generator.litellm_document import AnswerDocument, SentAlreadyError
from millstream_generator.litellm_failures import classify

AUTH = httpx.Request("POST", "https://auth.test/token")
CHAT = httpx.Request("POST", "https://api.test/chat")


class Timeout(Exception):  # noqa: N818  # litellm's name
    """What litellm raises when nothing comes."""


def answering(status: int, body: bytes) -> Callable[[], Awaitable[httpx.Response]]:
    async def send() -> httpx.Response:
        return httpx.Response(status, content=body, headers={"content-type": "application/json"})

    return send


async def refusing() -> httpx.Response:
    raise httpx.ConnectError("refused")


@pytest.mark.anyio
async def test_an_answer_before_is_not_told_of_a_request_that_found_no_connection() -> None:
    document = AnswerDocument(Progress(), "key")
    await document.send(AUTH, answering(200, b'{"access_token": "abc", "expires_in": 3600}'))
    with pytest.raises(httpx.ConnectError) as caught:
        await document.send(CHAT, refusing)
    assert document.failure(caught.value) is None
    assert (classify(caught.value).link, classify(caught.value).is_unpaid) == ("refused", True)


@pytest.mark.anyio
async def test_a_request_that_is_not_sent_again_is_told_by_its_first_answer() -> None:
    document = AnswerDocument(Progress(), "key")
    await document.send(CHAT, answering(422, b'{"error": {"message": "no seed"}}'))
    with pytest.raises(SentAlreadyError) as caught:
        await document.send(CHAT, refusing)
    told = document.failure(caught.value)
    assert told is not None
    assert (told.category, told.message) == ("invalid_request", "HTTP 422: no seed")


def read(*pieces: bytes, status: int = 200) -> AnswerDocument:
    """Return the keeper of an answer that has come in these pieces."""
    document = AnswerDocument(Progress(), "key")
    document.watch(httpx.Response(status, headers={"content-type": "application/json"}))
    for piece in pieces:
        document._keep(piece)
    return document


@pytest.mark.parametrize("indent", [None, 1])
def test_a_long_answer_in_one_document_is_taken(indent: int | None) -> None:
    choice = {"message": {"content": "word " * 40_000}, "finish_reason": "stop"}
    body = b"\n" + json.dumps({"choices": [choice]}, indent=indent).encode() + b"\n"
    document = read(*(body[at : at + 999] for at in range(0, len(body), 999)))
    taken = document.completion(sites.route("http://127.0.0.1:9/v1"))
    assert taken is not None
    assert len(taken.text) == 200_000


def test_no_document_is_kept_beyond_the_bound_of_an_event() -> None:
    document = read(b'{"a": "', *[b"x" * 1_000_000] * 5)
    assert not document._kept


@pytest.mark.parametrize(
    "error",
    [
        CallFailedError("timeout", "the answer stalled", status_code=200),
        CallFailedError("server", "the connection broke", link="lost"),
        Timeout("no answer"),
        httpx.ReadError("reset"),
    ],
    ids=["stalled", "broken", "litellm's timeout", "lost"],
)
@pytest.mark.parametrize("lines", [1, 3])
def test_what_befell_a_stream_of_documents_is_told_and_not_that_it_holds_none(
    error: Exception, lines: int
) -> None:
    document = read(*[b'{"message": {"content": "", "thinking": "hm"}, "done": false}\n'] * lines)
    assert document.failure(error) is None


def test_one_document_without_a_completion_is_told_by_its_words() -> None:
    told = read(b'{"status":', b' "fine"}\n').failure(CallFailedError("server", "broke off"))
    assert told is not None
    assert told.message == 'the answer holds no completion: {"status": "fine"}'


def test_a_long_page_is_told_by_its_beginning() -> None:
    told = read(b"<html>Please log in", b" " * 30_000, b"</html>").failure()
    assert told is not None
    assert "Please log in" in told.message


def test_a_refusal_nested_deeper_than_can_be_read_keeps_its_status() -> None:
    told = read(b'{"a":' * 3000, status=429).failure(RuntimeError("odd"))
    assert told is not None
    assert (told.category, told.status_code) == ("rate_limit", 429)
    assert read(b'{"a":' * 3000).completion(sites.route("http://127.0.0.1:9/v1")) is None
