"""One attempt is one request: no layer beneath the product's own may send it again.

A strict budget counts attempts, and each request may be paid.
"""

from collections.abc import Callable

import pytest

from millstream.testing.scripted_llm import Answer, Disconnect, HttpError
from millstream.testing.wire_families import FAMILIES, HUGGING_FACE, MAIN_FAMILIES, Family
from millstream.testing.wire_server import WireServer
from millstream_generator.completion import CallFailedError, Progress, Prompt
from millstream_generator.lanes import Lanes
from millstream_schemas.routes import Route

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore:Accessing the 'model_:DeprecationWarning"),  # litellm's own
    pytest.mark.filterwarnings("ignore:Pydantic serializer warnings:UserWarning"),  # litellm's own
    pytest.mark.filterwarnings("ignore:Items .* on TypedDict class:UserWarning"),  # litellm's own
]

BREAKS = [
    Disconnect(None, is_reset=True),
    Disconnect(None),
    Disconnect(2, is_reset=True),
    Disconnect(2),
]
REFUSALS = [HttpError(status) for status in (401, 408, 409, 422, 429, 500, 503)]


async def failures(
    lanes: Lanes, route: Callable[..., Route], family: Family, prompt: Prompt, answers: list[Answer]
) -> list[CallFailedError]:
    """Return how one call after the other fails, each after exactly one request."""
    found = []
    async with WireServer(family.wire, answers) as server:
        for number, answer in enumerate(answers, start=1):
            with pytest.raises(CallFailedError) as caught:
                await lanes.complete(route(family, server.origin), prompt, Progress())
            assert len(server.requests) == number, answer
            found.append(caught.value)
    return found


@pytest.mark.parametrize("family", [*FAMILIES, HUGGING_FACE], ids=lambda family: family.name)
async def test_a_connection_that_breaks_is_one_request_and_may_be_paid(
    family: Family, lanes: Lanes, route_to: Callable[..., Route], prompt: Prompt
) -> None:
    for error in await failures(lanes, route_to, family, prompt, [*BREAKS]):
        assert (error.category, error.link, error.is_unpaid) == ("server", "lost", False)


@pytest.mark.parametrize("family", MAIN_FAMILIES, ids=lambda family: family.name)
async def test_a_refusal_is_one_request(
    family: Family, lanes: Lanes, route_to: Callable[..., Route], prompt: Prompt
) -> None:
    for error in await failures(lanes, route_to, family, prompt, [*REFUSALS]):
        assert error.is_unpaid


async def test_a_refusal_is_one_request_of_openais_client_within_litellm(
    litellm_lane: Lanes, route_to: Callable[..., Route], prompt: Prompt
) -> None:
    family = next(family for family in MAIN_FAMILIES if family.name == "OpenAI")
    found = await failures(litellm_lane, route_to, family, prompt, [*REFUSALS, *BREAKS])
    statuses = [answer.status for answer in REFUSALS]
    assert [error.status_code for error in found] == [*statuses, *[None] * len(BREAKS)]
    assert [error.is_unpaid for error in found] == [error.link is None for error in found]
