"""Names of streams, subjects, consumers and buckets: the only place where they are spelled."""

import re
from collections.abc import Collection
from typing import Literal, NamedTuple

EVENTS = "MILLSTREAM_EVENTS"
WORK = "MILLSTREAM_WORK"
AUDIT = "MILLSTREAM_AUDIT"
NODES_BUCKET = "millstream_nodes"
LIMITS_BUCKET = "millstream_limits"
IDEMPOTENCY_BUCKET = "millstream_idempotency"
WEBHOOKS_BUCKET = "millstream_webhooks"

EVENTS_PREFIX = "mill.events."
ALL_EVENTS = "mill.events.>"
ALL_CONTROL = "mill.events.*.control"
ALL_NOTES = "mill.events.*.note"
ALL_REDACTIONS = "mill.events.*.redaction"
ALL_WORK = "mill.work.>"
SYSTEM_COMMANDS = "mill.events.system.commands"
"""What became of commands as such: no batch is called ``system``."""
AUDIT_CHECKPOINT = "mill.audit.checkpoint"
LIVE_PREFIX = "mill.live."
LIVE_EVENTS = "mill.live.events.>"
LIVE_CONTROL = "mill.live.events.*.control"
ALL_STOPS = "mill.live.stop.*"
ALL_LIMITED = "mill.live.limited.>"
QUERIES = "mill.query"
QUERY_GROUP = "projectors"
JOB_START = "mill.job.start"

Priority = Literal["high", "normal", "low"]
PRIORITIES: tuple[Priority, ...] = ("high", "normal", "low")

_INDEX = r"(0|[1-9][0-9]*)"
_SLICE = re.compile(rf"mill\.events\.([^.]+)\.slice\.{_INDEX}")
_WORK = re.compile(rf"mill\.work\.([^.]+)\.({'|'.join(PRIORITIES)})\.([^.]+)\.{_INDEX}")


class WorkSubject(NamedTuple):
    """The parts of a work subject."""

    pool: str
    priority: str
    batch_id: str
    slice_index: int


def control(batch_id: str) -> str:
    """Subject of a batch's control events."""
    return f"mill.events.{batch_id}.control"


def slice_(batch_id: str, index: int) -> str:
    """Subject of the events of slice ``index``."""
    return f"mill.events.{batch_id}.slice.{index}"


def all_slices(batch_id: str) -> str:
    """Filter that matches every slice of a batch."""
    return f"mill.events.{batch_id}.slice.*"


def live(subject: str) -> str:
    """Subject on which events of ``subject`` are heard as they are stored (a hint)."""
    return LIVE_PREFIX + subject.removeprefix("mill.")


def note(batch_id: str) -> str:
    """Subject of a batch's annotations."""
    return f"mill.events.{batch_id}.note"


def redaction(batch_id: str) -> str:
    """Subject of a batch's redactions: the admin alone may write to it."""
    return f"mill.events.{batch_id}.redaction"


def all_of_batch(batch_id: str) -> str:
    """Filter that matches every event of a batch."""
    return f"mill.events.{batch_id}.>"


def parse_slice(subject: str) -> tuple[str, int] | None:
    """Return (batch id, slice index) of a slice subject, None for any other subject."""
    match = _SLICE.fullmatch(subject)
    return (match[1], int(match[2])) if match else None


def stop_signal(batch_id: str) -> str:
    """Core NATS subject on which workers hear of a stop at once (a hint, never a fact)."""
    return f"mill.live.stop.{batch_id}"


def limited(node: str) -> str:
    """Core NATS subject on which a generator tells what limits its batches (never a fact)."""
    return f"mill.live.limited.{node}"


def sign_of_life(service: str, node: str) -> str:
    """Core NATS subject on which a process that lives under a name is asked to beat at once."""
    return f"mill.live.node.{service}.{node}"


def lead(node: str) -> str:
    """Core NATS subject that the generator which leads listens on, as long as it runs."""
    return f"{sign_of_life('generator', node)}.lead"


def at_work(node: str, batch_id: str, index: int) -> str:
    """Core NATS subject that a generator listens on as long as it works on a slice."""
    return f"{sign_of_life('generator', node)}.work.{batch_id}.{index}"


def work(pool: str, priority: Priority, batch_id: str, index: int) -> str:
    """Subject of the work message of one slice."""
    return f"mill.work.{pool}.{priority}.{batch_id}.{index}"


def work_of_batch(batch_id: str) -> str:
    """Filter that matches all queued work of a batch."""
    return f"mill.work.*.*.{batch_id}.*"


def work_filter(pool: str, priority: Priority) -> str:
    """Filter of one pool's consumer of one priority."""
    return f"mill.work.{pool}.{priority}.*.*"


def work_consumer(pool: str, priority: Priority) -> str:
    """Durable name of one pool's consumer of one priority."""
    return f"work-{pool}-{priority}"


def pools_of(consumers: Collection[str]) -> set[str]:
    """Return the pools that have a consumer of every priority among these names."""
    middles = {name.removeprefix("work-").rpartition("-")[0] for name in consumers}
    return {
        pool
        for pool in middles - {""}
        if all(work_consumer(pool, priority) in consumers for priority in PRIORITIES)
    }


def parse_work(subject: str) -> WorkSubject:
    """Return the parts of a work subject.

    Raises:
        ValueError: ``subject`` is not one that ``work`` made.
    """
    match = _WORK.fullmatch(subject)
    if match is None:
        raise ValueError(f"not a work subject: {subject!r}")
    pool, priority, batch_id, index = match.groups()
    return WorkSubject(pool, priority, batch_id, int(index))


def query(name: str) -> str:
    """Subject on which projectors answer the query ``name``."""
    return f"{QUERIES}.{name}"


def jobs_at(projector: str) -> str:
    """Subject under which one projector answers for its jobs; a job's number and a verb follow."""
    return f"mill.job.at.{projector}"
