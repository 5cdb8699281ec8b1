"""When a live batch counts as stuck, and why: five rules over its fold and what is around it.

| rule | what it finds | after |
|---|---|---|
| ``poison`` | nodes that die on one slice again and again, or a slot past its attempts | at once |
| ``no_worker`` | open slots and no generator of the pool | 15 s |
| ``lost_node`` | slices of dead nodes that no living one takes over | 15 s, or the lease + 5 s |
| ``no_progress`` | calls and no event, a place in line and no claim, refusals alone | adaptive |
| ``stop_overdue`` | a stop that does not end | 5 s past its bound |

A paused batch is never stuck, nor one that waits for a known moment: a provider's cooldown, a
circuit's next probe, the pause before a retry, a place in line behind generators that are full or
behind calls of other batches that a limit of the route lets go first, as long as these move.
"""

from datetime import datetime, timedelta

from millstream.domain import slice as slices
from millstream.domain import stuck_words as words
from millstream.domain.batch_state import BatchState
from millstream.domain.phases import LEGAL
from millstream.domain.recorded import Recorded
from millstream.domain.surroundings import CAP_S, Line, Surroundings
from millstream_schemas import notes
from millstream_schemas import slices as slice_events
from millstream_schemas.envelope import BatchEvent
from millstream_schemas.notes import StuckFinding

NO_WORKER_S = LOST_NODE_S = 15.0
LEASE_MARGIN_S = 5.0
STOP_OVERDUE_S = 5.0
POISON_S = 1.0
"""It is found at the next look; a finding has to name some threshold."""
LATENCY_FACTOR = 4.0
WAIT_MOST_S = 600.0
BARREN_FACTOR = 2.0
"""Calls that go on to fail may do so for longer than calls of which nothing is heard."""
FRESH_CLAIMS = 2
"""Claims without an outcome between them that still count as movement: a node that dies again
and again on a slice must not keep its batch looking alive, nor one that is passed to and fro."""
POISON_CLAIMS = 6
"""So many and the poison rule of the generators, which sets in with the fourth, has not helped."""


def moved_at(recorded: Recorded[BatchEvent]) -> datetime | None:
    """Return until when ``recorded`` proves that its batch moves, None if it proves nothing."""
    event = recorded.event
    match event:
        case slice_events.SliceClaimed():
            is_fresh = event.after.barren_claims <= FRESH_CLAIMS and not event.holder_lives
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
    if state.phase != "active":
        return None
    return (
        _poison(state, around)
        or _no_worker(state, around)
        or _no_movement(state, around)
        or _no_sample(state, around)
    )


def _no_movement(state: BatchState, around: Surroundings) -> StuckFinding | None:
    if _waits_for_a_known_moment(state, around.now):
        return None
    moved = around.moved_at or state.last_progress_at
    since = _since(state, moved, around.working_since, _end_of_wait(state))
    if (around.now - since).total_seconds() < min(LOST_NODE_S, around.floor_s):
        return None  # who holds which slice takes a look at each: not for a batch that moves
    if around.complaint:  # no call starts, so no slow model is a reason to wait for longer
        return _no_progress(state, around, since, min(NO_WORKER_S, around.floor_s))
    if around.line is not None:
        return _in_line(state, around, since, around.line)
    holders = _holders(state)
    at_work = {node for node in holders if around.alive is None or node in around.alive}
    if at_work:
        takes_turns = all(around.full_at.get(node, since) > since for node in at_work)
        turn_s = around.turn_s if takes_turns else 0.0
        threshold = call_threshold_s(state, around.latency_p95_s, around.floor_s, around.cap_s)
        return _no_progress(state, around, since, max(threshold, turn_s))
    # While all generators work on other slices it waits in line, but not for ever.
    finding = _no_progress(state, around, since, max(around.cap_s, around.floor_s))
    if finding is not None or around.is_full:
        return finding
    since = max(since, around.roomy_since or since)
    if holders:
        return _lost_node(state, around, since, holders)
    return _no_progress(state, around, since, around.floor_s)


def _in_line(
    state: BatchState, around: Surroundings, since: datetime, line: Line
) -> StuckFinding | None:
    """Find a batch whose calls wait for those of others, as long as these move: not for ever."""
    finding = _no_progress(state, around, since, max(around.cap_s, around.floor_s))
    if finding is not None:
        return finding
    threshold = call_threshold_s(state, around.latency_p95_s, around.floor_s, around.cap_s)
    moved = max(since, line.moved_at or since)
    return _no_progress(state, around, moved, max(threshold, around.turn_s))


def call_threshold_s(
    state: BatchState, latency_p95_s: float | None, floor_s: float, cap_s: float = CAP_S
) -> float:
    """Return how long calls in flight may take until the next event.

    A model of which no call is known yet may be a slow one: as long as none has timed out it gets
    four times the floor, within the bound of its calls.
    """
    if latency_p95_s is None and "timeout" not in state.errors and not state.counts.generated:
        longest_s = max((route.timeout_s for route in state.spec.routes), default=0.0)
        first_s = min(longest_s, LATENCY_FACTOR * floor_s)
        return min(max(first_s, floor_s), max(cap_s, floor_s))
    return threshold_s(latency_p95_s, floor_s, cap_s)


def _holders(state: BatchState) -> set[str]:
    """Return the nodes that hold a slice of the batch in which something is left to do."""
    spec = state.spec
    return {
        tail.state.node
        for index, tail in state.slices.items()
        if tail.state.node and not slices.is_done(tail.state, len(spec.slots(index)))
    }


