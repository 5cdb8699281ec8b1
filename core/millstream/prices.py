"""List prices of models, from the price map that comes with litellm, read without importing it.

Importing litellm costs seconds and 150 MB; its map is a JSON file beside its code.
"""

import functools
import importlib.util
import json
from pathlib import Path
from typing import Any

import structlog

from millstream_schemas.routes import Price

log = structlog.get_logger()

PRICE_FILE = "model_prices_and_context_window_backup.json"
NANO_USD_PER_USD = 1_000_000_000


def price_of(litellm_model: str, provider: str) -> Price | None:
    """Return the list price of a model, None when nobody knows it: unknown is not zero."""
    entry = _entry(litellm_model, provider)
    incoming = entry.get("input_cost_per_token")
    outgoing = entry.get("output_cost_per_token")
    if not isinstance(incoming, int | float) or not isinstance(outgoing, int | float):
        return None
    return Price(
        input_nano_usd_per_1k=_per_1k(float(incoming)),
        output_nano_usd_per_1k=_per_1k(float(outgoing)),
    )


def context_window_of(litellm_model: str, provider: str) -> int | None:
    """Return how many tokens a prompt may have, None when nobody knows."""
    tokens = _entry(litellm_model, provider).get("max_input_tokens")
    return tokens if isinstance(tokens, int) else None


def _per_1k(usd_per_token: float) -> int:
    return round(usd_per_token * 1000 * NANO_USD_PER_USD)


def _entry(litellm_model: str, provider: str) -> dict[str, Any]:
    """Return the map's entry; some providers' models stand there without their prefix."""
    prices = _price_map()
    entry = prices.get(litellm_model)
    if entry is None:
        bare = prices.get(litellm_model.removeprefix(f"{provider}/"), {})
        entry = bare if bare.get("litellm_provider") == provider else {}
    return entry


@functools.cache
def _price_map() -> dict[str, dict[str, Any]]:
    """Read the map once, when the first price is asked for; empty when litellm is missing."""
    spec = importlib.util.find_spec("litellm")
    if spec is None or spec.origin is None:
        log.warning("prices.missing", reason="litellm is not installed; prices are unknown")
        return {}
    path = Path(spec.origin).with_name(PRICE_FILE)
    try:
        found: dict[str, dict[str, Any]] = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        log.warning("prices.unreadable", path=str(path), reason=str(error))
        return {}
    return found
