"""A run of sound slice events of one batch, folded together.

``apply`` makes a whole new state for each event. Nearly all events of a log are slice events
that break no rule, and of those only the last one of each slice shows in the state that comes
out: a run keeps what such events lead to, and makes the state once, when somebody asks for it.
All other events it leaves to ``apply``, so that the rules are the same for both.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from operator import attrgetter

from millstream.domain.batch import changed, moved_errors
from millstream.domain.batch_state import NEW_SLICE, BatchState, SliceTail
from millstream.domain.recorded import moment
from millstream.domain.slice import full_mask
from millstream.domain.slice_merge import highest_each
from millstream.domain.stuck import FRESH_CLAIMS, WAIT_MOST_S
from millstream_schemas import slices as slice_events
from millstream_schemas.slices import SliceEvent, SliceState, bits

_MICROSECOND = timedelta(microseconds=1)
GENERATED = "sample.generated.v1"
CLAIMED = "slice.claimed.v1"
ANNOUNCED = "slice.calls_announced.v1"
ATTEMPT_FAILED = "sample.attempt_failed.v1"
RUN_EVENTS: tuple[type[SliceEvent], ...] = (
    slice_events.SampleGenerated,
    slice_events.SliceClaimed,
    slice_events.SampleAttemptFailed,
    slice_events.SampleRejected,
    slice_events.SampleFailed,
    slice_events.CallsAnnounced,
)
"""The events that a run may take."""

Solid = Callable[[SliceState], SliceState]
"""Turns a slice's state as an event carried it into one of the contract's own class."""


_calm = attrgetter(
    *("failed", "abandoned", "epoch", "closed", "rejected", "attempts_failed", "unconfirmed"),
    *("wasted_nano_usd", "errors"),
)
"""What most events of a slice leave as it was: looked at one by one only where something moved."""


class _Tail:
    """The last event of one slice in the run; ``open`` is the mask of slots without an outcome."""

    __slots__ = ("calm", "failed", "generated", "open", "sequence", "state")

    def __init__(self, tail: SliceTail, open_mask: int) -> None:
        self.sequence = tail.sequence
        self.state = tail.state
        self.calm = _calm(tail.state)
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
        self._progress_us: int | None = None
        self._moved_us: int | None = None
        self._told: SliceState | None = None

    def take(self, sequence: int, time_us: int, event: SliceEvent, kind: str) -> int | None:
        """Fold one event of type ``kind``, one of ``RUN_EVENTS``, stored at ``time_us``.

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
        generated = after.generated
        fresh = 0 if generated == before.generated else int(generated, 16) ^ tail.generated
        if (
            fresh & ~tail.open
            or after.tokens_in < before.tokens_in
            or after.tokens_out < before.tokens_out
            or not _is_kept(before.cost_nano_usd, after.cost_nano_usd)
            or not _is_kept(before.unpriced, after.unpriced)
        ):
            return None
        calm = _calm(after)
        if calm != tail.calm:
            if not self._moves_calmly(tail, after, fresh):
                return None
            tail.calm = calm
        tail.sequence, tail.state = sequence, after
        tail.generated ^= fresh
        tail.open ^= fresh
        self._sequence = max(self._sequence, sequence)
        self._tails[event.slice] = tail
        if kind != GENERATED:
            if kind not in {CLAIMED, ANNOUNCED}:
                self._progress_us = time_us
            self._move(moves_until(time_us, event, kind))
            return 0
        self._progress_us = time_us
        if self._moved_us is None or time_us > self._moved_us:
            self._moved_us = time_us
        slot: int = event.slot  # type: ignore[attr-defined]  # SampleGenerated has one
        offset = slot - event.slice * self._slice_size
        # A slot of another slice has no bit in this one's mask.
        return fresh >> offset & 1 if 0 <= offset < self._slice_size else 0

    def _moves_calmly(self, tail: _Tail, after: SliceState, fresh: int) -> bool:
        """Take what seldom moves; false, with nothing changed, when it breaks a rule."""
        before = tail.state
        failed = 0 if after.failed == before.failed else bits(after.failed) ^ tail.failed
        if (
            failed & ~tail.open
            or fresh & failed
            or after.abandoned != before.abandoned
            or not _only_grows(before, after)
        ):
            return False
        tail.failed ^= failed
        tail.open ^= failed
        if after.errors != before.errors and after.last_error is not None:
            self._told = after
        return True

    def _move(self, moved_us: int | None) -> None:
        if moved_us is not None and (self._moved_us is None or moved_us > self._moved_us):
            self._moved_us = moved_us

    def _tail(self, index: int) -> _Tail | None:
        size = self._state.slice_size(index) if self._is_open else 0
        if not size:
            return None
        tail = self._state.slices.get(index, NEW_SLICE)
        open_mask = _open(tail.state, full_mask(size))
        return None if open_mask is None else _Tail(tail, open_mask)

    @property
    def moved_at(self) -> datetime | None:
        """The latest that ``stuck.moved_at`` gives for what was taken."""
        return None if self._moved_us is None else moment(self._moved_us)

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
            last_progress_at=(
                state.last_progress_at if self._progress_us is None else moment(self._progress_us)
            ),
        )


def _open(state: SliceState, full: int) -> int | None:
    """Return the mask of slots without an outcome; None where outcomes contradict each other."""
    generated, failed, abandoned = bits(state.generated), bits(state.failed), bits(state.abandoned)
    resolved = generated | failed | abandoned
    if generated + failed + abandoned != resolved or (generated | failed) & ~full:
        return None
    return full & ~resolved


def _only_grows(old: SliceState, new: SliceState) -> bool:
    """Tell whether none of what seldom moves speaks against ``new`` after ``old``; masks apart."""
    return (
        old.epoch <= new.epoch
        and old.closed == new.closed
        and old.rejected <= new.rejected
        and old.attempts_failed <= new.attempts_failed
        and old.unconfirmed <= new.unconfirmed
        and _is_kept(old.wasted_nano_usd, new.wasted_nano_usd)
        and (old.errors == new.errors or highest_each(old.errors, new.errors) == new.errors)
    )


def _is_kept(old: int | None, new: int | None) -> bool:
    return old is None or (new is not None and old <= new)


def moves_until(time_us: int, event: SliceEvent, kind: str) -> int | None:
    """Return what ``stuck.moved_at`` returns, for an event that a run has taken."""
    if kind == CLAIMED:
        is_passed_on = event.holder_lives  # type: ignore[attr-defined]  # this kind has it
        return time_us if event.after.barren_claims <= FRESH_CLAIMS and not is_passed_on else None
    if kind == ATTEMPT_FAILED:
        if event.category == "timeout":  # type: ignore[attr-defined]  # this kind has one
            return None
        wait_s = min(event.retry_in_s or 0.0, WAIT_MOST_S)  # type: ignore[attr-defined]
        return time_us + timedelta(seconds=wait_s) // _MICROSECOND
    return None if kind == ANNOUNCED else time_us
