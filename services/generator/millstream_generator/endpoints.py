"""From a route to an OpenAI-compatible endpoint, as litellm would call it.

litellm knows each provider's URL, headers and parameter names. It is asked once per route; a
route that it does not translate one to one has no endpoint and goes through litellm itself.
"""

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import structlog

from millstream_generator.litellm_setup import litellm
from millstream_schemas.routes import Route

log = structlog.get_logger()

KNOWN_BASES = {
    "openai": "https://api.openai.com/v1",
    "openrouter": "https://openrouter.ai/api/v1",
}
"""Providers for which litellm names no base of its own."""

_MESSAGES: list[Any] = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
_FORMAT = {
    "type": "json_schema",
    "json_schema": {"name": "probe", "schema": {"type": "object", "properties": {}}},
}
_PROBES: dict[str, Any] = {
    "max_tokens": 7919,
    "temperature": 0.7919,
    "top_p": 0.6907,
    "seed": 104729,
    "response_format": _FORMAT,
}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where and how to call; ``names`` gives each parameter's name there (absent: not taken)."""

    url: str
    headers: dict[str, str]
    model: str
    names: dict[str, str]


def find_endpoint(route: Route, base: str | None, key: str) -> Endpoint | None:
    """Return the endpoint of ``route``, None when only litellm itself can call it."""
    try:
        return _find(route, base, key)
    except Exception as error:  # noqa: BLE001  # litellm's own classes, undocumented here
        log.warning(
            "route.not_direct", model=route.model, reason=f"{type(error).__name__}: {error}"
        )
        return None


def _find(route: Route, base: str | None, key: str) -> Endpoint | None:
    model, provider, _, known_base = litellm.get_llm_provider(
        route.litellm_model, api_base=base, api_key=key
    )
    base = base or known_base or KNOWN_BASES.get(provider)
    config = litellm.utils.ProviderConfigManager.get_provider_chat_config(
        model=model, provider=litellm.types.utils.LlmProviders(provider)
    )
    if base is None or not isinstance(config, litellm.OpenAIGPTConfig):
        return None
    mapped = config.map_openai_params(
        non_default_params=dict(_PROBES), optional_params={}, model=model, drop_params=True
    )
    names = _names({**mapped, **mapped.pop("extra_body", {})})
    if names is None or "response_format" not in names:
        return None
    headers = config.validate_environment(
        headers={},
        model=model,
        messages=_MESSAGES,
        optional_params={},
        litellm_params={},
        api_key=key,
        api_base=base,
    )
    url = config.get_complete_url(
        api_base=base,
        api_key=key,
        model=model,
        optional_params={},
        litellm_params={},
        stream=True,
    )
    # A provider's class that is asked without a base may name another company's address.
    if urlsplit(url).netloc != urlsplit(base).netloc:
        return None
    body = config.transform_request(
        model=model, messages=_MESSAGES, optional_params={}, litellm_params={}, headers={}
    )
    if body.get("messages") != _MESSAGES or set(body) - {"model", "messages"}:
        return None
    plain = {str(name): str(value) for name, value in headers.items()}
    return Endpoint(str(url), plain, str(body["model"]), names)


def _names(mapped: dict[str, Any]) -> dict[str, str] | None:
    """Return parameter -> name there; None when litellm does more than rename."""
    names: dict[str, str] = {}
    for name, value in mapped.items():
        ours = [key for key, probe in _PROBES.items() if probe == value]
        if len(ours) != 1:
            return None
        names[ours[0]] = name
    return names
