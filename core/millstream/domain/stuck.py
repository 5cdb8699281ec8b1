"""When a live batch counts as stuck, why, and what a person can do about it.

Three rules: nobody works (``no_worker``), work goes on but nothing comes (``no_progress``), a
stop does not end (``stop_overdue``). A paused batch is never stuck, nor one that waits for a
known moment: a provider's cooldown or the pause before a retry.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from millstream.domain import slice as slices
from millstream.domain.batch import BatchState
from millstream.domain.phases import LEGAL
from millstream.domain.recorded import Recorded
from millstream_schemas import notes
from millstream_schemas import slices as slice_events
from millstream_schemas.envelope import BatchEvent
from millstream_schemas.errors import ErrorCategory
from millstream_schemas.notes import StuckFinding

NO_WORKER_S = 15.0
STOP_OVERDUE_S = 5.0
LATENCY_FACTOR = 4.0
CAP_S = 900.0
WAIT_MOST_S = 600.0
FRESH_CLAIMS = 2
"""Claims without an outcome between them that still count as movement: a node that dies again
and again on a slice must not keep its batch looking alive."""

_SUGGESTIONS: dict[ErrorCategory, str] = {
    "rate_limit": "lower the concurrency, or wait until the provider's limit allows more",
    "timeout": "check that the model's endpoint answers, or raise the route's timeout",
    "auth": "check the API key of the model's provider",
    "invalid_request": "check the model's name and the recipe's limits; the provider refuses them",
    "content_filter": "the provider refuses this content: change the recipe or the model",
    "server": "check the model's endpoint, or start the batch again with another model",
    "validation": "look at the rejected answers: simplify the recipe or take a larger model",
}


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the rule needs besides the batch's own state; made by the one who has the clock.

    ``moved_at`` is when the batch last moved (``moved_at`` of its events), ``nodeless_since``
    since when no generator of the batch's pool has lived (None while one does),
    ``working_since`` since when at least one has lived without a break, and ``observed_since``
    since when somebody has been watching without a break: time in which nobody could move it,
    or nobody could have seen it move, is not held against the batch.
    """

    now: datetime
    moved_at: datetime | None
    live_nodes: int
    nodeless_since: datetime | None
    latency_p95_s: float | None
    floor_s: float
    working_since: datetime | None = None
    observed_since: datetime | None = None
    cap_s: float = CAP_S


def moved_at(recorded: Recorded[BatchEvent]) -> datetime | None:
    """Return until when ``recorded`` proves that its batch moves, None if it proves nothing."""
    event = recorded.event
    match event:
        case slice_events.SliceClaimed():
            is_fresh = event.after.barren_claims <= FRESH_CLAIMS
            return recorded.stored_at if is_fresh else None
        case slice_events.SliceClosed() | slice_events.SampleAbandoned():
            return None
        case slice_events.SampleAttemptFailed(category="timeout"):
            return None  # a provider that says nothing does not move the batch
        case slice_events.SampleAttemptFailed():
            wait_s = min(event.retry_in_s or 0.0, WAIT_MOST_S)
            return recorded.stored_at + timedelta(seconds=wait_s)
        case notes.RouteThrottled():
            return min(event.until, recorded.stored_at + timedelta(seconds=WAIT_MOST_S))
        case slice_events.AttemptEvent():
            return recorded.stored_at
        case _:
            return recorded.stored_at if type(event) in LEGAL else None


def threshold_s(latency_p95_s: float | None, floor_s: float, cap_s: float = CAP_S) -> float:
    """Return after how many seconds without progress a batch is stuck: 4 x p95, within bounds."""
    return min(max(LATENCY_FACTOR * (latency_p95_s or 0.0), floor_s), max(cap_s, floor_s))


def find_stuck(state: BatchState, around: Surroundings) -> StuckFinding | None:
    """Return why the batch is stuck at ``around.now``, None if it is not."""
    if state.started is None:
        return None
    if state.phase == "stopping":
        return _stop_overdue(state, around)
    if state.phase != "active" or _waits_for_a_known_moment(state, around.now):
        return None
    return _no_worker(state, around) or _no_progress(state, around)


def _waits_for_a_known_moment(state: BatchState, now: datetime) -> bool:
    """Tell whether a provider holds the batch up until a time that is known and yet to come.

    A provider that says nothing at all is no reason to wait: that is what stuck means.
    """
    waits = state.held_up
    if waits is None or waits.until <= now:
        return False
    error = state.last_error
    return waits.kind == "throttled" or error is None or error.category != "timeout"


