"""Model aliases from a TOML file (``MILLSTREAM_MODELS_FILE``).

[[models]]
id = "my-model"
name = "My model"                    # optional
[[models.routes]]                    # tried in order
litellm_model = "openai/my-model"
api_base = "http://10.0.0.5:8000/v1" # optional; without user, query and fragment
api_key_env = "MY_KEY"               # optional: the variable, never the key itself
input_usd_per_million = 0.15         # optional, with output_usd_per_million
output_usd_per_million = 0.60
rpm = 600                            # optional limits, shared by all generators: requests
tpm = 200000                         # and tokens per minute,
max_concurrency = 32                 # and calls in flight
"""

import tomllib
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from millstream.bases import refusal
from millstream.errors import SettingsError
from millstream.known_models import PROVIDER_KEYS
from millstream.parameters import parameters_refusal
from millstream_schemas.routes import ModelAlias, Price, Route

_NANO_PER_1K = 1_000_000
"""USD per million tokens -> nano-USD per thousand."""
USD_MOST = 1_000_000
"""Of a price per million tokens: a dollar a token, far beyond any price."""
_SECRET_FIELDS = frozenset({"api_key", "key", "token", "password"})


def read_models(path: Path) -> list[ModelAlias]:
    """Return the aliases of a models file, in its order.

    Raises:
        SettingsError: it can't be read or used; names the file, the field, the value and what
            to write instead.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise _broken(path, f"can't be read ({error.strerror}); correct the path") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _broken(path, f"is not valid TOML: {error}; correct it") from error
    models = document.get("models")
    if not isinstance(models, list) or set(document) != {"models"}:
        raise _broken(path, "must hold [[models]] tables and nothing else")
    found = [_alias(path, index, entry) for index, entry in enumerate(models)]
    names = [alias.id for alias in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise _broken(path, f"id {twice!r} stands twice; name each model once")
    return found


def _alias(path: Path, index: int, entry: Any) -> ModelAlias:
    where = f"models[{index}]"
    fields = _table(path, where, entry)
    routes = fields.get("routes")
    if not isinstance(routes, list) or not routes:
        raise _broken(path, f"{where}.routes is missing; add a [[models.routes]] table")
    _refuse_unknown(path, where, fields, set(ModelAlias.model_fields))
    of = f"{where} ({fields['id'][:80]!r})" if isinstance(fields.get("id"), str) else where
    made = [_route(path, f"{of}.routes[{at}]", route) for at, route in enumerate(routes)]
    try:
        return ModelAlias.model_validate({"name": fields.get("id"), **fields, "routes": made})
    except ValidationError as error:
        raise _broken(path, _first(where, error)) from error


def _route(path: Path, where: str, entry: Any) -> Route:
    fields = dict(_table(path, where, entry))
    for name in _SECRET_FIELDS & set(fields):
        raise _broken(
            path,
            f"{where}.{name} holds a secret; put it into an environment variable and name that "
            "one with api_key_env",
        )
    _check_address(path, where, fields)
    prices = ("input_usd_per_million", "output_usd_per_million")
    amounts = [fields.pop(name, None) for name in prices]
    if any(amount is not None for amount in amounts):
        if not all(
            isinstance(amount, int | float) and 0 <= amount <= USD_MOST for amount in amounts
        ):
            raise _broken(
                path, f"{where}: give both {' and '.join(prices)} as numbers from 0 to {USD_MOST:,}"
            )
        fields["price"] = Price(
            input_nano_usd_per_1k=round(amounts[0] * _NANO_PER_1K),
            output_nano_usd_per_1k=round(amounts[1] * _NANO_PER_1K),
        )
    _refuse_unknown(path, where, fields, set(Route.model_fields) | set(prices))
    name = str(fields.get("litellm_model", ""))
    provider = str(fields.get("provider") or name.partition("/")[0])
    fields.setdefault("model", name)
    fields["provider"] = provider
    is_own = provider in {"simulated", "local"}  # whose address and key each node knows
    if not is_own and "api_base" not in fields and "api_key_env" not in fields:
        # The key of the company that is called, whatever the route is labelled.
        called = name.partition("/")[0]
        fields["api_key_env"] = PROVIDER_KEYS.get(called, PROVIDER_KEYS.get(provider))
    try:
        return Route.model_validate(fields)
    except ValidationError as error:
        raise _broken(path, _first(where, error)) from error


def _check_address(path: Path, where: str, fields: dict[str, Any]) -> None:
    """Refuse what would lead a key elsewhere than it is meant to go, or put one into the log."""
    base = fields.get("api_base")
    reason = refusal(f"{where}.api_base", base) if isinstance(base, str) else ""
    if reason:
        raise _broken(path, reason)
    reason = parameters_refusal(f"{where}.parameters", fields.get("parameters"))
    if reason:
        raise _broken(path, reason)


def _table(path: Path, where: str, entry: Any) -> dict[str, Any]:
    if not isinstance(entry, dict):
        raise _broken(path, f"{where}={str(entry)[:80]!r} is not a table; write [[models]]")
    return entry


def _refuse_unknown(path: Path, where: str, fields: dict[str, Any], known: set[str]) -> None:
    for name in fields:
        if name not in known:
            raise _broken(path, f"{where}.{name} is unknown; use {', '.join(sorted(known))}")


def _first(where: str, error: ValidationError) -> str:
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"])
    if first["type"] == "missing":
        return f"{where}.{field} is missing; add it"
    return f"{where}.{field}={str(first['input'])[:80]!r} is not valid: {first['msg']}; correct it"


def _broken(path: Path, reason: str) -> SettingsError:
    return SettingsError(f"models file {path} (MILLSTREAM_MODELS_FILE) {reason}")
