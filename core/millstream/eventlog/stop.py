"""The stop fence: ends a stopping batch without waiting for any worker.

After BatchStopRequested is stored, each open slice is closed with a compare-and-set on its tail.
A worker that is dead, deaf or frozen finds its slice closed when it comes back; one that claimed
a slice late reads control before its first call and finds the batch stopping. Several callers
may run the fence at once: one of them wins each step and the counts are the same.

Those who hear that the fence runs tell what the calls had used that they cancel, and let go of
their slices; it waits for that only for a moment. Of holders that say nothing, it counts all calls
that they may have in flight.
"""

import asyncio
import contextlib
import random
from collections.abc import Callable
from typing import Self

import structlog
from nats.aio.msg import Msg

from millstream.domain import slice as slices
from millstream.domain.batch import apply
from millstream.domain.batch_state import BatchState
from millstream.domain.decide import Stamp, end_stop
from millstream.domain.recorded import Recorded
from millstream.errors import ConflictError, LogError, LogUnavailableError
from millstream.eventlog.aggregate import load_batch
from millstream.eventlog.answers import subscribed
from millstream.eventlog.log import EventLog
from millstream.eventlog.stored import Stored, decode, from_headers
from millstream.eventlog.work import WorkQueue
from millstream.runtime.clock import boot_seconds
from millstream_schemas import subjects
from millstream_schemas.envelope import BatchEvent
from millstream_schemas.slices import SliceClosed

log = structlog.get_logger()

TOGETHER_MOST = 900
"""An atomic batch holds at most 1,000 messages."""
RETRY_S = 0.02
TRIES_EACH = 3
TELL_S = 0.1
"""How long the holders of slices may take to tell what the calls had used that they cancelled."""
TELL_FAILED_S = 1.0
"""The same where the batch fails: nobody waits for that, and calls that were told shall not count
as unconfirmed since the machine is slow."""
FENCED = b"fenced"
"""The signal of the fence itself: no more calls in flight are waited for, not even in a drain."""


async def signal_stop(event_log: EventLog, batch_id: str, word: bytes = b"") -> None:
    """Tell workers at once; a hint that may be lost, never a fact."""
    await event_log.answers.send(subjects.stop_signal(batch_id), word)


async def run_stop_fence(
    event_log: EventLog, batch_id: str, make_stamp: Callable[[], Stamp], *, bound_s: float = 30.0
) -> BatchState:
    """Close every open slice and append the batch's last event; return the final state.

    Does nothing for a batch that is not stopping.

    Raises:
        LogUnavailableError: the log did not answer for ``bound_s`` seconds.
        ConflictError: others were faster for as long.
        LogFullError: the store takes no more.
    """
    async with _Holders(event_log, batch_id) as holders:
        return await _fence(event_log, holders, make_stamp, bound_s)


async def _fence(
    event_log: EventLog, holders: "_Holders", make_stamp: Callable[[], Stamp], bound_s: float
) -> BatchState:
    work, batch_id = WorkQueue(event_log.answers), holders.batch_id
    deadline = boot_seconds() + bound_s
    is_contested = False
    while True:
        try:
            state = await load_batch(event_log, batch_id)
            if state.phase != "stopping":
                return state
            await signal_stop(event_log, batch_id, FENCED)
            await _purge(work, batch_id)
            state = await holders.let_go(state)
            if is_contested:
                state = await _with_each_closed(event_log, state, make_stamp())
            await _close(event_log, state, make_stamp())
        except ConflictError as error:
            if boot_seconds() > deadline:
                raise
            is_contested = True
            log.debug("stop.fence_repeated", batch_id=batch_id, reason=str(error))
        except LogUnavailableError:
            if boot_seconds() > deadline:
                raise
            await asyncio.sleep(RETRY_S * (1 + random.random()))  # noqa: S311  # jitter


