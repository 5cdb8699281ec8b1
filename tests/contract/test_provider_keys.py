"""A key goes to the one host that its route names, and to no other."""

import socket
from collections.abc import Callable
from typing import Any

import pytest
from structlog.testing import capture_logs

from millstream.known_models import PROVIDER_KEYS
from millstream.testing.scripted_llm import HttpError, Ok
from millstream.testing.wire_families import COHERE_OWN, FAMILIES, HUGGING_FACE, Family
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

BASE_VARIABLES = tuple(
    f"{provider}_{name}"
    for provider in (
        *{name.upper() for name in PROVIDER_KEYS},
        "AZURE",
        "HOSTED_VLLM",
        "TOGETHER_AI",
    )
    for name in ("API_BASE", "BASE_URL", "BASE")
)
"""Where litellm and its clients would look for an address."""
each_family = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The names of hosts that were looked up; none but this machine's is found."""
    names: set[str] = set()
    look_up = socket.getaddrinfo

    def refuse(host: Any, *arguments: Any, **options: Any) -> Any:
        if host in {"127.0.0.1", "::1", None}:
            return look_up(host, *arguments, **options)
        names.add(host.decode() if isinstance(host, bytes) else str(host))
        raise socket.gaierror(socket.EAI_NONAME, "not looked up in tests")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    return names


@each_family
async def test_a_redirect_to_another_host_is_not_followed(
    family: Family, lanes: Lanes, route_to: Callable[..., Route], prompt: Prompt
) -> None:
    async with WireServer(family.wire, [Ok("taken")]) as other:
        away = HttpError(307, headers={"Location": f"{other.origin}{family.path}"})
        async with WireServer(family.wire, [away]) as server:
            with pytest.raises(CallFailedError) as caught:
                await lanes.complete(route_to(family, server.origin), prompt, Progress())
    assert caught.value.category == "invalid_request"
    assert "the endpoint redirects to " in caught.value.message
    assert other.requests == []


@each_family
async def test_the_routes_address_wins_over_the_environments(
    family: Family,
    lanes: Lanes,
    route_to: Callable[..., Route],
    prompt: Prompt,
    asked: set[str],
) -> None:
    async with (
        WireServer(family.wire, [Ok("taken")]) as other,
        WireServer(family.wire, [Ok({"a": "b"})]) as server,
    ):
        with pytest.MonkeyPatch.context() as environment:
            for variable in BASE_VARIABLES:
                environment.setenv(variable, f"{other.origin}{family.base}")
            await lanes.complete(route_to(family, server.origin), prompt, Progress())
    assert len(server.requests) == 1
    assert other.requests == []
    assert asked == set(), "hosts that were looked up besides"


@pytest.mark.parametrize(
    "family",
    [family for family in (*FAMILIES, COHERE_OWN) if family.host],
    ids=lambda family: family.name,
)
async def test_without_an_address_a_call_goes_to_its_own_company_only(
    family: Family,
    lanes: Lanes,
    route_to: Callable[..., Route],
    prompt: Prompt,
    asked: set[str],
) -> None:
    with capture_logs() as logs, pytest.raises(CallFailedError) as caught:
        await lanes.complete(route_to(family, None), prompt, Progress())
    assert caught.value.category == "server"
    assert [log["lane"] for log in logs if log["event"] == "route.resolved"] == [family.lane]
    assert asked == {family.host}


def test_every_provider_with_a_key_is_a_family_here() -> None:
    named = {family.model.partition("/")[0] for family in (*FAMILIES, COHERE_OWN, HUGGING_FACE)}
    assert set(PROVIDER_KEYS) - named == set()
    for family in (*FAMILIES, COHERE_OWN):
        provider = family.model.partition("/")[0]
        if family.host:
            assert family.key_env == PROVIDER_KEYS[provider]


def test_a_key_is_that_of_the_company_that_is_called(
    route_to: Callable[..., Route], monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv("GROQ_API_KEY", key)
    route = route_to(FAMILIES[0], None, provider="groq")  # its model is openai/gpt-4o-mini
    assert route.api_key_env == "OPENAI_API_KEY"
