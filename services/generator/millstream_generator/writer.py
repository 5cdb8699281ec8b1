"""Appends to one slice: serial, fenced, many outcomes per write."""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from millstream.domain.decide import Stamp
from millstream.errors import ConflictError, LogFullError, LogUnavailableError
from millstream.eventlog.fullness import Fullness
from millstream.eventlog.log import EventLog
from millstream.eventlog.stored import decode
from millstream_generator.allowance import Allowance
from millstream_generator.calls import Call
from millstream_generator.in_flight import CountedCall, InFlight
from millstream_generator.measures import Tally
from millstream_generator.steps import Step, announced
from millstream_schemas import subjects
from millstream_schemas.slices import SliceEvent, SliceState

log = structlog.get_logger()

CHAIN_MOST = 64
FULL_WAIT_S = 1.0
NEVER = datetime.min.replace(tzinfo=UTC)


class LeaseLostError(Exception):
    """Another node, or the stop fence, wrote to the slice: this holder must drop it."""


@dataclass(slots=True, eq=False)
class _Entry:
    """One call of ``record``; ``turn`` is set once it is stored, or may write itself."""

    steps: tuple[Step, ...]
    is_stored: bool = False
    turn: asyncio.Future[None] | None = None

    def wake(self) -> bool:
        """Let a waiting call go on; False when none waits."""
        if self.turn is None or self.turn.done():
            return False
        self.turn.set_result(None)
        return True


@dataclass(frozen=True, slots=True)
class _Chain:
    """One atomic batch, and the calls of ``record`` that it settles."""

    events: list[SliceEvent]
    entries: list[_Entry]


