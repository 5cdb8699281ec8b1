"""What a stuck batch's finding says to a person: the cause, and what to do about it."""

from collections.abc import Collection, Sequence

from millstream.domain import slice as slices
from millstream.domain.batch_state import BatchState
from millstream_schemas.errors import ErrorCategory

Said = tuple[str, str]
"""The cause and the suggestion."""

_SUGGESTIONS: dict[ErrorCategory, str] = {
    "rate_limit": "lower the concurrency, or wait until the provider's limit allows more",
    "timeout": "check that the model's endpoint answers, or raise the route's timeout",
    "auth": "check the API key of the model's provider",
    "invalid_request": "check the model's name and the recipe's limits; the provider refuses them",
    "content_filter": "the provider refuses this content: change the recipe or the model",
    "server": "check the model's endpoint, or start the batch again with another model",
    "validation": "look at the rejected answers: simplify the recipe or take a larger model",
}
_NODES_NAMED = 3
_START_ONE = "start a generator: `millstream generator`, or `millstream up` for everything"
_START_ONE_OF = (
    "start one of that pool: `MILLSTREAM_POOL={pool} millstream generator`; or let another pool go"
    " on: stop the batch, then `millstream batch continue --pool NAME`"
)


def no_worker(state: BatchState, idle_s: float) -> Said:
    """Say that nobody lives who could work."""
    counts, pool = state.counts, state.spec.pool
    return (
        (
            f"no generator of pool {pool!r} has lived for {idle_s:.0f} s;"
            f" {counts.pending} of {state.spec.target} samples are open"
        ),
        _START_ONE if pool == "default" else _START_ONE_OF.format(pool=pool),
    )


def lost_node(state: BatchState, holders: Collection[str], live_nodes: int, complaint: str) -> Said:
    """Say that the slices of dead nodes wait although somebody lives who could take them."""
    return (
        f"{_named(holders)} died at work and nobody took over;"
        f" {state.counts.pending} samples are open, {_nodes(live_nodes)} of the pool live"
        + _complaint(complaint),
        (
            "look at the living generators' logs (`work.unavailable`) and start them again;"
            " the slices of a dead node are offered again once its lease has run out"
        ),
    )


def poison(state: BatchState, index: int, overdone: Sequence[str]) -> Said:
    """Say which slice or slot takes its workers down."""
    first = index * state.spec.slice_size
    if overdone:
        slot = first + int(overdone[0])
        used = state.slices[index].state.attempts[overdone[0]]
        return (
            f"slot {slot} has used {used} attempts of {state.spec.max_attempts} and has no outcome",
            "look at the slot's attempts; stop the batch and start the rest again without it",
        )
    deaths = state.slices[index].state.barren_claims
    last = first + len(state.spec.slots(index)) - 1
    return (
        (
            f"slice {index} (slots {first} to {last}) was claimed {deaths} times in a row without"
            " an outcome: its workers die or give up before the first answer"
        ),
        (
            "look at the generators' logs for `slice.crashed` or out of memory, and at the prompts"
            " of these slots; stop the batch to end it"
        ),
    )


