"""All events as one discriminated union, and how a stored payload becomes one."""

import json
from collections.abc import Mapping
from types import ModuleType
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, TypeAdapter, ValidationError

from millstream_schemas import control, notes, redactions, slices
from millstream_schemas.envelope import BatchEvent, Event
from millstream_schemas.refusals import CommandRefused
from millstream_schemas.upcasters import upcast

AnyEvent = Annotated[
    control.BatchStarted
    | control.BatchPaused
    | control.BatchResumed
    | control.BatchPriorityChanged
    | control.BatchStopRequested
    | control.BatchStopped
    | control.BatchCompleted
    | control.BatchFailed
    | slices.SliceClaimed
    | slices.SliceReleased
    | slices.SlotOnTrial
    | slices.CallsAnnounced
    | slices.SampleGenerated
    | slices.SampleAttemptFailed
    | slices.SampleRejected
    | slices.SampleFailed
    | slices.SampleAbandoned
    | slices.SliceClosed
    | notes.StuckDetected
    | notes.StuckCleared
    | notes.BudgetWarned
    | notes.RouteThrottled
    | notes.RouteBlocked
    | notes.RouteRecovered
    | notes.RouteNotDirect
    | notes.ChildStarted
    | redactions.SampleRedacted,
    Field(discriminator="type"),
]

EVENT_CLASSES: tuple[type[BatchEvent], ...] = get_args(get_args(AnyEvent)[0])
EVENT_TYPES: frozenset[str] = frozenset(
    str(cls.model_fields["type"].default) for cls in EVENT_CLASSES
)

EventType = Literal[
    "batch.started.v1",
    "batch.paused.v1",
    "batch.resumed.v1",
    "batch.priority_changed.v1",
    "batch.stop_requested.v1",
    "batch.stopped.v1",
    "batch.completed.v1",
    "batch.failed.v1",
    "slice.claimed.v1",
    "slice.released.v1",
    "slice.slot_on_trial.v1",
    "slice.calls_announced.v1",
    "sample.generated.v1",
    "sample.attempt_failed.v1",
    "sample.rejected.v1",
    "sample.failed.v1",
    "sample.abandoned.v1",
    "slice.closed.v1",
    "batch.stuck_detected.v1",
    "batch.stuck_cleared.v1",
    "batch.budget_warned.v1",
    "route.throttled.v1",
    "route.blocked.v1",
    "route.recovered.v1",
    "route.not_direct.v1",
    "batch.child_started.v1",
    "sample.redacted.v1",
]
"""The same types, as what a request may name."""


def _types_of(module: ModuleType) -> frozenset[str]:
    own = [cls for cls in EVENT_CLASSES if cls.__module__ == module.__name__]
    return frozenset(str(cls.model_fields["type"].default) for cls in own)


CONTROL_TYPES, NOTE_TYPES = _types_of(control), _types_of(notes)
"""The types on the subject of a batch's control events, and on that of its notes."""

SYSTEM_EVENT_CLASSES: tuple[type[Event], ...] = (CommandRefused,)
"""Events of no batch: no fold and no table holds them, the log does."""
_SYSTEM = {str(cls.model_fields["type"].default): cls for cls in SYSTEM_EVENT_CLASSES}

_ADAPTER: TypeAdapter[AnyEvent] = TypeAdapter(AnyEvent)


class UnknownEventError(ValueError):
    """The event's type is of a newer writer; readers count and skip it."""


class SystemEventError(UnknownEventError):
    """The event is known and of no batch; who folds batches passes it over."""


class MalformedEventError(ValueError):
    """The stored bytes are not an event; readers count and skip them."""


def parse(payload: bytes) -> AnyEvent:
    """Return the event stored as ``payload``, brought up to the present version.

    Raises:
        UnknownEventError: no reader of this version knows the type; SystemEventError: it is
            none of a batch.
        MalformedEventError: not JSON, or a known type with impossible fields.
    """
    try:
        # In one pass: a type of before fails here, and so does what is told in words below.
        return _ADAPTER.validate_json(payload)
    except ValidationError:
        return _parse_in_steps(payload)


def _parse_in_steps(payload: bytes) -> AnyEvent:
    try:
        document = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise MalformedEventError(f"not JSON: {payload[:80]!r}") from error
    if not isinstance(document, dict):
        raise MalformedEventError(f"not an object: {payload[:80]!r}")
    return from_document(document)


def from_document(document: Mapping[str, Any]) -> AnyEvent:
    """Return the event of a decoded payload; raises as ``parse`` does."""
    try:
        current = upcast(document)
    except (LookupError, TypeError, ValueError) as error:
        raise MalformedEventError(f"no upcaster can read {document.get('type')!r}") from error
    kind = current.get("type")
    if not isinstance(kind, str):
        raise MalformedEventError(f"type is {kind!r}, not a text")
    if kind in _SYSTEM:
        parse_system(current)
        raise SystemEventError(f"{kind!r} is an event of no batch")
    if kind not in EVENT_TYPES:
        raise UnknownEventError(f"unknown event type {kind!r}")
    try:
        return _ADAPTER.validate_python(current)
    except ValidationError as error:
        raise MalformedEventError(str(error)) from error


def parse_system(document: Mapping[str, Any]) -> CommandRefused:
    """Return an event of no batch, of any version; raises as ``parse`` does."""
    document = upcast(document)
    kind = document.get("type")
    if kind not in _SYSTEM:
        raise UnknownEventError(f"unknown event type {kind!r}")
    try:
        return CommandRefused.model_validate(document)
    except ValidationError as error:
        raise MalformedEventError(str(error)) from error


def dump(event: Event) -> bytes:
    """Return the bytes that are stored; fields without a value are left out."""
    return event.model_dump_json(exclude_none=True).encode()