def _started_at(state: BatchState) -> datetime:
    if state.started is None:
        raise LookupError(f"batch {state.batch_id} was never started")
    return state.started.stored_at


def _finding(
    rule: notes.StuckRule, since: datetime, threshold: float, around: Surroundings
) -> StuckFinding | None:
    watched = max(since, around.observed_since or since)
    if (around.now - watched).total_seconds() < threshold:
        return None
    idle_s = round((around.now - since).total_seconds(), 1)
    return StuckFinding(rule=rule, since=since, idle_s=idle_s, threshold_s=threshold, cause="")


def _explained(finding: StuckFinding, cause: str, suggestion: str) -> StuckFinding:
    return finding.model_copy(update={"cause": cause[:500], "suggestion": suggestion[:500]})


def _no_worker(state: BatchState, around: Surroundings) -> StuckFinding | None:
    if around.nodeless_since is None or not state.counts.pending:
        return None
    since = max(around.nodeless_since, _started_at(state))
    finding = _finding("no_worker", since, NO_WORKER_S, around)
    if finding is None:
        return None
    counts, pool = state.counts, state.spec.pool
    return _explained(
        finding,
        f"no generator of pool {pool!r} has lived for {finding.idle_s:.0f} s;"
        f" {counts.pending} of {state.spec.target} samples are open",
        "start a generator: `millstream generator`, or `millstream up` for everything",
    )


def _no_progress(state: BatchState, around: Surroundings) -> StuckFinding | None:
    threshold = threshold_s(around.latency_p95_s, around.floor_s, around.cap_s)
    since = max(
        moment
        for moment in (
            _started_at(state),
            state.last_progress_at,
            around.moved_at,
            around.working_since,
        )
        if moment is not None
    )
    finding = _finding("no_progress", since, threshold, around)
    if finding is None:
        return None
    return _explained(finding, *_why_no_progress(state, finding, around))


def _why_no_progress(
    state: BatchState, finding: StuckFinding, around: Surroundings
) -> tuple[str, str]:
    counts, idle = state.counts, f"{finding.idle_s:.0f} s"
    nodes = f"{around.live_nodes} generator{'' if around.live_nodes == 1 else 's'}"
    if not counts.pending:
        return (
            f"every sample has its outcome, but nobody completed the batch for {idle}",
            "look at the generators' logs: the dispatcher in one of them completes batches",
        )
    if not len(state.slices):
        return (
            f"no slice was ever claimed in {idle}, although {nodes} of its pool live",
            "look at the generators' logs; they may be busy with other batches",
        )
    if state.errors:
        category, count = max(state.errors.items(), key=lambda item: (item[1], item[0]))
        last = f"; the last one said: {state.last_error.message}" if state.last_error else ""
        made = f"no outcome for {idle}" if counts.generated else "never produced a sample"
        failed = f"{count} attempt{'' if count == 1 else 's'} failed by {category}"
        most = "most often " if len(state.errors) > 1 else ""
        return f"{made}; {most}{failed}{last}", _SUGGESTIONS[category]
    if not counts.generated:
        return (
            f"never produced a sample: the model has said nothing for {idle}",
            "check that the model's endpoint answers, or stop the batch and take another model",
        )
    usual = (
        f"; 95 % of this model's calls took at most {around.latency_p95_s:.1f} s"
        if around.latency_p95_s is not None
        else ""
    )
    return (
        f"no outcome for {idle} after {counts.generated} samples{usual}",
        "check that the model's endpoint answers, or stop the batch and start the rest again",
    )


def _stop_overdue(state: BatchState, around: Surroundings) -> StuckFinding | None:
    if state.stop is None:
        return None
    since = max(state.stop.stored_at, state.stop.event.bound_at or state.stop.stored_at)
    finding = _finding("stop_overdue", since, STOP_OVERDUE_S, around)
    if finding is None:
        return None
    spec = state.spec
    left = sum(
        not (tail := state.slices.get(index))
        or not slices.is_done(tail.state, len(spec.slots(index)))
        for index in range(spec.slices)
    )
    return _explained(
        finding,
        f"the stop was asked for {finding.idle_s:.0f} s ago and has not ended;"
        f" {left} of {spec.slices} slices are open",
        "check that NATS has a leader and that an API or a generator lives: either ends the stop",
    )