def _waits_for_a_known_moment(state: BatchState, now: datetime) -> bool:
    """Tell whether a provider holds the batch up until a time that is known and yet to come.

    A provider that says nothing at all is no reason to wait: that is what stuck means.
    """
    waits = state.held_up
    return waits is not None and waits.until > now and not _is_silent(state, waits)


def _end_of_wait(state: BatchState) -> datetime | None:
    """Return when the last such wait ended: what follows it needs a moment to begin."""
    waits = state.held_up
    return waits.until if waits is not None and not _is_silent(state, waits) else None


def _is_silent(state: BatchState, waits: notes.HeldUp) -> bool:
    error = state.last_error
    return waits.kind == "blocked" and error is not None and error.category == "timeout"


def _since(state: BatchState, *moments: datetime | None) -> datetime:
    """Return the last of ``moments``, and not before the batch began."""
    if state.started is None:
        raise LookupError(f"batch {state.batch_id} was never started")
    return max(moment for moment in (state.started.stored_at, *moments) if moment is not None)


def _finding(
    rule: notes.StuckRule, since: datetime, threshold: float, around: Surroundings
) -> StuckFinding | None:
    watched = max(since, around.observed_since or since)
    if (around.now - watched).total_seconds() < threshold:
        return None
    idle_s = round((around.now - since).total_seconds(), 1)
    return StuckFinding(rule=rule, since=since, idle_s=idle_s, threshold_s=threshold, cause="")


def _explained(finding: StuckFinding, said: words.Said) -> StuckFinding:
    return finding.model_copy(update={"cause": said[0][:500], "suggestion": said[1][:500]})


def _poison(state: BatchState, around: Surroundings) -> StuckFinding | None:
    most = state.spec.max_attempts
    for index, tail in state.slices.items():
        poisoned = tail.state
        deaths = poisoned.barren_claims
        overdone = [offset for offset, used in poisoned.attempts.items() if used > most]
        if deaths < POISON_CLAIMS and not overdone:
            continue
        if slices.is_done(poisoned, len(state.spec.slots(index))):
            continue
        # The log itself proves it, however lively the other slices are.
        since = min(_since(state, state.last_progress_at), around.now)
        idle_s = round((around.now - since).total_seconds(), 1)
        finding = StuckFinding(
            rule="poison", since=since, idle_s=idle_s, threshold_s=POISON_S, cause=""
        )
        return _explained(finding, words.poison(state, index, overdone))
    return None


def _no_worker(state: BatchState, around: Surroundings) -> StuckFinding | None:
    if around.nodeless_since is None or not state.counts.pending:
        return None
    finding = _finding("no_worker", _since(state, around.nodeless_since), NO_WORKER_S, around)
    return _explained(finding, words.no_worker(state, finding.idle_s)) if finding else None


def _lost_node(
    state: BatchState, around: Surroundings, since: datetime, holders: set[str]
) -> StuckFinding | None:
    missed = [around.missed[node] for node in holders if node in around.missed]
    threshold = max(LOST_NODE_S, around.lease_s + LEASE_MARGIN_S)
    finding = _finding("lost_node", max([since, *missed]), threshold, around)
    if finding is None:
        return None
    said = words.lost_node(state, holders, around.live_nodes, around.complaint)
    return _explained(finding, said)


def _no_progress(
    state: BatchState, around: Surroundings, since: datetime, threshold: float
) -> StuckFinding | None:
    finding = _finding("no_progress", since, threshold, around)
    if finding is None:
        return None
    said = words.no_progress(
        state,
        finding.idle_s,
        live_nodes=around.live_nodes,
        latency_p95_s=around.latency_p95_s,
        complaint=around.complaint,
        limit=around.line.limit if around.line else "",
        idle_holders=_holders(state) if _is_nobody_calling(state, around) else (),
    )
    return _explained(finding, said)


def _is_nobody_calling(state: BatchState, around: Surroundings) -> bool:
    """Tell whether none of those that hold what is left makes any call, of this batch or another.

    Then a few failures before are not why nothing comes: some held it in an earlier life. Many are,
    and so is a provider that is known to hold the batch up: either ends calls, too.
    """
    if around.calling is None or state.held_up is not None:
        return False
    is_failing = sum(state.errors.values()) > state.totals.generated
    return not is_failing and _holders(state).isdisjoint(around.calling)


def _no_sample(state: BatchState, around: Surroundings) -> StuckFinding | None:
    """Find a batch whose calls go on to fail, in no hurry: its slots fail one by one otherwise.

    One long wait with nothing tried is not that: a call must have failed in its second half.
    """
    if around.barren_since is None or state.last_progress_at is None or not state.counts.pending:
        return None
    since = _since(state, around.barren_since)
    threshold = BARREN_FACTOR * max(around.cap_s, around.floor_s)
    if (state.last_progress_at - since).total_seconds() < threshold / 2:
        return None
    finding = _finding("no_progress", since, threshold, around)
    return _explained(finding, words.no_sample(state, finding.idle_s)) if finding else None


def _stop_overdue(state: BatchState, around: Surroundings) -> StuckFinding | None:
    if state.stop is None:
        return None
    since = max(state.stop.stored_at, state.drains_until or state.stop.stored_at)
    finding = _finding("stop_overdue", since, STOP_OVERDUE_S, around)
    if finding is None:
        return None
    return _explained(finding, words.stop_overdue(state, finding.idle_s, around.complaint))
