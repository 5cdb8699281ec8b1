"""A run of sound slice events of one batch, folded together.

``apply`` makes a whole new state for each event. Nearly all events of a log are slice events
that break no rule, and of those only the last one of each slice shows in the state that comes
out: a run keeps what such events lead to, and makes the state once, when somebody asks for it.
All other events it leaves to ``apply``, so that the rules are the same for both.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from millstream.domain.batch import changed, moved_errors
from millstream.domain.batch_state import NEW_SLICE, BatchState, SliceTail
from millstream.domain.slice import full_mask, highest_each
from millstream.domain.stuck import FRESH_CLAIMS, WAIT_MOST_S
from millstream_schemas import slices as slice_events
from millstream_schemas.slices import SliceEvent, SliceState, bits

GENERATED = "sample.generated.v1"
CLAIMED = "slice.claimed.v1"
ATTEMPT_FAILED = "sample.attempt_failed.v1"
RUN_EVENTS: tuple[type[SliceEvent], ...] = (
    slice_events.SampleGenerated,
    slice_events.SliceClaimed,
    slice_events.SampleAttemptFailed,
    slice_events.SampleRejected,
    slice_events.SampleFailed,
)
"""The events that a run may take."""

Solid = Callable[[SliceState], SliceState]
"""Turns a slice's state as an event carried it into one of the contract's own class."""


class _Tail:
    """The last event of one slice in the run; ``open`` is the mask of slots without an outcome."""

    __slots__ = ("failed", "generated", "open", "sequence", "state")

    def __init__(self, tail: SliceTail, open_mask: int) -> None:
        self.sequence = tail.sequence
        self.state = tail.state
        self.generated = bits(tail.state.generated)
        self.failed = bits(tail.state.failed)
        self.open = open_mask


class Run:
    """What one batch comes to while sound slice events follow each other.

    Events may be of the contract's classes or look like them (``lean``); nothing is kept of an
    event but its slice's state.
    """

    def __init__(self, state: BatchState) -> None:
        """Begin at ``state``."""
        self._state = state
        # A wait that is over shows in sample events, and an ended batch takes none.
        self._is_open = state.is_live and state.started is not None and state.held_up is None
        self._slice_size = state.spec.slice_size if state.started is not None else 0
        self._tails: dict[int, _Tail] = {}
        self._sequence = state.sequence
        self._progress_at = state.last_progress_at
        self._told: SliceState | None = None

    def take(self, sequence: int, stored_at: datetime, event: SliceEvent, kind: str) -> int | None:
        """Fold one event of type ``kind``, one of ``RUN_EVENTS``.

        Returns:
            1 if it gave its slot a sample, 0 if it did anything else, None if ``apply`` must
            fold it: then nothing has changed.
        """
        tail = self._tails.get(event.slice)
        if tail is None:
            tail = self._tail(event.slice)
            if tail is None:
                return None
        if sequence <= tail.sequence:
            return None
        after, before = event.after, tail.state
        fresh = fresh_failed = 0
        if after.generated != before.generated:
            fresh = bits(after.generated) ^ tail.generated
        if after.failed != before.failed:
            fresh_failed = bits(after.failed) ^ tail.failed
        if (
            (fresh | fresh_failed) & ~tail.open
            or fresh & fresh_failed
            or after.abandoned != before.abandoned
            or not _only_grows(before, after)
        ):
            return None
        if after.errors != before.errors and after.last_error is not None:
            self._told = after
        if kind != CLAIMED:
            self._progress_at = stored_at
        tail.sequence, tail.state = sequence, after
        tail.generated ^= fresh
        tail.failed ^= fresh_failed
        tail.open ^= fresh | fresh_failed
        self._sequence = max(self._sequence, sequence)
        self._tails[event.slice] = tail
        return self._is_new_sample(event, fresh) if kind == GENERATED else 0

    def _is_new_sample(self, event: SliceEvent, fresh: int) -> int:
        slot: int = event.slot  # type: ignore[attr-defined]  # SampleGenerated has one
        offset = slot - event.slice * self._slice_size
        # A slot of another slice has no bit in this one's mask.
        return fresh >> offset & 1 if 0 <= offset < self._slice_size else 0

    def _tail(self, index: int) -> _Tail | None:
        size = self._state.slice_size(index) if self._is_open else 0
        if not size:
            return None
        tail = self._state.slices.get(index, NEW_SLICE)
        open_mask = _open(tail.state, full_mask(size))
        return None if open_mask is None else _Tail(tail, open_mask)

    @property
    def slices(self) -> list[int]:
        """The slices that have moved."""
        return list(self._tails)

    def state(self, solid: Solid) -> BatchState:
        """Return the state after the run."""
        state = self._state
        if not self._tails:
            return state
        tails, totals, errors = state.slices, state.totals, state.errors
        for index, tail in self._tails.items():
            before = tails.get(index, NEW_SLICE)
            after = solid(tail.state)
            tails = tails.insert(index, SliceTail(tail.sequence, after, before.late))
            totals = totals.moved(before.state, after)
            if after.errors != before.state.errors:
                errors = moved_errors(errors, before.state, after)
        error = solid(self._told).last_error if self._told is not None else None
        return changed(
            state,
            sequence=self._sequence,
            slices=tails,
            totals=totals,
            errors=errors,
            last_error=error or state.last_error,
            last_progress_at=self._progress_at,
        )


def _open(state: SliceState, full: int) -> int | None:
    """Return the mask of slots without an outcome; None where outcomes contradict each other."""
    generated, failed, abandoned = bits(state.generated), bits(state.failed), bits(state.abandoned)
    resolved = generated | failed | abandoned
    if generated + failed + abandoned != resolved or (generated | failed) & ~full:
        return None
    return full & ~resolved


def _only_grows(old: SliceState, new: SliceState) -> bool:
    """Tell whether nothing but the masks speaks against ``new`` after ``old``."""
    return (
        old.epoch <= new.epoch
        and old.tokens_in <= new.tokens_in
        and old.tokens_out <= new.tokens_out
        and old.closed == new.closed
        and old.rejected <= new.rejected
        and old.attempts_failed <= new.attempts_failed
        and old.unconfirmed <= new.unconfirmed
        and _is_kept(old.cost_nano_usd, new.cost_nano_usd)
        and _is_kept(old.wasted_nano_usd, new.wasted_nano_usd)
        and (old.errors == new.errors or highest_each(old.errors, new.errors) == new.errors)
    )


def _is_kept(old: int | None, new: int | None) -> bool:
    return old is None or (new is not None and old <= new)


def moves_until(stored_at: datetime, event: SliceEvent, kind: str) -> datetime | None:
    """Return what ``stuck.moved_at`` returns, for an event that a run has taken."""
    if kind == GENERATED:
        return stored_at
    if kind == CLAIMED:
        return stored_at if event.after.barren_claims <= FRESH_CLAIMS else None
    if kind == ATTEMPT_FAILED:
        if event.category == "timeout":  # type: ignore[attr-defined]  # this kind has one
            return None
        wait_s = min(event.retry_in_s or 0.0, WAIT_MOST_S)  # type: ignore[attr-defined]
        return stored_at + timedelta(seconds=wait_s)
    return stored_at
