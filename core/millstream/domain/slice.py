"""The state of one slice and the pure steps between its events.

A slice event carries the whole state after it. Writers make the next state here; how the fold
merges what it reads stands in ``slice_merge``.
"""

from typing import Any, Literal

from millstream_schemas.control import BatchSpec
from millstream_schemas.envelope import saturated
from millstream_schemas.errors import ErrorCategory, ErrorInfo
from millstream_schemas.slices import SliceState, Usage, bitmap, bits

Outcome = Literal["generated", "failed"]

SLICES_AT_ONCE = 16
POISON_CLAIMS = 4
"""The first claim and three rescues, none of which led to an outcome."""


def full_mask(size: int) -> int:
    """Return the mask of a slice of ``size`` slots (1..64) in which every slot is resolved."""
    return (1 << size) - 1


def resolved(state: SliceState) -> int:
    """Return the mask of slots that have an outcome."""
    return bits(state.generated) | bits(state.failed) | bits(state.abandoned)


def open_offsets(state: SliceState, size: int) -> list[int]:
    """Return the offsets (0-based) of the slots without an outcome, in order."""
    done = resolved(state)
    return [offset for offset in range(size) if not done >> offset & 1]


def parallel_calls(spec: BatchSpec) -> int:
    """Return the calls in flight per slice: about 16 slices at once share the concurrency.

    Slices with fewer slots than that are more at once instead, so that small batches use their
    whole concurrency too.
    """
    return min(spec.slice_size, -(-spec.concurrency // SLICES_AT_ONCE))


def is_suspect(state: SliceState) -> bool:
    """Tell whether so many holders died without an outcome that one slot must be the cause."""
    return state.barren_claims >= POISON_CLAIMS


def at_risk(state: SliceState, size: int, parallel: int) -> int:
    """Return the most calls of the slice's holder that may be paid though no event tells of them.

    Args:
        state: The slice.
        size: How many slots it has.
        parallel: The most calls of one slice that are in flight at once.
    """
    if not state.node:
        return 0
    if state.in_flight is not None:
        most = state.in_flight
    elif is_suspect(state) or state.on_trial is not None:
        return 1
    else:
        # Before its end, what a slice holds abandoned are calls that this holder has cancelled.
        told = bits(state.abandoned).bit_count()
        most = min(max(0, parallel - told), len(open_offsets(state, size)))
    return most if state.allowance is None else min(most, state.allowance)


def is_done(state: SliceState, size: int) -> bool:
    """Tell whether nothing is left to do in the slice."""
    return state.closed or resolved(state) == full_mask(size)


def claimed(
    state: SliceState,
    node: str,
    *,
    at_risk: int = 0,
    allowance: int | None = None,
    in_flight: int | None = None,
    holder_lives: bool = False,
) -> SliceState:
    """Return the state after ``node`` leased the slice: a new epoch fences the holder before.

    Args:
        state: The state before.
        node: Who leases.
        at_risk: The most calls that a holder has in flight; one that did not give the slice up
            may have paid for so many that no event tells of.
        allowance: How many calls this lease may start; None: no budget bounds them.
        in_flight: How many of them may start before its next event; None: they are not counted.
        holder_lives: Whether the holder before has only lost its lease: nobody died at its work,
            so its claim was not barren, and no slot is to blame that it ran alone.
    """
    before = state.barren_claims
    lost = at_risk if state.node else 0
    if state.allowance is not None:
        lost = min(lost, state.allowance)
    return state.model_copy(
        update={
            "epoch": state.epoch + 1,
            "node": node,
            "barren_claims": max(1, before) if holder_lives else before + 1,
            "on_trial": None if holder_lives else state.on_trial,
            "unconfirmed": state.unconfirmed + lost,
            "allowance": allowance,
            "in_flight": in_flight,
        }
    )


def released(state: SliceState) -> SliceState:
    """Return the state after the holder gave the slice up in order: its claim was not barren."""
    return state.model_copy(
        update={
            "node": "",
            "barren_claims": max(0, state.barren_claims - 1),
            "on_trial": None,
            "allowance": None,
            "in_flight": None,
        }
    )


def dropped(state: SliceState) -> SliceState:
    """Return the state after the holder's work broke off: its claim was barren, though it lives."""
    return state.model_copy(update={"node": "", "allowance": None, "in_flight": None})


def on_trial(state: SliceState, offset: int) -> SliceState:
    """Return the state in which the slot at ``offset`` runs alone."""
    return state.model_copy(update={"on_trial": offset})


def with_sample(state: SliceState, offset: int, usage: Usage) -> SliceState:
    """Return the state after a call gave the slot at ``offset`` its sample."""
    return state.model_copy(
        update={
            **_used(state, usage, wasted=False),
            **_resolved(state, offset, "generated"),
        }
    )


def with_outcome(state: SliceState, offset: int, outcome: Outcome) -> SliceState:
    """Return the state after the slot at ``offset`` got its outcome."""
    return state.model_copy(update=_resolved(state, offset, outcome))


def _resolved(state: SliceState, offset: int, outcome: Outcome) -> dict[str, Any]:
    marked = bitmap(bits(getattr(state, outcome)) | 1 << offset)
    attempts = {key: value for key, value in state.attempts.items() if key != str(offset)}
    return {outcome: marked, "attempts": attempts, "barren_claims": 0, "on_trial": None}


def with_usage(state: SliceState, usage: Usage, *, wasted: bool) -> SliceState:
    """Return the state after a call ended; ``wasted``: it gave no accepted sample."""
    return state.model_copy(update=_used(state, usage, wasted=wasted))


def _used(state: SliceState, usage: Usage, *, wasted: bool) -> dict[str, int | None]:
    update: dict[str, int | None] = {
        "tokens_in": saturated(state.tokens_in, usage.tokens_in),
        "tokens_out": saturated(state.tokens_out, usage.tokens_out),
    }
    if state.allowance is not None:
        update["allowance"] = max(0, state.allowance - 1)
    if state.in_flight is not None:
        update["in_flight"] = max(0, state.in_flight - 1)
    if usage.cost_nano_usd is not None:
        update["cost_nano_usd"] = saturated(state.cost_nano_usd, usage.cost_nano_usd)
        if wasted:
            update["wasted_nano_usd"] = saturated(state.wasted_nano_usd, usage.cost_nano_usd)
    elif usage.is_unpriced:
        update["unpriced"] = (state.unpriced or 0) + 1
    return update


def with_failed_attempt(
    state: SliceState, offset: int, error: ErrorInfo, *, counts: bool, rejected: bool
) -> SliceState:
    """Return the state after an attempt gave no sample.

    Args:
        state: The state before.
        offset: The slot's offset in the slice.
        error: What went wrong.
        counts: Whether an attempt is used up (a rate limit uses none).
        rejected: Validation refused the answer, rather than the call failing.
    """
    attempts = dict(state.attempts)
    if counts:
        attempts[str(offset)] = attempts.get(str(offset), 0) + 1
    tally = "rejected" if rejected else "attempts_failed"
    errors: dict[ErrorCategory, int] = dict(state.errors)
    errors[error.category] = errors.get(error.category, 0) + 1
    return state.model_copy(
        update={
            "attempts": attempts,
            tally: getattr(state, tally) + 1,
            "errors": errors,
            "last_error": error,
            "on_trial": None,
        }
    )


def closed(state: SliceState, size: int, *, at_risk: int = 0) -> SliceState:
    """Return the state after the stop fence: open slots are abandoned, nothing is writable.

    ``at_risk`` calls may have been paid though no event tells of them.
    """
    left = full_mask(size) & ~resolved(state)
    return state.model_copy(
        update={
            "abandoned": bitmap(bits(state.abandoned) | left),
            "attempts": {},
            "unconfirmed": state.unconfirmed + at_risk,
            "in_flight": None,
            "closed": True,
        }
    )
