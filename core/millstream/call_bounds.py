"""The most that one call of a batch can use, and whether the batch's budgets have room for it."""

import hashlib
import json
import threading
from collections.abc import Iterator

from millstream.domain.budget import CallBound
from millstream.domain.plan import Plan
from millstream.errors import UsageError
from millstream.prices import NANO_USD_PER_USD
from millstream.recipe_prompts import (
    FEEDBACK_CHARACTERS_MAX,
    max_tokens,
    render,
    response_format,
)
from millstream.wording import dollars
from millstream_schemas.control import BatchSpec
from millstream_schemas.recipes import Cell, PinnedRecipe
from millstream_schemas.routes import Route

SEED_LONGEST = 2**63 - 1
MESSAGE_TOKENS = 16
"""What a chat template adds to a message, at most."""
ANSWER_LIMITS = ("max_tokens", "max_completion_tokens", "max_output_tokens")
_KEPT = 256
_SEARCH_MOST = 20_000_000
"""Characters of a recipe times its cells: less than a second to search through."""

_OF_PROMPTS = {
    "recipe",
    "topic",
    "difficulty",
    "sample_type",
    "instruction",
    "max_attempts",
}
"""What of a spec its prompts are made from."""

_known: dict[bytes, int] = {}
"""The longest prompts of the last batches: to find one takes 0.2 ms per cell of the recipe."""
_lock = threading.Lock()
_searching = threading.Lock()
"""Who asks for what is being searched for waits for that; searches take their processor in turn."""


def call_bound(spec: BatchSpec) -> CallBound:
    """Return the most that one call of the batch can use, on its dearest route.

    Takes processor time in the number of the recipe's cells, the first time.
    """
    tokens_in = _longest_prompt(spec)
    answers = [(route, _answer_tokens(spec, route)) for route in spec.routes]
    costs = [
        None if route.price is None else route.price.cost_nano_usd(tokens_in, tokens_out)
        for route, tokens_out in answers
    ]
    known = [cost for cost in costs if cost is not None]
    return CallBound(
        tokens=tokens_in + max(tokens_out for _, tokens_out in answers),
        cost_nano_usd=max(known) if len(known) == len(costs) else None,
    )


def least_budget(spec: BatchSpec) -> CallBound | None:
    """Return the smallest budgets that let a call start: as ``call_bound``.

    None of a recipe that takes longer than a second to search through.
    """
    return None if _is_large(spec) else call_bound(spec)


def check_budgets(spec: BatchSpec) -> None:
    """Refuse a budget that lets no call start; takes time as ``call_bound``, a second at most.

    Of a recipe that would take longer nothing is refused here: the first look at its budgets stops
    such a batch.

    Raises:
        UsageError: one call may use more than a budget has; names the smallest one that is enough.
    """
    budgets = spec.budgets
    bound = least_budget(spec) if budgets.bounds_use else None
    if bound is None:
        return
    if budgets.max_tokens is not None and budgets.max_tokens < bound.tokens:
        raise UsageError(
            f"budgets.max_tokens={budgets.max_tokens} lets no call start: one call of this batch "
            f"may use up to {bound.tokens} tokens; give at least {bound.tokens}, or leave the "
            "budget out",
            field="budgets.max_tokens",
            value=budgets.max_tokens,
        )
    cost, most = bound.cost_nano_usd, budgets.max_cost_nano_usd
    if cost is not None and most is not None and most < cost:
        raise UsageError(
            f"budgets.max_cost_usd={dollars(most)} lets no call start: one call of this batch may "
            f"cost up to ${dollars(cost)}; give at least {dollars(cost)}, or leave the budget out",
            field="budgets.max_cost_usd",
            value=most / NANO_USD_PER_USD,
        )


def _longest_prompt(spec: BatchSpec) -> int:
    """Return more tokens than any prompt of the batch has."""
    key = hashlib.sha256(spec.model_dump_json(include=_OF_PROMPTS).encode()).digest()
    found = _recalled(key)
    if found is not None:
        return found
    with _searching:
        found = _recalled(key)  # another thread may have searched for the same meanwhile
        if found is not None:
            return found
        # A copy: what is kept with a recipe for its calls is of no use to whoever makes none.
        pinned = spec.recipe.model_copy()
        found = max(_prompt_tokens(spec, pinned, cell) for cell, _ in Plan(spec).quotas())
        with _lock:
            if len(_known) >= _KEPT:
                del _known[next(iter(_known))]
            _known[key] = found
    return found


def _recalled(key: bytes) -> int | None:
    with _lock:
        return _known.get(key)


def _is_large(spec: BatchSpec) -> bool:
    return len(Plan(spec).quotas()) * len(spec.recipe.model_dump_json()) > _SEARCH_MOST


def _prompt_tokens(spec: BatchSpec, pinned: PinnedRecipe, cell: Cell) -> int:
    """Return more tokens than any prompt of the cell has: no token is less than a byte.

    Every letter of the longest feedback may take four bytes.
    """
    feedback = "\U0001f600" * FEEDBACK_CHARACTERS_MAX
    messages = render(pinned, cell, spec.instruction, SEED_LONGEST, spec.max_attempts, feedback)
    size = sum(len(message["content"].encode()) + MESSAGE_TOKENS for message in messages)
    if pinned.recipe.structured:
        asked = json.dumps(response_format(pinned, cell), ensure_ascii=False)
        size += len(asked.encode())
    return size


def _answer_tokens(spec: BatchSpec, route: Route) -> int:
    """Return the most that an answer can have; a route's own limit takes the recipe's place."""
    return max([max_tokens(spec.recipe), *_own_limits(route)])


def _own_limits(route: Route) -> Iterator[int]:
    for name in ANSWER_LIMITS:
        limit = route.parameters.get(name)
        if isinstance(limit, int):
            yield limit
