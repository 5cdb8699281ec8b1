"""Budgets of a batch: what may still be granted, so that no order of events overshoots; pure.

A call needs a grant before it starts. Grants are bound to one claim of one slice, so a holder
that lost its lease can use none of them up for another. What is reserved always covers what may
have been started and is not told of yet; events turn reserved calls into what they really used.

Nobody knows for sure that a holder is dead: it may come back at any time. So the grant of a slice
that is held is void once its holder has written again, and the claim with it fences the holder:
only one of them goes on, and what is reserved covers either.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from millstream.domain import slice as slices
from millstream.domain.batch_state import BatchState
from millstream.wording import dollars
from millstream_schemas.control import Budgets
from millstream_schemas.envelope import Actor
from millstream_schemas.slices import SliceState

Budget = Literal["cost", "tokens", "duration", "failures", "attempts"]

OUTCOMES_LEAST = 20
"""Outcomes before the share of failures means anything."""
BUDGETS_ACTOR = Actor(kind="system", id="budgets")
"""Who warns of budgets, and stops the batches that have used one up."""
WARN_AT = 0.8
SPARE_SHARE = 8
"""A slice of so many open slots gets one call more: some are tried again."""


@dataclass(frozen=True, slots=True)
class CallBound:
    """The most that one call of a batch can use; ``cost_nano_usd`` None: no price is known."""

    tokens: int
    cost_nano_usd: int | None


@dataclass(frozen=True, slots=True)
class Grant:
    """Calls that the claim of ``epoch`` may start.

    ``at_risk`` is how many calls the holder before may still have in flight. ``tail`` is the
    sequence of the slice's last event when it was granted: no claim after another one may use it.
    None: a version that knew no such thing has granted it.
    """

    epoch: int
    calls: int
    at_risk: int = 0
    tail: int | None = None

    def is_for(self, epoch: int, sequence: int) -> bool:
        """Tell whether a claim may use it that follows an event of ``epoch`` at ``sequence``."""
        return self.epoch == epoch + 1 and self.tail in {None, sequence}


Grants = Mapping[int, Grant]
"""The last grant of each slice that has one."""

_NOTHING = SliceState()


def reserved_calls(state: BatchState, grants: Grants) -> int:
    """Return how many calls may be in flight, or may start, that no event accounts for."""
    return sum(outstanding(state, index, grant) for index, grant in grants.items())


def moving_calls(state: BatchState, grants: Grants, gone: Collection[int]) -> int:
    """Return how many reserved calls somebody may still settle or give back."""
    return sum(
        outstanding(state, index, grant)
        for index, grant in grants.items()
        if index not in gone or _is_open(state, index, grant)
    )


def outstanding(state: BatchState, index: int, grant: Grant) -> int:
    """Return how many calls of one slice are reserved.

    While a grant waits for its claim, the holder before may use up its own in place of that.
    """
    last = tail(state, index)
    if slices.is_done(last, state.slice_size(index)):
        return 0
    left = last.allowance or 0
    return max(left, grant.at_risk + grant.calls) if _is_open(state, index, grant) else left


def _is_open(state: BatchState, index: int, grant: Grant) -> bool:
    """Tell whether a claim may still use the grant."""
    found = state.slices.get(index)
    if found is None:
        return True
    return found.state.epoch < grant.epoch and grant.tail in {None, found.sequence}


def tail(state: BatchState, index: int) -> SliceState:
    """Return the last known state of a slice."""
    found = state.slices.get(index)
    return _NOTHING if found is None else found.state


def adopted(state: BatchState) -> dict[int, Grant]:
    """Return the grants that the slices themselves tell of, for a ledger that was lost."""
    return {
        index: Grant(found.state.epoch, found.state.allowance)
        for index, found in state.slices.items()
        if found.state.allowance and not slices.is_done(found.state, state.slice_size(index))
    }


def affordable(budgets: Budgets, state: BatchState, bound: CallBound, reserved: int) -> int:
    """Return how many calls may be granted beyond those that are reserved; never below zero."""
    left = [calls - reserved for calls in _calls_left(budgets, state, bound).values()]
    return max(0, min(left)) if left else 2**31


def allot(
    state: BatchState,
    grants: Grants,
    gone: Mapping[int, int],
    bound: CallBound,
    wanted: Iterable[int],
) -> tuple[dict[int, Grant], list[int]]:
    """Return (the grants from here on, the slices whose next claim has one).

    Args:
        state: The batch, folded at least as far as by whoever wrote ``grants``.
        grants: What was granted so far.
        gone: The slices whose holder is gone, with the most calls it may have had in flight.
        bound: What a call can use.
        wanted: The slices to grant calls to, the most urgent first.
    """
    kept = {index: grant for index, grant in grants.items() if outstanding(state, index, grant)}
    left = affordable(state.spec.budgets, state, bound, reserved_calls(state, kept))
    claimable: list[int] = []
    for index in wanted:
        last = tail(state, index)
        open_slots = len(slices.open_offsets(last, state.slice_size(index)))
        grant = kept.get(index)
        if grant is None or (index in gone and not _is_open(state, index, grant)):
            at_risk = gone.get(index, 0)
            # Those that its holder may not start any more once the claim is made.
            void = 0 if grant is None else outstanding(state, index, grant) - at_risk
            calls = min(left + void, open_slots + max(1, open_slots // SPARE_SHARE))
            if calls <= 0 or slices.is_done(last, state.slice_size(index)):
                continue
            left -= max(0, calls - void)
            found = state.slices.get(index)
            sequence = 0 if found is None else found.sequence
            grant = kept[index] = Grant(last.epoch + 1, calls, at_risk, sequence)
        if _is_open(state, index, grant):
            claimable.append(index)
    return kept, claimable


def spent_up(budgets: Budgets, state: BatchState, bound: CallBound, reserved: int = 0) -> str:
    """Return in words which budget lets no further call start.

    ``reserved`` calls may have been made by holders that are gone, and no event tells of them yet.
    """
    left = _calls_left(budgets, state, bound)
    budget = min(left, key=lambda name: left[name])
    unconfirmed = state.totals.unconfirmed_calls
    note = f"; {unconfirmed} calls of unknown use count in full" if unconfirmed else ""
    if reserved:
        note += f"; besides these, {reserved} that nodes which are gone may have made"
    match budget:
        case "cost" if bound.cost_nano_usd is None:
            return "budget_cost: no price is known for a route of this batch, so its cost is too"
        case "cost":
            return (
                f"budget_cost: ${dollars(_spent_cost(state, bound))} of "
                f"${dollars(budgets.max_cost_nano_usd or 0)} are used and one more call may "
                f"cost ${dollars(bound.cost_nano_usd or 0)}{note}"
            )
        case "tokens":
            return (
                f"budget_tokens: {_spent_tokens(state, bound)} of {budgets.max_tokens} are used "
                f"and one more call may use {bound.tokens}{note}"
            )
        case _:
            return f"budget_attempts: {_calls(state)} of {budgets.max_attempts} are used{note}"


def overdrawn(budgets: Budgets, state: BatchState, now: datetime) -> str | None:
    """Return in words which of the other budgets is used up, None while none is."""
    elapsed_s = _elapsed_s(state, now)
    if budgets.max_duration_s is not None and elapsed_s >= budgets.max_duration_s:
        return f"budget_duration: {elapsed_s:.1f} s of {budgets.max_duration_s:g} s are used"
    failed, outcomes = state.totals.failed, state.totals.failed + state.totals.generated
    most = budgets.max_failure_ratio
    if most is not None and outcomes >= OUTCOMES_LEAST and failed > most * outcomes:
        return f"budget_failures: {failed} of {outcomes} outcomes failed, at most {most:.0%} may"
    return None


def used(
    budgets: Budgets, state: BatchState, bound: CallBound | None, now: datetime
) -> dict[Budget, float]:
    """Return the used share of each budget; one without a bound is left out."""
    shares: dict[Budget, float] = {}
    if bound is not None and budgets.max_cost_nano_usd:
        shares["cost"] = _spent_cost(state, bound) / budgets.max_cost_nano_usd
    if bound is not None and budgets.max_tokens:
        shares["tokens"] = _spent_tokens(state, bound) / budgets.max_tokens
    if budgets.max_attempts:
        shares["attempts"] = _calls(state) / budgets.max_attempts
    if budgets.max_duration_s:
        shares["duration"] = _elapsed_s(state, now) / budgets.max_duration_s
    failed, outcomes = state.totals.failed, state.totals.failed + state.totals.generated
    if budgets.max_failure_ratio and outcomes >= OUTCOMES_LEAST:
        shares["failures"] = failed / outcomes / budgets.max_failure_ratio
    return shares


def _calls_left(
    budgets: Budgets, state: BatchState, bound: CallBound
) -> dict[Literal["cost", "tokens", "attempts"], int]:
    """Return how many calls each budget has room for besides what events account for."""
    left: dict[Literal["cost", "tokens", "attempts"], int] = {}
    if budgets.max_cost_nano_usd is not None:
        if bound.cost_nano_usd is None:
            left["cost"] = 0
        elif bound.cost_nano_usd:
            rest = budgets.max_cost_nano_usd - _spent_cost(state, bound)
            left["cost"] = rest // bound.cost_nano_usd
    if budgets.max_tokens is not None:
        left["tokens"] = (budgets.max_tokens - _spent_tokens(state, bound)) // bound.tokens
    if budgets.max_attempts is not None:
        left["attempts"] = budgets.max_attempts - _calls(state)
    return left


def _blind_calls(state: BatchState) -> int:
    """Return how many calls the provider may have counted tokens for that it has told nobody.

    Those that timed out, that broke off, and that were in flight where a node died.
    """
    return state.errors.get("timeout", 0) + state.totals.unconfirmed_calls


def _spent_cost(state: BatchState, bound: CallBound) -> int:
    return (state.totals.cost_nano_usd or 0) + _blind_calls(state) * (bound.cost_nano_usd or 0)


def _spent_tokens(state: BatchState, bound: CallBound) -> int:
    totals = state.totals
    return totals.tokens_in + totals.tokens_out + _blind_calls(state) * bound.tokens


def _calls(state: BatchState) -> int:
    """Return how many calls were made at most: an unconfirmed one may have an event, too."""
    totals = state.totals
    made = totals.generated + totals.rejected + totals.attempts_failed
    return made + totals.unconfirmed_calls


def _elapsed_s(state: BatchState, now: datetime) -> float:
    if state.started is None:
        return 0.0
    return max(0.0, (now - state.started.stored_at).total_seconds())
