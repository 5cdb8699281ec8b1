"""From a route to an OpenAI-compatible endpoint, where one can be called without litellm.

Millstream's own servers speak that form by definition, and so does what a route names as
``openai/<model>`` with a base of its own. For every other route litellm is asked, in a
process of its own that ends with the answer: its modules would cost this one 160 MB for good.
"""

import asyncio
import contextlib
import re
import sys
from dataclasses import dataclass
from functools import cached_property
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import orjson
import structlog

from millstream.parameters import holds_secret
from millstream_generator.failures import safe_message
from millstream_generator.http_client import Target, make_target
from millstream_schemas.routes import Route

log = structlog.get_logger()

OWN_PROVIDERS = frozenset({"simulated", "local"})
PARAMETERS = ("max_tokens", "temperature", "top_p", "seed", "response_format")
"""What a prompt asks for besides its messages."""
_RENAMING = re.compile(r"(^|/)(o\d|gpt-5|chatgpt)", re.IGNORECASE)
"""OpenAI's models that take other parameters, under whatever base: litellm knows them."""
ASK_S = 60.0
"""litellm takes 3 s to load, and many times that on a machine that starts everything at once."""


@dataclass(frozen=True)
class Endpoint:
    """Where and how to call; ``names`` gives each parameter's name there (absent: not taken)."""

    url: str
    headers: dict[str, str]
    model: str
    names: dict[str, str]

    @cached_property
    def target(self) -> Target:
        """The URL and headers as they are sent; raises ValueError when they can't be."""
        own = {name: text for name, text in self.headers.items() if name.lower() != "content-type"}
        return make_target(self.url, {**own, "Content-Type": "application/json"})

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """What may be told to nobody of the headers."""
        return tuple(
            text.rpartition(" ")[2] for name, text in self.headers.items() if holds_secret(name)
        )


async def find_endpoint(route: Route, base: str | None, key: str) -> Endpoint | str:
    """Return the endpoint of ``route``, or why only litellm itself can call it."""
    try:
        if base is not None and is_plain(route, base):
            endpoint = _plain(route, base, key)
        else:
            endpoint = await _ask_litellm(route, base, key)
        _check_reachable(route, endpoint)
    except _NotDirectError as error:
        reason = safe_message(str(error), key)
        log.warning("route.not_direct", model=route.model, reason=reason)
        return reason
    return endpoint


def is_plain(route: Route, base: str | None) -> bool:
    """Tell whether the endpoint takes OpenAI's parameters under their own names, unasked."""
    if base is None:
        return False
    if route.provider in OWN_PROVIDERS:
        return True
    provider, _, model = route.litellm_model.partition("/")
    is_openais = (urlsplit(base).hostname or "").endswith("openai.com")
    return provider == "openai" and not is_openais and not _RENAMING.search(model)


class _NotDirectError(Exception):
    """Why a route has to go through litellm."""


def _plain(route: Route, base: str, key: str) -> Endpoint:
    return Endpoint(
        url=f"{base.rstrip('/')}/chat/completions",
        headers={"Authorization": f"Bearer {key}"},
        model=route.litellm_model.partition("/")[2],
        names={name: name for name in PARAMETERS},
    )


def _check_reachable(route: Route, endpoint: Endpoint) -> None:
    try:
        target = endpoint.target
    except ValueError as error:
        raise _NotDirectError(f"{urlsplit(endpoint.url).hostname}: {error}") from error
    is_proxied = urlsplit(endpoint.url).scheme in getproxies() and not proxy_bypass(target.host)
    if is_proxied and route.provider not in OWN_PROVIDERS:
        raise _NotDirectError(f"{target.host} is reached through a proxy")


async def _ask_litellm(route: Route, base: str | None, key: str) -> Endpoint:
    """Return what litellm says; the key goes over a pipe, never into an argument list.

    Raises:
        _NotDirectError: litellm has no such endpoint, or gave no answer.
    """
    question = orjson.dumps({"litellm_model": route.litellm_model, "base": base, "key": key})
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "millstream_generator.resolve"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(ASK_S):
            output, _ = await process.communicate(question)
    except TimeoutError as error:
        raise _NotDirectError(f"litellm did not tell its endpoint within {ASK_S:g} s") from error
    finally:
        with contextlib.suppress(ProcessLookupError):  # it has ended by itself
            process.kill()
        await process.wait()
    lines = output.splitlines()
    if process.returncode or not lines:
        raise _NotDirectError(f"asking litellm for its endpoint ended with {process.returncode}")
    answer = orjson.loads(lines[-1])
    if answer["endpoint"] is None:
        raise _NotDirectError(answer["reason"])
    return Endpoint(**answer["endpoint"])
