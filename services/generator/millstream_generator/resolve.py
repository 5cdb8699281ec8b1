"""Asks litellm for the endpoint of a route: ``python -m millstream_generator.resolve``.

litellm knows each provider's URL, headers and parameter names. Reads one JSON document from stdin
({"litellm_model", "base", "key"}) and writes one to stdout: the endpoint, or null and the reason.
"""

import json
import sys
from typing import Any
from urllib.parse import urlsplit

from millstream_generator.endpoints import PARAMETERS
from millstream_generator.litellm_setup import litellm

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
_PROBES: dict[str, Any] = dict(
    zip(PARAMETERS, (7919, 0.7919, 0.6907, 104729, _FORMAT), strict=True)
)


class NotPlainError(Exception):
    """litellm does more for this route than to pass a request on."""


def resolve(litellm_model: str, base: str | None, key: str) -> dict[str, Any]:
    """Return the fields of the route's ``Endpoint``.

    Raises:
        NotPlainError: a request can't be sent without litellm; says why.
    """
    model, provider, _, known_base = litellm.get_llm_provider(
        litellm_model, api_base=base, api_key=key
    )
    base = base or known_base or KNOWN_BASES.get(provider)
    config = litellm.utils.ProviderConfigManager.get_provider_chat_config(
        model=model, provider=litellm.types.utils.LlmProviders(provider)
    )
    if base is None or not isinstance(config, litellm.OpenAIGPTConfig):
        raise NotPlainError(f"{provider} has a form of its own")
    names = _names(config, model)
    if "response_format" not in names:
        raise NotPlainError(f"{provider} takes no output schema as it is")
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
        raise NotPlainError(f"{provider} calls another host than its base")
    body = config.transform_request(
        model=model, messages=_MESSAGES, optional_params={}, litellm_params={}, headers={}
    )
    if body.get("messages") != _MESSAGES or set(body) - {"model", "messages"}:
        raise NotPlainError(f"{provider} has requests of a form of its own")
    plain = {str(name): str(value) for name, value in headers.items()}
    return {"url": str(url), "headers": plain, "model": str(body["model"]), "names": names}


def _names(config: Any, model: str) -> dict[str, str]:
    """Return parameter -> name there."""
    mapped = config.map_openai_params(
        non_default_params=dict(_PROBES), optional_params={}, model=model, drop_params=True
    )
    names: dict[str, str] = {}
    for name, value in mapped.items():
        ours = [key for key, probe in _PROBES.items() if probe == value]
        if len(ours) != 1:
            raise NotPlainError(f"the parameter {name} has a form of its own")
        names[ours[0]] = name
    return names


def _main() -> None:
    answer: dict[str, Any] = {"endpoint": None, "reason": ""}
    try:
        answer["endpoint"] = resolve(**json.loads(sys.stdin.read()))
    except Exception as error:  # noqa: BLE001  # litellm's own classes, undocumented here
        name = "" if isinstance(error, NotPlainError) else f"{type(error).__name__}: "
        answer["reason"] = f"{name}{error}"
    sys.stdout.write(f"\n{json.dumps(answer)}\n")


if __name__ == "__main__":
    _main()