class _Holders:
    """Hears what the holders of a batch's slices write while the fence runs; a hint."""

    def __init__(self, event_log: EventLog, batch_id: str) -> None:
        self.batch_id = batch_id
        self._heard: list[Stored] = []
        self._has_heard = asyncio.Event()
        self._until: float | None = None
        subject = subjects.live(subjects.all_slices(batch_id))
        self._hearing = subscribed(event_log.connection, subject, self._hear)

    async def __aenter__(self) -> Self:
        await self._hearing.__aenter__()
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self._hearing.__aexit__(None, None, None)

    async def _hear(self, message: Msg) -> None:
        self._heard.append(from_headers(message.headers or {}, message.data))
        self._has_heard.set()

    async def let_go(self, state: BatchState) -> BatchState:
        """Return the state once nobody holds an open slice, or when that has taken too long."""
        has_failed = state.stop is not None and state.stop.event.error is not None
        tell_s = TELL_FAILED_S if has_failed else TELL_S
        self._until = self._until or boot_seconds() + tell_s
        held = {index for index in _open(state) if state.slices[index].state.node}
        while True:
            for stored in self._heard:
                if recorded := decode(stored):
                    state = apply(state, recorded, trusted=True)
            self._heard.clear()
            self._has_heard.clear()
            held = {
                index
                for index in held
                if state.slices[index].state.node and not _is_done(state, index)
            }
            left_s = self._until - boot_seconds()
            if left_s <= 0 or not held:
                return state
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left_s):
                    await self._has_heard.wait()


async def _purge(work: WorkQueue, batch_id: str) -> None:
    """Drop the batch's work; what stays is dropped by whoever leases it."""
    try:
        await work.purge(batch_id)
    except LogUnavailableError as error:
        log.warning("stop.purge_failed", batch_id=batch_id, reason=str(error))


async def _close(event_log: EventLog, state: BatchState, stamp: Stamp) -> None:
    """Close all open slices and append the last event; ConflictError when one had moved on."""
    closings = [
        (_closing(state, index, stamp), state.slices[index].sequence) for index in _open(state)
    ]
    while len(closings) > TOGETHER_MOST:
        part, closings = closings[:TOGETHER_MOST], closings[TOGETHER_MOST:]
        await event_log.append_together(part)
        state = _folded(state, [event for event, _ in part])
    state = _folded(state, [event for event, _ in closings])
    final = end_stop(state, state.counts, stamp)
    await event_log.append_together([*closings, (final, state.control_sequence)])


async def _with_each_closed(event_log: EventLog, state: BatchState, stamp: Stamp) -> BatchState:
    """Close the slices that still can be, one by one; return the state after that.

    Workers that hear nothing go on appending. Were it all slices or none, a large batch would
    find one of them moved on at every try.
    """
    async with asyncio.TaskGroup() as tasks:
        closings = [
            tasks.create_task(_close_one(event_log, state, index, stamp)) for index in _open(state)
        ]
    for closing in closings:
        recorded = closing.result()
        if recorded is not None:
            state = apply(state, recorded, trusted=True)
    return state


async def _close_one(
    event_log: EventLog, state: BatchState, index: int, stamp: Stamp
) -> Recorded[BatchEvent] | None:
    """Return the event that left nothing to do in the slice, None if it could not be closed."""
    subject = subjects.slice_(state.batch_id, index)
    try:
        for _ in range(TRIES_EACH):
            tail = await event_log.last(subject)
            recorded = decode(tail) if tail is not None else None
            if recorded is not None:
                state = apply(state, recorded, trusted=True)
            if _is_done(state, index):
                return recorded
            closing = _closing(state, index, stamp)
            with contextlib.suppress(ConflictError):  # it moved on; read it again
                sequence = await event_log.append(closing, expected=state.slices[index].sequence)
                return Recorded(sequence, closing.time, closing)
    except LogError as error:  # the fence reads everything again and repeats
        log.debug("stop.slice_not_closed", subject=subject, reason=str(error))
    return None


def _open(state: BatchState) -> list[int]:
    """Return the claimed slices in which something is left to do."""
    return [index for index in state.slices if not _is_done(state, index)]


def _is_done(state: BatchState, index: int) -> bool:
    return slices.is_done(state.slices[index].state, state.slice_size(index))


def _closing(state: BatchState, index: int, stamp: Stamp) -> SliceClosed:
    subject = subjects.slice_(state.batch_id, index)
    last, size = state.slices[index].state, state.slice_size(index)
    lost = slices.at_risk(last, size, slices.parallel_calls(state.spec))
    return SliceClosed(
        **stamp.envelope(state.batch_id, subject),
        slice=index,
        after=slices.closed(last, size, at_risk=lost),
    )


def _folded(state: BatchState, events: list[SliceClosed]) -> BatchState:
    """Return the state that the log will have once ``events`` are stored."""
    for event in events:
        state = apply(state, Recorded(state.sequence + 1, event.time, event))
    return state
