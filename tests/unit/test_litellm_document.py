"""What is kept of the answers that litellm gets in one call."""

from collections.abc import Awaitable, Callable

import httpx
import pytest

from millstream_generator.completion import Progress
from millstream_generator.litellm_document import AnswerDocument, SentAlreadyError
from millstream_generator.litellm_failures import classify

pytestmark = pytest.mark.anyio

AUTH = httpx.Request("POST", "https://auth.test/token")
CHAT = httpx.Request("POST", "https://api.test/chat")


def answering(status: int, body: bytes) -> Callable[[], Awaitable[httpx.Response]]:
    async def send() -> httpx.Response:
        return httpx.Response(status, content=body, headers={"content-type": "application/json"})

    return send


async def refusing() -> httpx.Response:
    raise httpx.ConnectError("refused")


async def test_an_answer_before_is_not_told_of_a_request_that_found_no_connection() -> None:
    document = AnswerDocument(Progress(), "key")
    await document.send(AUTH, answering(200, b'{"access_token": "abc", "expires_in": 3600}'))
    with pytest.raises(httpx.ConnectError) as caught:
        await document.send(CHAT, refusing)
    assert document.failure(caught.value) is None
    assert (classify(caught.value).link, classify(caught.value).is_unpaid) == ("refused", True)


async def test_a_request_that_is_not_sent_again_is_told_by_its_first_answer() -> None:
    document = AnswerDocument(Progress(), "key")
    await document.send(CHAT, answering(422, b'{"error": {"message": "no seed"}}'))
    with pytest.raises(SentAlreadyError) as caught:
        await document.send(CHAT, refusing)
    told = document.failure(caught.value)
    assert told is not None
    assert (told.category, told.message) == ("invalid_request", "HTTP 422: no seed")
