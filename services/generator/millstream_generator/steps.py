"""The events of a slice as steps: each takes the state before and gives the event after it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from millstream.domain import slice as slices
from millstream_generator.completion import CallFailedError, Completion, storable
from millstream_generator.policy import uses_attempt
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
    prompt_hash: str

    def fields(self, usage: Usage, request_id: str | None) -> dict[str, Any]:
        """Return the fields that all attempt events share."""
        return {
            "slot": self.slot,
            "attempt": self.number,
            "cell": self.cell,
            "model": self.route.model,
            "provider": self.route.provider,
            "usage": usage,
            "request_id": request_id,
            "prompt_hash": self.prompt_hash,
        }


def claimed(node: str, rescue_of: str | None) -> Step:
    """Return the step of a node that takes the lease."""

    def step(state: SliceState, envelope: Envelope) -> SliceEvent:
        return events.SliceClaimed(
            **envelope, after=slices.claimed(state, node), rescue_of=rescue_of
        )

    return step


def generated(attempt: Attempt, completion: Completion, content: dict[str, Any]) -> Step:
    """Return the step of an accepted answer."""

    def step(state: SliceState, envelope: Envelope) -> SliceEvent:
        paid = slices.with_usage(state, completion.usage, wasted=False)
        return events.SampleGenerated(
            **envelope,
            **attempt.fields(completion.usage, completion.request_id),
            after=slices.with_outcome(paid, attempt.offset, "generated"),
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
    attempt: Attempt, failure: CallFailedError, usage: Usage, retry_in_s: float | None
) -> Step:
    """Return the step of a call that gave no answer."""
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
                counts=uses_attempt(failure.category),
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