def no_progress(
    state: BatchState,
    idle_s: float,
    *,
    live_nodes: int,
    latency_p95_s: float | None,
    complaint: str,
    limit: str = "",
    idle_holders: Collection[str] = (),
) -> Said:
    """Say why nothing comes, as far as the log and the generators tell.

    All calls wait for ``limit``, if there is one. ``idle_holders`` hold what is left, and none of
    them makes a call.
    """
    counts, idle, nodes = state.counts, f"{idle_s:.0f} s", _nodes(live_nodes)
    if not counts.pending:
        return (
            f"every sample has its outcome, but nobody completed the batch for {idle}",
            "look at the generators' logs: the dispatcher in one of them completes batches",
        )
    if complaint:
        return (
            f"no outcome for {idle}{_complaint(complaint)}",
            "mend what the generators name; the batch goes on by itself",
        )
    if limit:
        return (
            f"no outcome for {idle} and no call in flight: all wait for {limit}",
            (
                "look at the other batches of this model: what they wait for holds this one up;"
                " pause or stop one of them, or raise the route's limit in the models file"
            ),
        )
    if idle_holders:
        return _idle(state, idle_s, idle_holders, live_nodes)
    if not len(state.slices):
        return (
            f"no slice was ever claimed in {idle}, although {nodes} of its pool live",
            "look at the generators' logs; they may be busy with other batches",
        )
    if state.errors:
        made = f"no outcome for {idle}" if counts.generated else "never produced a sample"
        return _by_errors(state, made)
    if not counts.generated:
        return (
            f"never produced a sample: the model has said nothing for {idle}",
            "check that the model's endpoint answers, or stop the batch and take another model",
        )
    usual = (
        f"; 95 % of this model's calls took at most {latency_p95_s:.1f} s"
        if latency_p95_s is not None
        else ""
    )
    return (
        f"no outcome for {idle} after {counts.generated} samples{usual}",
        "check that the model's endpoint answers, or stop the batch and start the rest again",
    )


def no_sample(state: BatchState, idle_s: float) -> Said:
    """Say that calls are made and none gives a sample."""
    made = f"calls go on to fail: no sample for {idle_s / 60:.0f} minutes"
    if not state.errors:
        return made, "look at the batch's attempts, or stop it"
    return _by_errors(state, made)


def stop_overdue(state: BatchState, idle_s: float, complaint: str) -> Said:
    """Say what the end of a stop waits for; ``complaint``: why generators start no call."""
    spec = state.spec
    left = sum(
        not (tail := state.slices.get(index))
        or not slices.is_done(tail.state, len(spec.slots(index)))
        for index in range(spec.slices)
    )
    return (
        (
            f"the stop was asked for {idle_s:.0f} s ago and has not ended;"
            f" {left} of {spec.slices} slices are open{_complaint(complaint)}"
        ),
        "mend what the generators name; the stop ends by itself then"
        if complaint
        else "check that NATS has a leader and that an API or a generator lives: either ends the"
        " stop",
    )


def _idle(state: BatchState, idle_s: float, holders: Collection[str], live_nodes: int) -> Said:
    """Say that whoever holds what is left makes no call: it held that in an earlier life."""
    counts, budgets = state.counts, state.spec.budgets
    waits = "granted from its budget" if budgets.bounds_calls else "offered"
    return (
        (
            f"no outcome for {idle_s:.0f} s and no call in flight: {counts.pending} samples are"
            f" open in slices that {_named(holders)} held last; they wait to be {waits} again,"
            f" {_nodes(live_nodes)} of the pool live"
        ),
        (
            "this should mend itself within 20 s; if not, look at the generators' logs"
            " (`dispatcher.`, `slice.dropped`)"
        ),
    )


def _by_errors(state: BatchState, made: str) -> Said:
    category, count = max(state.errors.items(), key=lambda item: (item[1], item[0]))
    last = f"; the last one said: {state.last_error.message}" if state.last_error else ""
    failed = f"{count} attempt{'' if count == 1 else 's'} failed by {category}"
    most = "most often " if len(state.errors) > 1 else ""
    return f"{made}; {most}{failed}{last}", _SUGGESTIONS[category]


def _named(nodes: Collection[str]) -> str:
    named = ", ".join(sorted(nodes)[:_NODES_NAMED])
    more = f" and {len(nodes) - _NODES_NAMED} more" if len(nodes) > _NODES_NAMED else ""
    return f"node{'' if len(nodes) == 1 else 's'} {named}{more}"


def _nodes(count: int) -> str:
    return f"{count} generator{'' if count == 1 else 's'}"


def _complaint(complaint: str) -> str:
    return f"; the generators say: {complaint}" if complaint else ""
