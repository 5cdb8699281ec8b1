"""Watching a batch's budgets: warn at 80 %, stop when nothing is left."""

from dataclasses import replace

import structlog

from millstream.domain import budget
from millstream.domain.batch_state import BatchState
from millstream.domain.decide import Stamp
from millstream.domain.phases import LEGAL
from millstream.errors import ConflictError, LogFullError
from millstream.eventlog.log import EventLog
from millstream_generator.grants import Purse
from millstream_generator.node import Node
from millstream_schemas import control, notes, subjects
from millstream_schemas.control import Budgets

log = structlog.get_logger()


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
        except LogFullError as error:  # a stop for this budget still fits
            log.warning("note.not_written", batch_id=state.batch_id, reason=str(error))
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
