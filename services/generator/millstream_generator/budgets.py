"""Watching a batch's budgets: warn at 80 %, stop when nothing is left, and what a call may cost."""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace

import structlog

from millstream.domain import budget
from millstream.domain.batch_state import BatchState
from millstream.domain.budget import CallBound
from millstream.domain.decide import Stamp
from millstream.domain.phases import LEGAL
from millstream.domain.plan import Plan
from millstream.errors import ConflictError
from millstream.eventlog.log import EventLog
from millstream_generator import prompts
from millstream_generator.grants import Purse
from millstream_generator.node import Node
from millstream_schemas import control, notes, subjects
from millstream_schemas.control import BatchSpec, Budgets
from millstream_schemas.recipes import Cell
from millstream_schemas.routes import Route

log = structlog.get_logger()

SEED_LONGEST = 2**63 - 1
MESSAGE_TOKENS = 16
"""What a chat template adds to a message, at most."""
ANSWER_LIMITS = ("max_tokens", "max_completion_tokens", "max_output_tokens")


class BudgetWatch:
    """Appends the warnings and stops that budgets ask for; fenced, so that two write one."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._log: EventLog = node.event_log

    async def look(self, state: BatchState, as_of: int, purse: Purse | None) -> bool:
        """Warn or stop where it is time; tell whether the batch was stopped.

        Raises:
            LogUnavailableError: nothing was appended, or its answer was lost.
        """
        budgets, now = state.spec.budgets, await self._node.log_time()
        reason = budget.overdrawn(budgets, state, now)
        if reason is None and purse is not None and purse.is_spent(state, as_of):
            reason = budget.spent_up(budgets, state, purse.bound, purse.reserved(state))
        shares = budget.used(budgets, state, purse.bound if purse else None, now)
        for name, share in shares.items():
            if share >= budget.WARN_AT and name not in state.budgets_warned:
                await self._warn(state, name, share)
                break  # one note at a time: the next waits for this one's sequence
        return reason is not None and await self._stop(state, reason)

    async def _warn(self, state: BatchState, name: budget.Budget, share: float) -> None:
        subject = subjects.note(state.batch_id)
        note = notes.BudgetWarned(
            **self._stamp(state).envelope(state.batch_id, subject),
            budget=name,
            used=round(share, 4),
        )
        try:
            await self._log.append(note, expected=state.note_sequence)
        except ConflictError:
            log.debug("budget.warned_by_other", batch_id=state.batch_id, budget=name)
            return
        log.warning("budget.warned", batch_id=state.batch_id, budget=name, used=share)

    async def _stop(self, state: BatchState, reason: str) -> bool:
        if state.phase not in LEGAL[control.BatchStopRequested]:
            return False
        stop = control.BatchStopRequested(
            **self._stamp(state).control(state.batch_id), reason=reason[:500]
        )
        try:
            await self._log.append(stop, expected=state.control_sequence)
        except ConflictError:
            log.debug("budget.stopped_by_other", batch_id=state.batch_id)
            return False
        log.warning("budget.used_up", batch_id=state.batch_id, reason=reason)
        return True

    def _stamp(self, state: BatchState) -> Stamp:
        return replace(self._node.stamp(causation_id=state.batch_id), actor=budget.BUDGETS_ACTOR)


def is_any(budgets: Budgets) -> bool:
    """Tell whether anything is bounded at all."""
    return budgets != Budgets()


async def call_bound(spec: BatchSpec) -> CallBound:
    """Return the most that one call of the batch can use, on its dearest route."""
    return await asyncio.to_thread(_call_bound, spec)


def _call_bound(spec: BatchSpec) -> CallBound:
    tokens_in = max(_prompt_tokens(spec, cell) for cell, _ in Plan(spec).quotas())
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


def _prompt_tokens(spec: BatchSpec, cell: Cell) -> int:
    """Return more tokens than any prompt of the cell has: no token is less than a byte.

    Every letter of the longest feedback may take four bytes.
    """
    feedback = "\U0001f600" * prompts.FEEDBACK_CHARACTERS_MAX
    messages = prompts.render(
        spec.recipe, cell, spec.instruction, SEED_LONGEST, spec.max_attempts, feedback
    )
    size = sum(len(message["content"].encode()) + MESSAGE_TOKENS for message in messages)
    if spec.recipe.recipe.structured:
        asked = json.dumps(prompts.response_format(spec.recipe, cell), ensure_ascii=False)
        size += len(asked.encode())
    return size


def _answer_tokens(spec: BatchSpec, route: Route) -> int:
    """Return the most that an answer can have; a route's own limit takes the recipe's place."""
    return max([prompts.max_tokens(spec.recipe), *_own_limits(route)])


def _own_limits(route: Route) -> Iterator[int]:
    for name in ANSWER_LIMITS:
        limit = route.parameters.get(name)
        if isinstance(limit, int):
            yield limit
