"""What each provider family is sent: lane, address, key, and every part of the prompt."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from millstream.testing.scripted_llm import Ok
from millstream.testing.wire_families import FAMILIES, MAIN_FAMILIES, PLAIN, Family
from millstream.testing.wire_server import WireServer
from millstream_generator.completion import Progress, Prompt
from millstream_generator.lanes import Lanes
from millstream_schemas.routes import Route

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore:Accessing the 'model_:DeprecationWarning"),  # litellm's own
    pytest.mark.filterwarnings("ignore:Pydantic serializer warnings:UserWarning"),  # litellm's own
    pytest.mark.filterwarnings("ignore:Items .* on TypedDict class:UserWarning"),  # litellm's own
]

PARTS = {
    "max_tokens": 77,
    "temperature": 0.5,
    "top_p": 0.9,
    "seed": 12,
    "system": "Be brief.",
    "user": "Why?",
}
each_family = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)


def at(body: Any, place: str) -> Any:
    """Return what stands at a dotted place of a JSON document."""
    for step in place.split("."):
        body = body[int(step)] if isinstance(body, list) else body[step]
    return body


def _schema(prompt: Prompt) -> Any:
    return at(prompt.response_format, "json_schema.schema")


@each_family
async def test_a_call_takes_its_lane_and_carries_the_prompt(
    family: Family, lanes: Lanes, route_to: Callable[..., Route], prompt: Prompt
) -> None:
    async with WireServer(family.wire, [Ok({"a": "b"})]) as server:
        with capture_logs() as logs:
            await lanes.complete(route_to(family, server.origin), prompt, Progress())
    assert [log["lane"] for log in logs if log["event"] == "route.resolved"] == [family.lane]
    (request,) = server.requests
    assert request.path == family.path
    sent = {name: at(request.body, place) for name, place in family.places.items()}
    wanted = {**PARTS, "model": family.model_there, "schema": _schema(prompt)}
    assert sent == {name: wanted[name] for name in family.places}
    for name in set(PLAIN) - set(family.places) - {"model", "system", "user"}:
        assert PLAIN[name].partition(".")[0] not in request.body, f"{name} is not this family's"


@each_family
async def test_the_key_stands_in_its_header_and_nowhere_else(
    family: Family, lanes: Lanes, route_to: Callable[..., Route], prompt: Prompt, key: str
) -> None:
    async with WireServer(family.wire, [Ok({"a": "b"})]) as server:
        await lanes.complete(route_to(family, server.origin), prompt, Progress())
    (request,) = server.requests
    holding = {name: value for name, value in request.headers.items() if key in value}
    wanted = {} if family.key_env is None else {family.key_header: family.key_form.format(key)}
    assert holding == wanted
    assert key not in request.path
    assert key not in str(request.body)


@pytest.mark.parametrize(
    "family", [item for item in FAMILIES if item.lane == "direct"], ids=lambda item: item.name
)
async def test_both_lanes_send_the_same_request(
    family: Family,
    lanes: Lanes,
    litellm_lane: Lanes,
    route_to: Callable[..., Route],
    prompt: Prompt,
) -> None:
    async with WireServer(family.wire, [Ok({"a": "b"})]) as server:
        route = route_to(family, server.origin)
        for lane in (lanes, litellm_lane):
            await lane.complete(route, prompt, Progress())
    direct, through = server.requests
    assert direct.path == through.path
    # litellm leaves the usage out of what it asks of some, and counts tokens itself: we ask.
    assert direct.body == {"stream_options": {"include_usage": True}, **through.body}
    assert direct.headers["authorization"] == through.headers["authorization"]
    assert direct.headers["content-type"] == through.headers["content-type"]


def test_the_operations_page_tells_each_familys_lane_and_key() -> None:
    page = (Path(__file__).parents[2] / "docs/operations.md").read_text(encoding="utf-8")
    rows = {cells[1]: cells for line in page.splitlines() if len(cells := line.split(" | ")) == 6}
    told = {cells[0].removeprefix("| "): (cells[2], cells[3]) for cells in rows.values()}
    for family in MAIN_FAMILIES:
        key = {"MY_KEY": "yours", None: "none"}.get(family.key_env, f"`{family.key_env}`")
        if family.name != "Groq, no schema":
            assert told.get(family.name) == (family.lane, key), family.name


async def test_a_stream_is_asked_for_with_its_usage(
    lanes: Lanes, route_to: Callable[..., Route], prompt: Prompt
) -> None:
    family = FAMILIES[0]
    async with WireServer(family.wire, [Ok({"a": "b"})]) as server:
        await lanes.complete(route_to(family, server.origin), prompt, Progress())
    assert server.requests[0].body["stream"] is True
    assert server.requests[0].body["stream_options"] == {"include_usage": True}
