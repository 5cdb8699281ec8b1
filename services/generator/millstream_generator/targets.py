"""Where a route's calls go and with which key, as this node knows it."""

import os

from millstream.bases import unreachable
from millstream.keys import BrokenKeyError, key_of
from millstream.runtime.settings import Settings
from millstream_generator.completion import CallFailedError
from millstream_schemas.routes import Route

NO_KEY = "none"
"""Endpoints without a key still need a non-empty one in the OpenAI client."""
_BASES = {"ai21": "https://api.ai21.com/studio/v1"}
"""Providers whose key litellm would send to OpenAI when it is given no address."""


class Targets:
    """Resolves bases and keys; keys stay in this process's environment."""

    def __init__(self, settings: Settings) -> None:
        self._bases = {
            provider: f"{url.rstrip('/')}/v1"
            for provider, url in (
                ("simulated", settings.simulated_url),
                ("local", settings.local_url),
            )
            if url is not None
        }

    def base(self, route: Route) -> str | None:
        """Return the base URL of a route; None where litellm decides.

        This node's own servers come first: a batch may have been started when they had other
        addresses.

        Raises:
            CallFailedError: the route needs a server of Millstream's that this node lacks, or its
                base, pinned before bases were looked at, can't be called.
        """
        default = _BASES.get(route.litellm_model.partition("/")[0])
        base = self._bases.get(
            route.provider, default if route.api_base is None else route.api_base
        )
        if base is None and route.provider in {"simulated", "local"}:
            raise CallFailedError(
                "invalid_request",
                f"model {route.model} has no server on this node: set "
                f"MILLSTREAM_{route.provider.upper()}_URL, or start it with `millstream up`",
                status_code=404,
                is_unpaid=True,
            )
        reason = "" if base is None else unreachable("api_base", base)
        if reason:
            raise CallFailedError("invalid_request", reason, status_code=404, is_unpaid=True)
        return base

    @staticmethod
    def key(route: Route) -> str:
        """Return the API key of a route.

        Raises:
            CallFailedError: the variable that should hold it is not set on this node, or holds
                what no request can carry.
        """
        if route.api_key_env is None:
            return NO_KEY
        try:
            key = key_of(os.environ, route.api_key_env)
        except BrokenKeyError as error:
            raise _no_key(f"the API key for {route.model} can't be sent: {error}") from error
        if not key:
            raise _no_key(
                f"no API key for {route.model}: set {route.api_key_env} where the generator runs"
            )
        return key


def _no_key(message: str) -> CallFailedError:
    return CallFailedError("auth", message, status_code=401, is_unpaid=True)
