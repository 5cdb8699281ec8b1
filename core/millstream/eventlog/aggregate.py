"""One batch straight from the log, and commands on it with compare-and-set."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta

from millstream.domain.batch import apply
from millstream.domain.batch_state import BatchState
from millstream.domain.decide import COMMANDED, Refusal, Stamp, allowed, decide
from millstream.domain.recorded import Recorded
from millstream.errors import ConflictError
from millstream.eventlog.log import EventLog, in_order
from millstream.eventlog.stored import Stored, decode
from millstream_schemas import subjects
from millstream_schemas.commands import BatchCommand
from millstream_schemas.envelope import BatchEvent

CONFLICTS_MOST = 20
REPEATED_FOR = timedelta(hours=24)
"""So long a command with the id of an earlier one is that one, as with the keys of new batches."""


@dataclass(frozen=True, slots=True)
class Executed:
    """What became of a command: the new event's sequence, a refusal, or neither (it was so).

    ``before`` is the state on which it was decided, ``state`` the one after; ``earlier`` is what
    the same command appended when it was sent before.
    """

    before: BatchState
    state: BatchState
    sequence: int | None = None
    refusal: Refusal | None = None
    earlier: Recorded[BatchEvent] | None = None


async def load_batch(
    event_log: EventLog,
    batch_id: str,
    *,
    slices: bool = True,
    newest_notes: bool = False,
    tell: Callable[[Recorded[BatchEvent]], None] | None = None,
) -> BatchState:
    """Fold one batch from its control events, notes and (unless told not to) slice tails.

    A batch that nobody started has phase ``unknown``. Control events are always the newest;
    notes only where asked for, since few readers write one. ``tell`` is given control events and
    notes as they are folded.

    Raises:
        LogUnavailableError: the log did not answer.
    """
    state = BatchState(batch_id)
    for subject in (subjects.control(batch_id), subjects.note(batch_id)):
        read = 0
        async for page in event_log.history(subject):
            for stored in page:
                state = _folded(state, stored, tell)
                read = stored.sequence
        if subject == subjects.note(batch_id) and not newest_notes:
            continue
        # The pages may come from a follower that lags; what the leader has beyond them counts.
        while (newer := await event_log.after(subject, read)) is not None:
            state = _folded(state, newer, tell)
            read = newer.sequence
    if slices and state.phase != "unknown":
        for stored in in_order(await event_log.tails(batch_id)):
            state = _folded(state, stored)
    return state


async def with_first_slice(event_log: EventLog, state: BatchState) -> BatchState:
    """Return a state that was loaded without slices such that it tells running from queued.

    Raises:
        LogUnavailableError: the log did not answer.
    """
    if state.phase != "active" or len(state.slices):
        return state
    stored = await event_log.after(subjects.all_slices(state.batch_id), 0)
    return state if stored is None else _folded(state, stored)


def _folded(
    state: BatchState,
    stored: Stored,
    tell: Callable[[Recorded[BatchEvent]], None] | None = None,
) -> BatchState:
    recorded = decode(stored)
    if recorded is None:
        return state
    if tell is not None:
        tell(recorded)
    return apply(state, recorded, trusted=True)


Decide = Callable[[BatchState, Stamp], BatchEvent | Refusal | None]


async def execute(
    event_log: EventLog,
    batch_id: str,
    command: BatchCommand,
    make_stamp: Callable[[], Stamp],
    *,
    if_match: int | None = None,
) -> Executed:
    """Carry out a command; ``if_match`` is the control sequence that the client has seen.

    One whose command id stands in the batch's log already was carried out before.

    Raises:
        ConflictError: others kept winning; the client may try again.
        LogUnavailableError: nothing was accepted, or its answer was lost for good.
    """

    def choose(state: BatchState, stamp: Stamp) -> BatchEvent | Refusal | None:
        return stale(state, if_match) or decide(state, command, stamp)

    return await append_decision(event_log, batch_id, choose, make_stamp)


def stale(state: BatchState, if_match: int | None) -> Refusal | None:
    """Return the refusal of a command by a client that has seen another version, else None."""
    if if_match is None or state.control_sequence in {0, if_match}:
        return None
    return Refusal(
        "stale",
        f"batch {state.batch_id} has version {state.control_sequence}, not {if_match}; "
        "read it again",
        allowed(state),
    )


async def append_decision(
    event_log: EventLog, batch_id: str, choose: Decide, make_stamp: Callable[[], Stamp]
) -> Executed:
    """Append what ``choose`` makes of the batch's state, deciding anew after each conflict."""
    for _ in range(CONFLICTS_MOST):
        told: list[Recorded[BatchEvent]] = []
        state = await load_batch(event_log, batch_id, slices=False, tell=told.append)
        stamp = make_stamp()
        earlier = _of_command(told, stamp)
        if earlier is not None:
            state = await load_batch(event_log, batch_id)
            return Executed(state, state, earlier=earlier)
        chosen = choose(state, stamp)
        if isinstance(chosen, Refusal):
            state = await with_first_slice(event_log, state)  # it names the state
            chosen = choose(state, make_stamp())
        if isinstance(chosen, Refusal):
            return Executed(state, state, refusal=chosen)
        if chosen is None:
            return Executed(state, state)
        try:
            sequence = await event_log.append(chosen, expected=state.control_sequence)
        except ConflictError:
            continue
        return Executed(state, await load_batch(event_log, batch_id), sequence)
    raise ConflictError(f"batch {batch_id} changes too often; try again")


def _of_command(told: Iterable[Recorded[BatchEvent]], stamp: Stamp) -> Recorded[BatchEvent] | None:
    """Return what this command appended when it was sent before."""
    if stamp.command_id is None:
        return None
    since = stamp.time - REPEATED_FOR
    return next(
        (
            found
            for found in told
            if found.event.command_id == stamp.command_id
            and isinstance(found.event, COMMANDED)
            and found.stored_at >= since
        ),
        None,
    )