class SliceWriter:
    """The only writer of a slice on this node.

    While one append is under way, further outcomes wait and go out together in the next: one
    atomic batch in which only the first message carries the expected sequence.
    """

    def __init__(  # noqa: PLR0917
        self,
        event_log: EventLog,
        batch_id: str,
        index: int,
        make_stamp: Callable[[], Stamp],
        tally: Tally,
        fullness: Fullness,
        in_flight: InFlight | None = None,
    ) -> None:
        self._log = event_log
        self._tally = tally
        self._fullness = fullness
        self._batch_id = batch_id
        self._index = index
        self._make_stamp = make_stamp
        self.subject = subjects.slice_(batch_id, index)
        self._pending: list[_Entry] = []
        self._unsettled: _Chain | None = None
        self._is_writing = False
        self.state = SliceState()
        self.sequence = 0
        self.written_at = NEVER
        """When its tail was written that was loaded, by the clock of whoever wrote it."""
        self.last_id = ""
        self.is_lost = False
        self.allowance = Allowance()
        self.in_flight = in_flight or InFlight()
        self._untold_calls = 0
        self.unmeasured_calls = 0
        """Calls of which no provider said what they used; the next event counts them."""

    async def load(self) -> None:
        """Start from the slice's tail, read from its leader; forgets what was not stored."""
        self.state, self.sequence, self.written_at = await self._tail()
        self._pending, self._unsettled, self.is_lost = [], None, False
        self.in_flight.reset()

    async def confirm(self) -> None:
        """Read the tail again; raises LeaseLostError when the slice was claimed or closed since.

        The epoch tells, not the sequence: that may have grown by an append of ours under way.
        """
        state, _, _ = await self._tail()
        if state.epoch != self.state.epoch or state.closed:
            raise LeaseLostError(f"{self.subject} was written while the lease was out")

    async def _tail(self) -> tuple[SliceState, int, datetime]:
        stored = await self._log.last(self.subject)
        if stored is None:
            return SliceState(), 0, NEVER
        recorded = decode(stored)
        if recorded is None or not isinstance(recorded.event, SliceEvent):
            raise LeaseLostError(f"{self.subject} ends with an event this version can't read")
        return recorded.event.after, stored.sequence, recorded.event.time

    async def record(self, *steps: Step) -> None:
        """Store the events of ``steps``; returns once they are durable.

        An answer that was paid for waits here as long as the log is away or full. Cancelled, the
        events may or may not be stored; the slice goes on either way.

        Raises:
            LeaseLostError: the slice is not ours any more; nothing of this call was stored.
        """
        entry = _Entry(steps)
        self._pending.append(entry)
        while not entry.is_stored:
            if self._is_writing:
                await self._wait_turn(entry)
                continue
            self._is_writing = True
            try:
                await self._flush()
            finally:
                self._is_writing = False
                self._pass_on()

    def lose_calls(self, calls: int) -> None:
        """Count calls that were made and have no event; the next event tells how many."""
        self._untold_calls += calls
        self.in_flight.lose(calls)

    async def announce(self) -> None:
        """Let the next call begin without a wait, once an event counts it; raises as ``count``."""
        if not self.in_flight.has_room:
            self.in_flight.waiting += 1
            try:
                await self.record()
            finally:
                self.in_flight.waiting -= 1

    async def count(self, call: CountedCall, rests: set[Call]) -> bool:
        """Begin a call as an event that counts it is stored; False when a stop came first.

        Raises:
            LeaseLostError: the slice is not ours any more.
        """
        self.in_flight.waiting += 1
        try:
            with Call(rests):
                while not call.begin():
                    await self.record()
                return True
            return False
        finally:
            self.in_flight.waiting -= 1

    async def _wait_turn(self, entry: _Entry) -> None:
        """Return when ``entry`` is stored, or when it may be its turn to write."""
        entry.turn = asyncio.get_running_loop().create_future()
        try:
            await entry.turn
        except asyncio.CancelledError:
            if entry.turn.done() and not self._is_writing:
                self._pass_on(besides=entry)  # the turn came together with the cancellation
            raise

    def _pass_on(self, besides: _Entry | None = None) -> None:
        """Let one who still waits write next; once the slice is lost, all learn of it."""
        unsettled = self._unsettled.entries if self._unsettled is not None else []
        for entry in (*unsettled, *self._pending):
            if entry is not besides and entry.wake() and not self.is_lost:
                return

    async def _flush(self) -> None:
        if self.is_lost:
            raise LeaseLostError(self.subject)
        if self._unsettled is None:
            await self._log.until_idle()
            if self.in_flight.is_enough and not any(entry.steps for entry in self._pending):
                self._settle(self._pending)  # an event that was under way counts them too
                self._pending = []
                return
            self._unsettled = self._next_chain()
        chain = self._unsettled
        try:
            # Cancelled here, the chain stays as it is: the next to write repeats it, and its ids
            # tell whether it had been stored.
            self.sequence = await self._append(chain.events)
        except ConflictError as error:
            self.is_lost = True
            raise LeaseLostError(str(error)) from error
        self._unsettled = None
        self.state, self.last_id = chain.events[-1].after, chain.events[-1].id
        self.in_flight.stored()
        self._tally.note(chain.events)
        self._settle(chain.entries)

    @staticmethod
    def _settle(entries: list[_Entry]) -> None:
        for entry in entries:
            entry.is_stored = True
            entry.wake()

    def _next_chain(self) -> _Chain:
        entries = self._pending[:CHAIN_MOST]
        events: list[SliceEvent] = []
        state = self._with_untold(self.state)
        in_flight = self.in_flight.announce(sum(bool(entry.steps) for entry in entries))
        if state.in_flight != in_flight:
            state = state.model_copy(update={"in_flight": in_flight})
        stamp = self._make_stamp()
        for step in [step for entry in entries for step in entry.steps] or [announced]:
            envelope = stamp.envelope(self._batch_id, self.subject)
            event = step(state, {**envelope, "slice": self._index})
            state = event.after
            events.append(event)
        del self._pending[: len(entries)]
        return _Chain(events, entries)

    def _with_untold(self, state: SliceState) -> SliceState:
        """Count calls that may have been paid though nothing tells of them."""
        untold, unmeasured = self._untold_calls, self.unmeasured_calls
        if not untold and not unmeasured:
            return state
        self._untold_calls = self.unmeasured_calls = 0
        left = None if state.allowance is None else max(0, state.allowance - untold)
        unconfirmed = state.unconfirmed + untold + unmeasured
        return state.model_copy(update={"unconfirmed": unconfirmed, "allowance": left})

    async def _append(self, chain: list[SliceEvent]) -> int:
        with contextlib.ExitStack() as waiting:
            is_refused = False
            while True:
                try:
                    return await self._log.append_chain(chain, expected=self.sequence)
                except LogUnavailableError as error:
                    log.warning("append.waiting", subject=self.subject, reason=str(error))
                except LogFullError as error:
                    reason = str(error)
                    log.error("append.refused", subject=self.subject, reason=reason)  # noqa: TRY400
                    if not is_refused:
                        is_refused = True
                        waiting.enter_context(self._fullness.refused())
                    await asyncio.sleep(FULL_WAIT_S)
