"""One slot's way to a model: which of the alias's routes, when, and what failures follow from."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from millstream.domain import route_health as health
from millstream.runtime.clock import boot_seconds
from millstream_generator.calls import Call
from millstream_generator.completion import CallFailedError
from millstream_generator.gate import Gate
from millstream_generator.held import HeldBatch
from millstream_generator.node import Node
from millstream_generator.policy import (
    ATTEMPTS_MOST,
    FAILOVER,
    OUTAGE,
    SUSPECT,
    THROTTLE_MOST_S,
    Retry,
    Streak,
    after_failure,
    pause_s,
    uses_attempt,
)
from millstream_generator.turns import Turn, Waiter
from millstream_schemas.routes import Route

LOOK_S = 0.25


class SlotRoute:
    """Chooses a slot's route and gets its turns there.

    The first route that takes calls is taken; one that this slot has failed on comes after those
    that it has not tried yet.
    """

    def __init__(
        self,
        node: Node,
        batch: HeldBatch,
        slice_index: int,
        announce: Callable[[], Awaitable[None]],
    ) -> None:
        """Serve a slot of a slice, which does ``announce`` when its turn is near."""
        self._node = node
        self._batch = batch
        self._slice_index = slice_index
        self._announce = announce
        self._gates = batch.gates
        self._tried: set[int] = set()
        self._refused: set[int] = set()
        self._waiter: Waiter | None = None
        self._asked_at: float | None = None
        self._throttled_at: float | None = None
        self._throttled_s = 0.0
        self._losses = 0
        self._streaks = [Streak() for _ in self._gates]
        self.index = 0
        self.wait_s: float | None = None
        """How long the last call waited for its turn; None: not at all."""

    @property
    def route(self) -> Route:
        """The route that was chosen last."""
        return self._batch.spec.routes[self.index]

    @property
    def gate(self) -> Gate:
        """The gate of that route."""
        return self._gates[self.index]

    def choose(self) -> None:
        """Choose the route of the next call."""
        if len(self._gates) == 1:
            return
        index = self._choice()
        if index != self.index:
            self.leave()
            self.index = index

    def _choice(self) -> int:
        is_unknown = self._batch.verdict.is_unknown
        left = [
            index
            for index in range(len(self._gates))
            if index not in self._refused and not is_unknown(index)
        ] or list(range(len(self._gates)))
        if self._tried.issuperset(left):
            self._tried.clear()
        left.sort(key=lambda index: (index in self._tried, index))
        if self._waiter is not None and self.index in left:
            return self._better(left)
        troubles = {}
        for index in left:
            trouble = self._gates[index].trouble()
            if trouble is None or trouble.wants_probe:
                return index
            troubles[index] = trouble.until
        return min(left, key=lambda index: troubles[index])

    def _better(self, left: list[int]) -> int:
        """Return the route to wait for: as long as it is in trouble, another one may do."""
        if self._gates[self.index].trouble() is None:
            return self.index
        return next((index for index in left if self._gates[index].trouble() is None), self.index)

    async def turn(self, tokens: int) -> Turn | None:
        """Return leave to call on the chosen route; None when there is none for a moment."""
        if self._waiter is None:
            turn = self.gate.try_turn()
            if turn is not None:
                self._note_wait()
                return turn
            self._waiter = self.gate.queue(tokens, self._batch.batch_id, self._slice_index)
            self._asked_at = self._asked_at or boot_seconds()
        waiter = self._waiter
        with self._node.room.resting(), Call(self._batch.rests):
            signs: list[asyncio.Future[Any]] = [waiter.granted, waiter.near]
            await asyncio.wait(signs, timeout=LOOK_S, return_when=asyncio.FIRST_COMPLETED)
            if waiter.near.done() and not waiter.granted.done():
                await self._announce()
                await asyncio.wait([waiter.granted], timeout=LOOK_S)
        if not waiter.granted.done():
            return None
        self._waiter = None
        self._note_wait()
        return waiter.granted.result()

    def _note_wait(self) -> None:
        asked_at, self._asked_at = self._asked_at, None
        self.wait_s = None if asked_at is None else round(boot_seconds() - asked_at, 3)
        if self._throttled_at is not None:
            self._throttled_s += boot_seconds() - self._throttled_at
            self._throttled_at = None

    def leave(self) -> None:
        """Leave the line, if this slot stands in one."""
        if self._waiter is not None:
            self.gate.leave(self._waiter)
            self._waiter = None

    def after(
        self, failure: CallFailedError, turn: Turn, attempt: int, *, was_answered: bool
    ) -> tuple[Retry | None, bool]:
        """Return (what follows from a failure of the slot, whether it used an attempt up).

        Args:
            failure: What happened.
            turn: The turn of the call.
            attempt: The attempt's number.
            was_answered: Whether any call of the batch was.
        """
        held_s = self.gate.condition.note_failure(turn, failure, self.gate.in_flight)
        counts = uses_attempt(
            failure,
            is_common=failure.category in OUTAGE and self._is_common(failure, turn, attempt),
            was_answered=was_answered,
            losses=self._losses,
        )
        self._losses += failure.link == "lost"
        if failure.category == "rate_limit":
            return self._after_limit(held_s), counts
        if failure.category in FAILOVER and self._fail_over(failure):
            return Retry(0.0), counts
        failures = self._streaks[self.index].failures
        most, chance = self._batch.spec.max_attempts, self._node.chance
        if counts:
            return after_failure(failure, attempt, most, chance), counts
        again_s = 0.0 if held_s else pause_s(failure, max(1, failures), chance)
        return Retry(again_s, held_s), counts

    def _is_common(self, failure: CallFailedError, turn: Turn, attempt: int) -> bool:
        """Tell whether the present route may fail every call just now, not this slot's alone.

        It may when its circuit is open, unless it has answered others since this slot failed first:
        of many slots that fail the circuit opens with a few. Before that a slot's last attempt is
        kept for it while the route answers no later call; those before are used up: each has its
        own seed. Where there is no other slot to ask for, nothing ever tells the two apart: it is
        the slot's own doing.
        """
        if failure.link == "refused":  # no request can have done that
            return True
        condition, streak = self.gate.condition, self._streaks[self.index]
        has_failed = streak.failures > 0
        is_answering = streak.note(turn.started_at, condition.now(), condition.answered_from)
        if has_failed and is_answering:
            return False
        most = min(self._batch.spec.max_attempts, ATTEMPTS_MOST[failure.category])
        is_down = condition.is_open or (attempt >= most and not is_answering)
        return is_down and self._batch.spec.target > 1

    def witness(self, turn: Turn, slot: int) -> int | None:
        """Return the slot to ask for in place of ``slot``; None: its own request may go.

        A probe whose own request may be what fails would keep the circuit open for ever; so would
        many such slots in turn, each of which has hardly failed yet.
        """
        target, known = self._batch.spec.target, self._batch.answered_slot
        if not turn.is_probe or target == 1:
            return None
        first_s = self._node.settings.probe_after_s
        failed_probes = health.failed_probes(self.gate.condition.state, first_s)
        if max(failed_probes, self._streaks[self.index].failures) < SUSPECT:
            return None
        if known not in {None, slot}:
            return known
        return (slot + self._node.chance.randrange(1, target)) % target

    def note_refusals(self) -> None:
        """Take it that a key which was refused to another batch just now is refused to this one."""
        for index, gate in enumerate(self._gates):
            refusal = gate.condition.refusal
            if refusal is not None and refusal[0] >= self._batch.held_since:
                self._batch.verdict.note_refusal(refusal[1], index)

    def _after_limit(self, held_s: float) -> Retry | None:
        if self._throttled_s >= THROTTLE_MOST_S:
            return None
        self._throttled_at = boot_seconds()
        others = (gate for index, gate in enumerate(self._gates) if index != self.index)
        return Retry(0.0, 0.0 if any(gate.trouble() is None for gate in others) else held_s)

    def _fail_over(self, failure: CallFailedError) -> bool:
        """Take the present route out of the next choice; False when no other one is left."""
        if failure.category == "invalid_request":
            self._refused.add(self.index)
        elif failure.category in OUTAGE:
            self._tried.add(self.index)
        out = self._refused | self._tried | {self.index}
        return any(
            self._gates[index].trouble() is None
            for index in range(len(self._gates))
            if index not in out
        )
