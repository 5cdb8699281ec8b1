"""The events of a slice as steps: each takes the state before and gives the event after it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from millstream.domain import slice as slices
from millstream_generator.completion import CallFailedError, Completion, storable
from millstream_schemas import slices as events
from millstream_schemas.errors import ErrorInfo
from millstream_schemas.recipes import Cell
from millstream_schemas.routes import Route
from millstream_schemas.slices import SliceEvent, SliceState, Usage

Envelope = dict[str, Any]
Step = Callable[[SliceState, Envelope], SliceEvent]
"""(state before, envelope fields) -> the event, whose ``after`` is the next state."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One call for one slot."""

    slot: int
    offset: int
    number: int
    cell: Cell
    route: Route
    prompt_hash: str | None
    wait_s: float | None = None
    """How long the call waited for limits and for its route; None: not at all."""
    route_key: str | None = None
    """The name under which nodes share the route; None: no call was made."""

    def fields(self, usage: Usage, request_id: str | None) -> dict[str, Any]:
        """Return the fields that all attempt events share."""
        return {
            "slot": self.slot,
            "attempt": self.number,
            "cell": self.cell,
            "model": self.route.model,
            "provider": self.route.provider,
            "route": self.route_key,
            "usage": usage,
            "request_id": request_id,
            "prompt_hash": self.prompt_hash,
            "wait_s": self.wait_s,
        }


def claimed(
    node: str,
    rescue_of: str | None = None,
    *,
    at_risk: int = 0,
    allowance: int | None = None,
    holder_lives: bool | None = None,
) -> Step:
    """Return the step of a node that takes the lease; the arguments as in the slice's domain.

    How many calls may start at once stands in the state before, as in that of every other step.
    """

    def step(state: SliceState, envelope: Envelope) -> SliceEvent:
        after = slices.claimed(
            state,
            node,
            at_risk=at_risk,
            allowance=allowance,
            in_flight=state.in_flight,
            holder_lives=holder_lives is True,
        )
        return events.SliceClaimed(
            **envelope, after=after, rescue_of=rescue_of, holder_lives=holder_lives
        )

    return step


def released(reason: str, *, at_risk: int = 0) -> Step:
    """Return the step of a holder that gives the slice up with no call in flight any more.

    ``at_risk`` calls may have been paid though no event tells of them.
    """

    def step(state: SliceState, envelope: Envelope) -> SliceEvent:
        after = slices.released(state)
        if at_risk:
            lost = at_risk if state.allowance is None else min(at_risk, state.allowance)
            after = after.model_copy(update={"unconfirmed": after.unconfirmed + lost})
        return events.SliceReleased(**envelope, after=after, reason=reason)

    return step


def dropped(reason: str) -> Step:
    """Return the step of a holder whose work on the slice broke off; no call is in flight."""

    def step(state: SliceState, envelope: Envelope) -> SliceEvent:
        return events.SliceReleased(**envelope, after=slices.dropped(state), reason=reason)

    return step


def announced(state: SliceState, envelope: Envelope) -> SliceEvent:
    """Be the step after which more calls may start: as many as the state before says."""
    return events.CallsAnnounced(**envelope, after=state)


def on_trial(slot: int, offset: int) -> Step:
    """Return the step after which one slot runs alone."""

    def step(state: SliceState, envelope: Envelope) -> SliceEvent:
        return events.SlotOnTrial(**envelope, after=slices.on_trial(state, offset), slot=slot)

    return step


def generated(attempt: Attempt, completion: Completion, content: dict[str, Any]) -> Step:
    """Return the step of an accepted answer."""

    def step(state: SliceState, envelope: Envelope) -> SliceEvent:
        return events.SampleGenerated(
            **envelope,
            **attempt.fields(completion.usage, completion.request_id),
            after=slices.with_sample(state, attempt.offset, completion.usage),
            content=content,
            finish_reason=completion.finish_reason,
        )

    return step


def rejected(attempt: Attempt, completion: Completion, rule: str, message: str) -> Step:
    """Return the step of an answer that validation refused."""
    category = "content_filter" if rule == "content_filter" else "validation"
    reason = storable(message)[:2000]
    error = ErrorInfo(category=category, message=reason, slot=attempt.slot)

    def step(state: SliceState, envelope: Envelope) -> SliceEvent:
        paid = slices.with_usage(state, completion.usage, wasted=True)
        return events.SampleRejected(
            **envelope,
            **attempt.fields(completion.usage, completion.request_id),
            after=slices.with_failed_attempt(
                paid, attempt.offset, error, counts=True, rejected=True
            ),
            rule=rule,
            message=reason,
            answer=storable(completion.text)[:20_000],
            finish_reason=completion.finish_reason,
        )

    return step


def attempt_failed(
    attempt: Attempt,
    failure: CallFailedError,
    usage: Usage,
    retry_in_s: float | None,
    *,
    counts: bool = True,
) -> Step:
    """Return the step of a call that gave no answer; ``counts``: it used an attempt up."""
    error = ErrorInfo(category=failure.category, message=failure.message, slot=attempt.slot)

    def step(state: SliceState, envelope: Envelope) -> SliceEvent:
        paid = slices.with_usage(state, usage, wasted=True)
        return events.SampleAttemptFailed(
            **envelope,
            **attempt.fields(usage, None),
            after=slices.with_failed_attempt(
                paid,
                attempt.offset,
                error,
                counts=counts,
                rejected=False,
            ),
            category=failure.category,
            message=failure.message,
            status_code=failure.status_code,
            retry_in_s=retry_in_s,
        )

    return step


def failed(attempt: Attempt, error: ErrorInfo) -> Step:
    """Return the step that gives a slot up."""

    def step(state: SliceState, envelope: Envelope) -> SliceEvent:
        return events.SampleFailed(
            **envelope,
            **attempt.fields(Usage(), None),
            after=slices.with_outcome(state, attempt.offset, "failed"),
            category=error.category,
            message=error.message,
        )

    return step


def abandoned(attempt: Attempt, usage: Usage) -> Step:
    """Return the step of a call that a stop cancelled; ``usage`` is an estimate."""

    def step(state: SliceState, envelope: Envelope) -> SliceEvent:
        paid = slices.with_usage(state, usage, wasted=True)
        mask = events.bits(paid.abandoned) | 1 << attempt.offset
        return events.SampleAbandoned(
            **envelope,
            **attempt.fields(usage, None),
            after=paid.model_copy(update={"abandoned": events.bitmap(mask)}),
        )

    return step


def closed(size: int) -> Step:
    """Return the step of a holder that ends its slice after a draining stop."""

    def step(state: SliceState, envelope: Envelope) -> SliceEvent:
        return events.SliceClosed(**envelope, after=slices.closed(state, size))

    return step
